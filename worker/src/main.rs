//! The `flowfleet-worker` program: settings, backends, admin server, and the worker itself.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use flowfleet_engine::Services;
use flowfleet_runtime::prometheus::{self, PrometheusHandle};
use flowfleet_runtime::{Readiness, Shutdown, admin, exit, settings, telemetry, tls};
use flowfleet_worker::{Args, Config, Deps, Worker};
use tokio_util::sync::CancellationToken;

/// Measured against the C library's: a run is many small allocations made by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    run(Args::parse()).await.err().unwrap_or(ExitCode::SUCCESS)
}

async fn run(args: Args) -> Result<(), ExitCode> {
    tls::install();
    let print = args.print_config;
    let config = args.load().map_err(exit::usage)?;
    if print {
        use std::io::Write as _;
        let printed = std::io::stdout().write_all(settings::print_redacted(&config).as_bytes());
        return printed.map_err(exit::broke);
    }
    let telemetry =
        telemetry::init("flowfleet-worker", &config.log, config.log_format).map_err(exit::usage)?;
    let shutdown = Shutdown::on_signals();
    // Before the adapters: they make their gauges as they open.
    let metrics = prometheus::install().map_err(exit::broke)?;
    let services = Services::from_env().map_err(exit::usage)?;
    // Before there is a worker there is nothing to drain.
    let ended = match shutdown
        .draining
        .clone()
        .run_until_cancelled_owned(start(&config, services, metrics))
        .await
    {
        Some(Ok(deps)) => Worker::new(config, deps).run(shutdown).await.map_err(exit::broke),
        Some(Err(error)) => Err(exit::reach(error)),
        None => Ok(()),
    };
    // Blocks until the last spans are exported, so it may not hold up a thread of the runtime.
    let flushed = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
    ended.and(flushed.map_err(exit::broke))
}

/// Opens the backends and serves health and metrics.
async fn start(config: &Config, services: Services, metrics: PrometheusHandle) -> anyhow::Result<Deps> {
    flowfleet_store::metrics::describe();
    flowfleet_queue::metrics::describe();
    flowfleet_bus::metrics::describe();
    flowfleet_blob::metrics::describe();
    flowfleet_engine::metrics::describe();
    let store = flowfleet_store::open(config.store_url.expose(), flowfleet_store::Options::default());
    let queue = flowfleet_queue::open(config.queue_url.expose(), flowfleet_queue::Options::default());
    let bus = flowfleet_bus::open(config.bus_url.expose());
    let blob = flowfleet_blob::open(config.blob_url.expose());
    let deps = Deps {
        store: store.await.context("store_url")?,
        queue: queue.await.context("queue_url")?,
        bus: bus.await.context("bus_url")?,
        blob: blob.await.context("blob_url")?,
        services,
        python: match config.python.enabled {
            true => Some(flowfleet_python::Host::start(config.python.clone())?),
            false => None,
        },
        readiness: Readiness::default(),
    };
    let listener = tokio::net::TcpListener::bind(config.admin_listen).await;
    let listener = listener.with_context(|| format!("admin_listen {}", config.admin_listen))?;
    tracing::info!(addr = %listener.local_addr()?, "listening");
    let router = admin::router(metrics, deps.readiness.clone());
    // Served to the very end: a drain is when an operator looks.
    tokio::spawn(admin::serve(listener, router, CancellationToken::new()));
    Ok(deps)
}
