//! What can be measured, each part alone or all in a row.

mod engine;
mod growth;
mod latency;
mod lineup;
mod python;
mod scale;
mod throughput;

use anyhow::Context as _;

use crate::Bench;
use crate::args::{Command, Options};
use crate::fleet::Binaries;
use crate::report::{self, Machine, Part};
use crate::services::Services;

/// Every part, in the order in which they run.
const ALL: [&str; 6] = ["throughput", "latency", "engine", "python", "scale", "growth"];

/// Runs what the command line asks for and reports it.
pub(crate) async fn run(command: &Command, options: Options) -> anyhow::Result<()> {
    let services = Services::find().await?;
    let binaries = if let Some(folder) = &options.binaries {
        Binaries::in_folder(folder)?
    } else {
        report::complain(
            "building the programs under test as they are shipped (profile dist), which takes minutes ...",
        );
        Binaries::build()?
    };
    let bench = Bench {
        options,
        services,
        binaries,
    };
    let machine = Machine::look(&bench);
    let mut parts = Vec::new();
    for name in ALL {
        if !asked(command, name) {
            continue;
        }
        let part = measure(&bench, name).await.context(name)?;
        report::print(&part);
        parts.push(part);
    }
    report::write(&bench.options.out, &machine, &parts)
}

fn asked(command: &Command, name: &str) -> bool {
    match command {
        Command::All => true,
        Command::Throughput => name == "throughput",
        Command::Latency => name == "latency",
        Command::Engine => name == "engine",
        Command::Python => name == "python",
        Command::Scale => name == "scale",
        Command::Growth => name == "growth",
        Command::Client(_) | Command::FloorFront(_) | Command::FloorWorker(_) => false,
    }
}

async fn measure(bench: &Bench, name: &str) -> anyhow::Result<Part> {
    match name {
        "throughput" => throughput::run(bench).await,
        "latency" => latency::run(bench).await,
        "engine" => engine::run(bench).await,
        "python" => python::run(bench).await,
        "scale" => scale::run(bench).await,
        _ => growth::run(bench).await,
    }
}
