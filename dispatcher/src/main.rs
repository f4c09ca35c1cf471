//! `flowfleet-dispatcher`: reads its settings, opens the backends, serves until told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use flowfleet_dispatcher::{Config, Deps, Dispatcher};
use flowfleet_runtime::{Readiness, Shutdown, exit, prometheus, settings, telemetry, tls};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  flowfleet-dispatcher
      SQLite, memory queue and bus: for a look (workers then live in the same process: `flowfleet up`)
  flowfleet-dispatcher --config dispatcher.toml --listen 0.0.0.0:7700
      with settings from a file; needs an API key in the store (`flowfleet keys create`)
  FLOWFLEET_STORE_URL=postgres://db/flowfleet FLOWFLEET_QUEUE_URL=amqp://mq FLOWFLEET_BUS_URL=redis://cache \\
    flowfleet-dispatcher
      with settings from the environment: every key is also FLOWFLEET_<KEY>, or FLOWFLEET_<KEY>_FILE
  flowfleet-dispatcher --print-config
      what is in force, with passwords masked";

/// The Flowfleet dispatcher: HTTP API, relay, scheduler, reaper, reconciler.
#[derive(Debug, Parser)]
#[command(name = "flowfleet-dispatcher", version, about, after_help = EXAMPLES)]
struct Arguments {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the API listens, such as 127.0.0.1:7700
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Print the settings in force, passwords masked, and exit
    #[arg(long)]
    print_config: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    run(Arguments::parse()).await.err().unwrap_or(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "--print-config answers on standard output")]
async fn run(arguments: Arguments) -> Result<(), ExitCode> {
    let listen = arguments
        .listen
        .map(|listen| ("listen".to_owned(), listen.into()));
    let config: Config =
        settings::load(arguments.config.as_deref(), listen.into_iter().collect()).map_err(exit::usage)?;
    config.check().map_err(exit::usage)?;
    if arguments.print_config {
        print!("{}", settings::print_redacted(&config));
        return Ok(());
    }
    tls::install();
    let telemetry =
        telemetry::init("flowfleet-dispatcher", &config.log, config.log_format).map_err(exit::usage)?;
    let shutdown = Shutdown::on_signals();
    let deps = open(&config).await.map_err(exit::reach)?;
    let dispatcher = Dispatcher::bind(config, deps).await.map_err(exit::reach)?;
    let result = dispatcher.run(shutdown).await;
    // Blocks until the last spans are exported.
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
    result.map_err(exit::broke)
}

async fn open(config: &Config) -> anyhow::Result<Deps> {
    // Before the adapters: they make their gauges as they open.
    let prometheus = prometheus::install()?;
    flowfleet_store::metrics::describe();
    flowfleet_queue::metrics::describe();
    flowfleet_bus::metrics::describe();
    flowfleet_blob::metrics::describe();
    flowfleet_engine::metrics::describe();
    let store = flowfleet_store::open(config.store_url.expose(), flowfleet_store::Options::default());
    let queue = flowfleet_queue::open(config.queue_url.expose(), flowfleet_queue::Options::default());
    let bus = flowfleet_bus::open(config.bus_url.expose());
    let blob = flowfleet_blob::open(config.blob_url.expose());
    Ok(Deps {
        store: store.await.context("store_url")?,
        queue: queue.await.context("queue_url")?,
        bus: bus.await.context("bus_url")?,
        blob: blob.await.context("blob_url")?,
        prometheus,
        readiness: Readiness::default(),
    })
}
