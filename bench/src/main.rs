//! `bench`: measures Flowfleet beside its limits and its peers, and prints the ratios.

mod args;
mod client;
mod contender;
mod fleet;
mod floor;
mod flowfleet;
mod parts;
mod peers;
mod report;
mod services;
mod times;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command, Options};
use crate::fleet::Binaries;
use crate::services::Services;

/// What every part is given.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) services: Services,
    pub(crate) binaries: Binaries,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    // The client shall take no more than one core from what it measures.
    let mut builder = if matches!(args.command, Command::Client(_)) {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()?.block_on(async {
        match args.command {
            Command::Client(client) => client::run(client).await,
            Command::FloorFront(front) => floor::front::run(front).await,
            Command::FloorWorker(worker) => floor::worker::run(worker).await,
            command => {
                tokio::select! {
                    ended = parts::run(&command, args.options) => ended,
                    // What was started is stopped as the other branch is dropped.
                    _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
                }
            }
        }
    })
}
