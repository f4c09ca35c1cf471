//! Claim latency as the number of workers grows.

use super::cost::Bed;
use crate::Bench;
use crate::fleet::Setup;
use crate::report::{Cell, Column, Part, Table, Unit, quantile};

/// Connections to PostgreSQL that a worker at low load may hold.
const CONNECTIONS: usize = 3;
/// Kept for the dispatcher, the leader, ourselves and whoever else is there.
const RESERVED: usize = 25;

pub(super) async fn measure(bench: &Bench, part: &mut Part) -> anyhow::Result<()> {
    let (wanted, seconds) = if bench.options.quick { (10, 5) } else { (50, 20) };
    let mut table = Table::new(
        "Claims at 50 runs a second",
        vec![
            Column::new("claim p50", Unit::Millis),
            Column::new("claim p95", Unit::Millis),
            Column::new("claim p99", Unit::Millis),
            Column::new("all workers", Unit::MiB),
        ],
    );
    for workers in [1, wanted] {
        let setup = Setup {
            purpose: if workers == 1 { "crowd_one" } else { "crowd_many" },
            workers: 1,
            slots: 16,
            env: Vec::new(),
        };
        let mut bed = Bed::start_with(bench, setup).await?;
        let workers = workers.min(room(&bed).await?);
        while bed.fleet.workers.len() < workers {
            bed.fleet.start_worker().await?;
        }
        bed.warm_up(500).await?;
        let claims = bed.claims(50.0, seconds).await?;
        let mut memory = 0;
        for worker in &bed.fleet.workers {
            memory += worker.usage()?.memory_bytes;
        }
        let cells = vec![
            quantile(&claims, 0.5).into(),
            quantile(&claims, 0.95).into(),
            quantile(&claims, 0.99).into(),
            Cell::from(memory as f64 / f64::from(1 << 20)),
        ];
        table.row(
            if workers == 1 {
                "1 worker".to_owned()
            } else {
                format!("{workers} workers")
            },
            cells,
        );
        if workers < wanted && workers > 1 {
            part.notes.push(format!(
                "{workers} workers rather than {wanted}: PostgreSQL's max_connections leaves room for no more."
            ));
        }
        bed.stop().await?;
    }
    part.tables.push(table);
    Ok(())
}

/// How many workers PostgreSQL has connections for.
async fn room(bed: &Bed) -> anyhow::Result<usize> {
    let most: String = sqlx::query_scalar("SHOW max_connections")
        .fetch_one(&bed.pool)
        .await?;
    Ok((most.parse::<usize>()?.saturating_sub(RESERVED) / CONNECTIONS).max(1))
}
