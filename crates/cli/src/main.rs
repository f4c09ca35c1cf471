//! The `flowfleet` program: everything in one process (`up`, `demo`), one flow without a server (`run`), and the
//! client of a dispatcher (`flows`, `submit`, `runs`, `fleet`, `keys`).
//!
//! Owns the composition of adapters and services, and what people read in a terminal. Leaves all rules to the
//! crates it composes.

mod args;
mod client;
mod commands;
mod embedded;
mod failure;
mod local_files;
mod progress;
mod show;
mod term;
mod text;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::commands::Context;

/// Measured against the C library's: a run is many small allocations made by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::new(&cli.global);
    // One TLS provider for the process; a second call only says that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::reach(format!("cannot start: {error}")).report(&context.term),
    };
    let result = runtime.block_on(run(cli.command, &context));
    // A blocking call that hangs (a name lookup, a disk) must not hold the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&context.term),
    }
}

async fn run(command: Command, context: &Context) -> failure::Result {
    match command {
        Command::Up(args) => Box::pin(commands::up::run(args, context)).await,
        Command::Demo(args) => Box::pin(commands::demo::run(args, context)).await,
        Command::Run(args) => Box::pin(commands::run::run(args, context)).await,
        Command::Flows(args) => commands::flows::run(args, context).await,
        Command::Submit(args) => Box::pin(commands::submit::run(*args, context)).await,
        Command::Runs(args) => Box::pin(commands::runs::run(args, context)).await,
        Command::Fleet(args) => commands::fleet::run(args, context).await,
        Command::Simulate(args) => commands::simulate::run(args, context).await,
        Command::Keys(args) => commands::keys::run(args, context).await,
        Command::Migrate(args) => commands::migrate::run(args, context).await,
        Command::Doctor(args) => Box::pin(commands::doctor::run(args, context)).await,
        Command::MockModel(args) => commands::mock_model::run(args, context).await,
        Command::Python(args) => Box::pin(commands::python::run(args, context)).await,
        Command::Completions(args) => commands::completions::run(&args, context),
        Command::Version(args) => commands::version::run(&args, context),
    }
}
