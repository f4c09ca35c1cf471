//! A backlog of queued runs: what submits, reads and executed runs cost while it is there.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::cost::{self, Bed, Meter};
use super::reads::{self, Reader};
use crate::Bench;
use crate::client::{self, Load};
use crate::report::{Cell, Column, Part, Table, Unit, complain};

/// In how many steps it grows.
const STEPS: usize = 10;

const NEWEST: &str = "SELECT id::text FROM runs WHERE state = 'queued' ORDER BY id DESC LIMIT 1";

pub(super) async fn measure(bench: &Bench, part: &mut Part) -> anyhow::Result<()> {
    let quick = bench.options.quick;
    let (depth, runs) = if quick {
        (20_000, 2_000)
    } else {
        (1_000_000, 20_000)
    };
    let mut bed = Bed::start(bench, "backlog", 0).await?;
    let mut submits = Table::new(
        "Submitting by batch while nobody takes runs",
        vec![
            Column::new("submits", Unit::PerSecond),
            Column::new("dispatcher", Unit::Micros),
            Column::new("postgres", Unit::Micros),
            Column::new("rabbitmq", Unit::Micros),
        ],
    );
    for step in 1..=STEPS {
        let meter = Meter::start(bench, &bed.fleet)?;
        let load = Load::Batch { runs: depth / STEPS };
        let sent = client::spawn(bed.fleet.dispatcher.host(), &load).await?;
        let cpu = meter.stop(bench, &bed.fleet, depth / STEPS)?;
        if step == 1 || step == STEPS {
            let rate = (depth / STEPS) as f64 / sent.submit_s;
            let cells = vec![Cell::from(rate), cpu[0].into(), cpu[2].into(), cpu[3].into()];
            submits.row(format!("until {} wait", depth / STEPS * step), cells);
        }
    }
    part.tables.push(submits);

    complain("scale: reads beside the backlog ...");
    let newest: String = sqlx::query_scalar(NEWEST).fetch_one(&bed.pool).await?;
    let reader = Reader::open(&bed, if quick { 3 } else { 10 }).await?;
    let found = reader.measure(&bed, &newest).await?;
    let mut table = Table::new(
        format!("Reads with {depth} queued runs"),
        vec![Column::new("median", Unit::Millis)],
    );
    for (name, took) in reads::names().zip(found) {
        table.row(name, vec![Cell::from(took)]);
    }
    part.tables.push(table);

    complain("scale: executing from the backlog ...");
    bed.fleet.start_worker().await?;
    let warm = runs / 10;
    finished(&bed, warm).await?;
    let (meter, began, before) = (
        Meter::start(bench, &bed.fleet)?,
        Instant::now(),
        total(&bed).await?,
    );
    finished(&bed, warm + runs).await?;
    let done = total(&bed).await? - before;
    let cpu = meter.stop(bench, &bed.fleet, done as usize)?;
    let mut columns = cost::columns();
    columns.truncate(7);
    let mut table = Table::new(format!("CPU of a run taken from {depth} queued ones"), columns);
    let core: Option<f64> = cpu[..3].iter().copied().sum();
    let mut cells: Vec<Cell> = cpu.into_iter().map(Cell::from).collect();
    cells.push(core.into());
    cells.push(Cell::from(done / began.elapsed().as_secs_f64()));
    table.row("executed", cells);
    part.tables.push(table);
    // What is left is thrown away with the database: stopping would drain nothing anyway.
    bed.pool.close().await;
    Ok(())
}

async fn total(bed: &Bed) -> anyhow::Result<f64> {
    let worker = bed.fleet.workers.first().context("a worker")?;
    cost::metric(&bed.fleet.client, &worker.url, "flowfleet_runs_finished_total").await
}

async fn finished(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    while total(bed).await? < runs as f64 {
        ensure!(
            Instant::now() < deadline,
            "{runs} runs did not finish within 300 s"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
