//! The `flowfleet-worker` program: settings, backends, admin server, and the worker itself.

use anyhow::Context as _;
use clap::Parser as _;
use flowfleet_runtime::{Readiness, Shutdown, admin, prometheus, settings, telemetry, tls};
use flowfleet_worker::{Args, Config, Deps, Worker};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tls::install();
    let args = Args::parse();
    let print = args.print_config;
    let config = args.load()?;
    if print {
        use std::io::Write as _;
        return Ok(std::io::stdout().write_all(settings::print_redacted(&config).as_bytes())?);
    }
    let telemetry = telemetry::init("flowfleet-worker", &config.log, config.log_format)?;
    let shutdown = Shutdown::on_signals();
    // Before there is a worker there is nothing to drain.
    let ended = match shutdown
        .draining
        .clone()
        .run_until_cancelled_owned(open(&config))
        .await
    {
        Some(Ok(deps)) => serve(config, deps, shutdown).await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    // Blocks until the last spans are exported, so it may not hold up a thread of the runtime.
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    ended
}

async fn open(config: &Config) -> anyhow::Result<Deps> {
    let store = flowfleet_store::Options::default();
    let queue = flowfleet_queue::Options::default();
    Ok(Deps {
        store: flowfleet_store::open(config.store_url.expose(), store)
            .await
            .context("store_url")?,
        queue: flowfleet_queue::open(config.queue_url.expose(), queue)
            .await
            .context("queue_url")?,
        bus: flowfleet_bus::open(config.bus_url.expose())
            .await
            .context("bus_url")?,
        blob: flowfleet_blob::open(config.blob_url.expose())
            .await
            .context("blob_url")?,
        services: flowfleet_engine::Services::from_env()?,
        readiness: Readiness::default(),
    })
}

async fn serve(config: Config, deps: Deps, shutdown: Shutdown) -> anyhow::Result<()> {
    let handle = prometheus::install()?;
    flowfleet_store::metrics::describe();
    flowfleet_queue::metrics::describe();
    flowfleet_bus::metrics::describe();
    flowfleet_blob::metrics::describe();
    flowfleet_engine::metrics::describe();
    let listener = tokio::net::TcpListener::bind(config.admin_listen).await;
    let listener = listener.with_context(|| format!("admin_listen {}", config.admin_listen))?;
    tracing::info!(addr = %listener.local_addr()?, "listening");
    let router = admin::router(handle, deps.readiness.clone());
    // Served to the very end: a drain is when an operator looks.
    tokio::spawn(admin::serve(listener, router, CancellationToken::new()));
    Worker::new(config, deps).run(shutdown).await
}
