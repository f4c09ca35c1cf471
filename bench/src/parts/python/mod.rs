//! The part `python`: runs of a flow in the Python host beside `lfx serve`, which is how lfx itself serves flows.
//!
//! Both execute the same released components of the same lfx, so what differs is what is around them. The model is the
//! mock model without latency, in a process of its own.

mod host;
mod serve;

use std::time::Instant;

use anyhow::ensure;
use async_trait::async_trait;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::json;

use super::engine::{Answers, Lfx, Model, basic_prompting};
use crate::Bench;
use crate::report::{Bars, Better, Bound, Cell, Column, Goal, Part, Table, Unit, complain};
use crate::usage::Usage;

const ABOUT: &str = "Basic Prompting in Python: the Python host beside lfx serve, eight callers at once";
const CALLERS: usize = 8;
/// Processes that execute.
const PROCESSES: [u32; 2] = [1, 2];

/// Executes the flow in processes of lfx.
#[async_trait]
trait Server: Send + Sync {
    /// One run; the text it answers.
    async fn run(&self, number: usize) -> anyhow::Result<String>;

    /// Of all its processes.
    fn usage(&self) -> anyhow::Result<Usage>;
}

/// One round.
#[derive(Debug, Clone, Serialize)]
struct Cost {
    runs_per_s: f64,
    cpu_ms: f64,
    memory_mib: f64,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Part> {
    let mut part = Part::new("python", ABOUT);
    let (flow, lfx) = (basic_prompting()?, Lfx::prepare()?);
    let model = Model::start(bench, &Answers::AtOnce).await?;
    let url = model.base_url_for_lfx();
    let runs = bench
        .options
        .runs
        .unwrap_or(if bench.options.quick { 60 } else { 400 });
    let mut rounds: Vec<(String, Vec<Cost>)> = Vec::new();
    for round in 1..=bench.options.rounds() {
        complain(&format!("python: round {round} ..."));
        for processes in PROCESSES {
            let host = host::Host::start(lfx.python(), &flow, &url, processes).await?;
            let name = format!("flowfleet's Python host, {processes} at once");
            note(&mut rounds, name, measure(&host, runs).await?);
            drop(host);
            let serve = serve::Serve::start(lfx.python(), &flow, &url, processes).await?;
            let name = format!("lfx serve, --workers {processes}");
            note(&mut rounds, name, measure(&serve, runs).await?);
        }
    }
    model.stop().await?;
    tables(&mut part, &rounds);
    part.notes.push(format!(
        "{runs} runs a round after {CALLERS} to warm up, by {CALLERS} callers; lfx serve is called at POST \
         /api/v2/workflows (mode sync), by HTTP, with kept connections. The host builds the graph anew for each run and \
         streams tokens, lfx serve copies a graph that it built once and does not. CPU and memory are of all Python \
         processes, the parent included, shared pages counted once (PSS)."
    ));
    part.raw.insert("rounds".into(), json!(rounds));
    Ok(part)
}

fn note(rounds: &mut Vec<(String, Vec<Cost>)>, name: String, cost: Cost) {
    match rounds.iter_mut().find(|(known, _)| *known == name) {
        Some((_, costs)) => costs.push(cost),
        None => rounds.push((name, vec![cost])),
    }
}

async fn measure(server: &dyn Server, runs: usize) -> anyhow::Result<Cost> {
    let all = |from: usize, to: usize| async move {
        let calls = futures::stream::iter((from..to).map(|number| one(server, number)));
        let mut ended = calls.buffer_unordered(CALLERS);
        while let Some(ended) = ended.next().await {
            ended?;
        }
        anyhow::Ok(())
    };
    all(0, CALLERS).await?;
    let (began, before) = (Instant::now(), server.usage()?);
    all(CALLERS, CALLERS + runs).await?;
    let (wall, after) = (began.elapsed(), server.usage()?);
    Ok(Cost {
        runs_per_s: runs as f64 / wall.as_secs_f64(),
        cpu_ms: (after.cpu_s - before.cpu_s) * 1e3 / runs as f64,
        memory_mib: after.memory_bytes as f64 / f64::from(1 << 20),
    })
}

async fn one(server: &dyn Server, number: usize) -> anyhow::Result<()> {
    let answer = server.run(number).await?;
    let expected = format!("echo: hello {number}");
    ensure!(answer == expected, "run {number} answered {answer:?}");
    Ok(())
}

fn tables(part: &mut Part, rounds: &[(String, Vec<Cost>)]) {
    let columns = vec![
        Column::new("runs", Unit::PerSecond),
        Column::new("CPU a run", Unit::Millis),
        Column::new("memory", Unit::MiB),
    ];
    let cell = |costs: &[Cost], of: fn(&Cost) -> f64| Cell::rounds(costs.iter().map(of).collect());
    let mut table = Table::new(
        "Basic Prompting (4 nodes, one model call), eight callers",
        columns,
    );
    for (name, costs) in rounds {
        let cells = vec![
            cell(costs, |cost| cost.runs_per_s),
            cell(costs, |cost| cost.cpu_ms),
            cell(costs, |cost| cost.memory_mib),
        ];
        table.row(name, cells);
    }
    let ratios = PROCESSES.map(|processes| {
        let of = |word: &str| {
            let ends = |name: &str| name.starts_with(word) && name.contains(&format!(" {processes}"));
            rounds
                .iter()
                .find(|(name, _)| ends(name))
                .map(|(_, costs)| costs.as_slice())
        };
        of("flowfleet").zip(of("lfx")).map(|(ours, theirs)| {
            [
                (
                    cell(ours, |cost| cost.runs_per_s),
                    cell(theirs, |cost| cost.runs_per_s),
                ),
                (cell(ours, |cost| cost.cpu_ms), cell(theirs, |cost| cost.cpu_ms)),
                (
                    cell(ours, |cost| cost.memory_mib),
                    cell(theirs, |cost| cost.memory_mib),
                ),
            ]
            .map(|(ours, theirs)| ours.value.zip(theirs.value).map(|(ours, theirs)| ours / theirs))
        })
    });
    part.tables.push(table);
    let columns = ["runs", "CPU a run", "memory"].map(|name| Column::new(name, Unit::Ratio));
    let mut table = Table::new("the host to lfx serve", columns.to_vec());
    for (processes, ratios) in PROCESSES.into_iter().zip(ratios) {
        let cells = ratios.unwrap_or_default().map(Cell::from);
        table.row(format!("{processes} at once"), cells.to_vec());
    }
    part.tables.push(table);
    part.goals.push(Goal {
        what: "runs a second of the host to those of lfx serve, two processes each".into(),
        bound: Bound::AtLeast,
        wanted: 1.0,
        found: ratios.last().copied().flatten().and_then(|ratios| ratios[0]),
        unit: Unit::Ratio,
    });
    let bars = rounds.iter().filter_map(|(name, costs)| {
        let runs = cell(costs, |cost| cost.runs_per_s).value?;
        Some((name.clone(), runs))
    });
    part.bars.push(Bars {
        title: "Runs of Basic Prompting in Python a second".into(),
        unit: Unit::PerSecond,
        better: Better::Higher,
        bars: bars.collect(),
    });
}
