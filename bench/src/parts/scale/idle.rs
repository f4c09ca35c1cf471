//! What processes without work use.

use std::time::Duration;

use super::cost::Bed;
use crate::Bench;
use crate::report::{Bound, Cell, Column, Goal, Part, Table, Unit};

const WORKER_MIB: f64 = 30.0;
const WORKER_PERCENT: f64 = 0.5;

pub(super) async fn measure(bench: &Bench, part: &mut Part) -> anyhow::Result<()> {
    let seconds = if bench.options.quick { 10 } else { 60 };
    let bed = Bed::start(bench, "idle", 1).await?;
    // Connections are made and caches are filled in the first moments.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let processes = [&bed.fleet.dispatcher, &bed.fleet.workers[0]];
    let before: Vec<f64> = processes
        .iter()
        .map(|process| Ok(process.usage()?.cpu_s))
        .collect::<anyhow::Result<_>>()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let mut table = Table::new(
        format!("Without work, over {seconds} s"),
        vec![
            Column::new("resident", Unit::MiB),
            Column::new("of a core", Unit::Percent),
        ],
    );
    let mut found = (0.0, 0.0);
    for (process, before) in processes.iter().zip(before) {
        let usage = process.usage()?;
        found = (
            usage.memory_bytes as f64 / f64::from(1 << 20),
            (usage.cpu_s - before) * 100.0 / seconds as f64,
        );
        table.row(
            process.name.clone(),
            vec![Cell::from(found.0), Cell::from(found.1)],
        );
    }
    part.tables.push(table);
    let mut goal = |what: &str, wanted, found, unit| {
        part.goals.push(Goal {
            what: what.to_owned(),
            bound: Bound::Below,
            wanted,
            found: Some(found),
            unit,
        });
    };
    goal("memory of an idle worker", WORKER_MIB, found.0, Unit::MiB);
    goal("CPU of an idle worker", WORKER_PERCENT, found.1, Unit::Percent);
    bed.stop().await
}
