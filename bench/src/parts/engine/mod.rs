//! The part `engine`: CPU of one run without store, queue and bus, beside lfx, kept warm.
//!
//! The flow is Langflow's starter *Basic Prompting*, unmodified but for its model, which is the mock model without
//! latency, in a process of its own: what it uses is not counted on either side.

mod flows;
mod lfx;
mod model;
mod native;

use serde_json::json;

use crate::Bench;
use crate::report::{Bars, Better, Bound, Cell, Column, Goal, Part, Table, Unit, complain};
pub(super) use flows::{basic_prompting, hello};
pub(super) use lfx::Lfx;
pub(super) use model::{Answers, Model};
use native::Cost;

const ABOUT: &str = "CPU of one run in the engine alone, the plan compiled once, the model without latency";

/// How many times less CPU than warm lfx.
const WANTED: f64 = 50.0;

/// Runs of one round.
struct Sizes {
    model: usize,
    hello: usize,
    chain: usize,
    lfx: usize,
}

impl Sizes {
    fn of(bench: &Bench) -> Self {
        let quick = bench.options.quick;
        let runs = |full, few| if quick { few } else { full };
        Self {
            model: runs(10_000, 1_000),
            hello: runs(50_000, 5_000),
            chain: runs(5_000, 500),
            lfx: runs(100, 30),
        }
    }
}

/// Every round of each contender.
#[derive(Default)]
struct Rounds {
    alone: Vec<Cost>,
    crowd: Vec<Cost>,
    hello: Vec<Cost>,
    chain: Vec<Cost>,
    lfx: Vec<lfx::Cost>,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Part> {
    let mut part = Part::new("engine", ABOUT);
    let starter = match basic_prompting() {
        Ok(flow) => Some(flow),
        Err(error) => {
            part.notes
                .push(format!("Basic Prompting was not measured: {error:#}"));
            None
        }
    };
    let lfx = match Lfx::prepare() {
        Ok(lfx) => Some(lfx),
        Err(error) => {
            part.notes.push(format!("lfx was not measured: {error:#}"));
            None
        }
    };
    let model = Model::start(bench, &Answers::AtOnce).await?;
    let sizes = Sizes::of(bench);
    let chain = flows::chain(CHAIN)?;
    let mut rounds = Rounds::default();
    for round in 1..=bench.options.rounds() {
        complain(&format!("engine: round {round} ..."));
        let hello = hello()?;
        rounds
            .hello
            .push(native::measure(&hello, None, sizes.hello, 1).await?);
        rounds
            .chain
            .push(native::measure(&chain, None, sizes.chain, 1).await?);
        let Some(flow) = &starter else { continue };
        let url = Some(model.base_url());
        rounds
            .alone
            .push(native::measure(flow, url.clone(), sizes.model, 1).await?);
        rounds
            .crowd
            .push(native::measure(flow, url, sizes.model, 32).await?);
        if let Some(lfx) = &lfx {
            rounds
                .lfx
                .extend(lfx.measure(flow, &model.base_url_for_lfx(), sizes.lfx).await?);
        }
    }
    model.stop().await?;
    tables(&mut part, &rounds, starter.as_ref())?;
    part.notes.push(Lfx::about());
    part.notes.push(STEPFLOW.to_owned());
    part.raw.insert("hello".into(), json!(rounds.hello));
    part.raw.insert("chain".into(), json!(rounds.chain));
    part.raw.insert("basic_prompting".into(), json!(rounds.alone));
    part.raw.insert("basic_prompting_32".into(), json!(rounds.crowd));
    part.raw.insert("lfx".into(), json!(rounds.lfx));
    Ok(part)
}

/// Prompts in a row in the flow that shows what one more node costs.
const CHAIN: usize = 50;

const STEPFLOW: &str = "stepflow is not measured: its Langflow integration (stepflow-langflow-integration 0.4.0) installs, \
    but pins langflow 1.7.1 and lfx 0.2.1, older than this flow, and executes the same Python components as lfx.";

fn cpu(rounds: &[Cost]) -> Cell {
    Cell::rounds(rounds.iter().map(|cost| cost.cpu_us).collect())
}

fn wall(rounds: &[Cost]) -> Cell {
    Cell::rounds(rounds.iter().map(|cost| cost.wall_us).collect())
}

fn tables(part: &mut Part, rounds: &Rounds, starter: Option<&serde_json::Value>) -> anyhow::Result<()> {
    let columns = || {
        vec![
            Column::new("CPU a run", Unit::Micros),
            Column::new("wall a run", Unit::Micros),
        ]
    };
    let mut table = Table::new("Basic Prompting (4 nodes, one model call)", columns());
    table.row(
        "flowfleet, one at a time",
        vec![cpu(&rounds.alone), wall(&rounds.alone)],
    );
    table.row(
        "flowfleet, 32 at once",
        vec![cpu(&rounds.crowd), wall(&rounds.crowd)],
    );
    let mut best = None::<f64>;
    for way in lfx::WAYS {
        let of: Vec<&lfx::Cost> = rounds.lfx.iter().filter(|cost| cost.way == way).collect();
        let cpu = Cell::rounds(of.iter().map(|cost| cost.cpu_us()).collect());
        let wall = Cell::rounds(of.iter().map(|cost| cost.wall_us()).collect());
        best = match (best, cpu.value) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        table.row(format!("lfx, graph {way} for each run"), vec![cpu, wall]);
    }
    part.tables.push(table);
    let ours = cpu(&rounds.alone).value;
    part.goals.push(Goal {
        what: "CPU of warm lfx, at its best, to the engine's".into(),
        bound: Bound::AtLeast,
        wanted: WANTED,
        found: best.zip(ours).map(|(theirs, ours)| theirs / ours),
        unit: Unit::Ratio,
    });
    if let Some((theirs, ours)) = best.zip(ours) {
        part.bars.push(Bars {
            title: "Runs of Basic Prompting for one second of CPU".into(),
            unit: Unit::PerSecond,
            better: Better::Higher,
            bars: vec![
                ("flowfleet".into(), 1e6 / ours),
                ("warm lfx".into(), 1e6 / theirs),
            ],
        });
    }

    let mut table = Table::new("Flows without a model", columns());
    table.row(
        "hello-prompt, 3 nodes",
        vec![cpu(&rounds.hello), wall(&rounds.hello)],
    );
    table.row(
        format!("{CHAIN} prompts in a row"),
        vec![cpu(&rounds.chain), wall(&rounds.chain)],
    );
    let more = cpu(&rounds.hello)
        .value
        .zip(cpu(&rounds.chain).value)
        .map(|(three, many)| (many - three) / (CHAIN as f64 - 1.0));
    table.row("one more node", vec![Cell::from(more), Cell::none()]);
    part.tables.push(table);

    let mut table = Table::new(
        "Compiling a plan, once for each version",
        vec![Column::new("CPU", Unit::Micros)],
    );
    let hello = hello()?;
    for (name, flow) in [("Basic Prompting", starter), ("hello-prompt", Some(&hello))] {
        let cost = flow.map(native::compile).transpose()?;
        table.row(name, vec![Cell::from(cost)]);
    }
    part.tables.push(table);
    Ok(())
}
