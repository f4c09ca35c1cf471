//! Runs that wait on a model, all at once in one worker.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cost::Bed;
use crate::Bench;
use crate::client::now_us;
use crate::fleet::Setup;
use crate::parts::engine::{Answers, Model};
use crate::report::{Bound, Cell, Column, Goal, Part, Table, Unit};
use crate::times;

const MODEL_MS: u64 = 5_000;
const MOST_MIB: f64 = 1024.0;

const ASK: &str = include_str!("../../../../examples/flows/ask-model.json");

const SPAN: &str = "
SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8,
    extract(epoch FROM max(started_at) - min(started_at))::float8,
    count(*) FILTER (WHERE state <> 'succeeded') FROM runs WHERE id >= $1";

const DONE: &str = "SELECT NOT EXISTS (SELECT FROM runs WHERE state IN ('queued', 'running'))";

pub(super) async fn measure(bench: &Bench, part: &mut Part) -> anyhow::Result<()> {
    let (runs, slots) = if bench.options.quick {
        (1_000, 1_000)
    } else {
        (10_000, 10_000)
    };
    let model = Model::start(bench, &Answers::After(MODEL_MS)).await?;
    let setup = Setup {
        purpose: "waiting",
        workers: 1,
        slots,
        env: model.env(),
    };
    let bed = Bed::start_with(bench, setup).await?;
    bed.fleet
        .put_flow("ask-model", &serde_json::from_str(ASK)?)
        .await?;
    let before = bed.fleet.workers[0].usage()?;
    let first = times::first_id(now_us());
    let body: Vec<Value> = (0..runs)
        .map(|number| json!({"flow": "ask-model", "input": format!("{number}"), "max_attempts": 1}))
        .collect();
    let url = format!("{}/v1/runs/batch", bed.fleet.dispatcher.url);
    bed.fleet
        .client
        .post(url)
        .json(&body)
        .send()
        .await?
        .error_for_status()?;
    let (mut most, mut model_most) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(180);
    while !sqlx::query_scalar::<_, bool>(DONE).fetch_one(&bed.pool).await? {
        ensure!(Instant::now() < deadline, "waiting runs did not end within 180 s");
        most = most.max(bed.fleet.workers[0].usage()?.memory_bytes);
        model_most = model_most.max(model.usage()?.memory_bytes);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let used = bed.fleet.workers[0].usage()?.cpu_s - before.cpu_s;
    let (span, starts, unsuccessful): (f64, f64, i64) =
        sqlx::query_as(SPAN).bind(first).fetch_one(&bed.pool).await?;
    ensure!(
        unsuccessful == 0,
        "{unsuccessful} of {runs} waiting runs did not succeed"
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut table = Table::new(
        format!(
            "{runs} runs at once in one worker of {slots} slots, each waiting {} s on a model",
            MODEL_MS / 1000
        ),
        vec![
            Column::new("all took", Unit::Seconds),
            Column::new("all started in", Unit::Seconds),
            Column::new("worker", Unit::MiB),
            Column::new("worker before", Unit::MiB),
            Column::new("worker CPU a run", Unit::Micros),
            Column::new("mock model", Unit::MiB),
        ],
    );
    let cells = vec![
        Cell::from(span),
        Cell::from(starts),
        Cell::from(mib(most)),
        Cell::from(mib(before.memory_bytes)),
        Cell::from(used * 1e6 / f64::from(runs)),
        Cell::from(mib(model_most)),
    ];
    table.row("first start to last end", cells);
    part.tables.push(table);
    part.goals.push(Goal {
        what: "memory of a worker with 10,000 waiting runs".into(),
        bound: Bound::Below,
        wanted: MOST_MIB,
        found: (runs >= 10_000).then(|| mib(most)),
        unit: Unit::MiB,
    });
    bed.stop().await?;
    model.stop().await
}
