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
        std::io::stdout().write_all(settings::print_redacted(&config).as_bytes())?;
        return Ok(());
    }
    let telemetry = telemetry::init("flowfleet-worker", &config.log, config.log_format)?;
    let shutdown = Shutdown::on_signals();
    let ran = shutdown
        .stop
        .clone()
        .run_until_cancelled_owned(open(&config))
        .await;
    let ended = match ran {
        Some(Ok(deps)) => serve(config, deps, shutdown).await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    // Blocks until the last spans are exported, so it may not hold up a thread of the runtime.
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    ended
}

async fn open(config: &Config) -> anyhow::Result<Deps> {
    Ok(Deps {
        store: flowfleet_store::open(config.store_url.expose(), flowfleet_store::Options::default()).await?,
        queue: flowfleet_queue::open(config.queue_url.expose(), flowfleet_queue::Options::default()).await?,
        bus: flowfleet_bus::open(config.bus_url.expose()).await?,
        blob: flowfleet_blob::open(config.blob_url.expose()).await?,
        services: flowfleet_engine::Services::from_env(),
        readiness: Readiness::default(),
    })
}

async fn serve(config: Config, deps: Deps, shutdown: Shutdown) -> anyhow::Result<()> {
    let handle = prometheus::install()?;
    let listener = tokio::net::TcpListener::bind(config.admin_listen).await;
    let listener = listener.with_context(|| format!("admin_listen {}", config.admin_listen))?;
    tracing::info!(addr = %listener.local_addr()?, "listening");
    let stop = CancellationToken::new();
    let router = admin::router(handle, deps.readiness.clone());
    let admin = tokio::spawn(admin::serve(listener, router, stop.clone()));
    let ended = Worker::new(config, deps).run(shutdown).await;
    stop.cancel();
    admin.abort();
    ended
}
