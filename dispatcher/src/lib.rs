//! The dispatcher: takes runs over HTTP, stores them, publishes them, and looks after them until they end.
//!
//! Owns the API, group commit, the flow cache and the loops of the leader. Leaves the truth to the store, hints to
//! queue and bus, publishing to the relay of `flowfleet-runtime`, and execution to workers. It is handed its backends
//! as ports; only the program beside this library names adapters.

mod api;
mod app;
mod config;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod identity;
pub mod keys;
pub mod metrics;
mod ready;
mod server;
mod submit;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use flowfleet_core::port::{BlobStore, Bus, Queue, Store};
use flowfleet_engine::CompileLimits;
use flowfleet_runtime::prometheus::PrometheusHandle;
use flowfleet_runtime::{Readiness, Relay, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Metrics};
pub use crate::config::{Config, Intervals};
use crate::submit::group::Committer;
use crate::submit::resolve::Flows;
use crate::upkeep::Upkeep;

/// How long the relay may still publish after the last request.
const FLUSH: Duration = Duration::from_secs(5);

/// The backends of a dispatcher.
#[derive(Clone)]
pub struct Deps {
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn Queue>,
    pub bus: Arc<dyn Bus>,
    pub blob: Arc<dyn BlobStore>,
    pub prometheus: PrometheusHandle,
    pub readiness: Readiness,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps")
            .field("store", &self.store)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// A dispatcher whose address is bound.
#[derive(Debug)]
pub struct Dispatcher {
    config: Config,
    deps: Deps,
    listener: TcpListener,
    address: SocketAddr,
}

impl Dispatcher {
    /// Checks the configuration and binds its address. Another address than loopback is refused while the store has
    /// no API key: whoever reaches the port could do everything.
    pub async fn bind(config: Config, deps: Deps) -> anyhow::Result<Self> {
        config.check()?;
        metrics::describe();
        flowfleet_runtime::metrics::build_info("dispatcher", env!("CARGO_PKG_VERSION"));
        if !config.listen.ip().is_loopback() {
            let any = deps
                .store
                .any_key()
                .await
                .context("cannot ask the store for API keys")?;
            anyhow::ensure!(
                any,
                "refusing to listen on {}: the store has no API key, so anybody who reaches the port could do everything. \
                 Make the first key with `flowfleet keys create --role admin`, or listen on 127.0.0.1",
                config.listen
            );
        }
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        Ok(Self {
            config,
            deps,
            listener,
            address,
        })
    }

    /// Where it listens: the port is known also when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to drain; then finishes the requests in flight, publishes what is stored, and returns.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            config,
            deps,
            listener,
            address,
        } = self;
        // Running out of time to drain ends this dispatcher, not what else lives in the process.
        let shutdown = shutdown.child();
        let relay_stop = CancellationToken::new();
        let relay = Relay::spawn(deps.store.clone(), deps.queue.clone(), relay_stop.clone());
        let committer = Committer::spawn(&deps.store, &relay);
        let scheduled = Arc::new(Notify::new());
        let background = CancellationToken::new();
        let upkeep = Upkeep {
            store: deps.store.clone(),
            queue: deps.queue.clone(),
            bus: deps.bus.clone(),
            relay: relay.clone(),
            intervals: config.upkeep.clone(),
            queue_is_memory: config.queue_url.expose().starts_with("memory:"),
            scheduled: scheduled.clone(),
        };
        let leader = tokio::spawn(upkeep::leader::run(upkeep, background.clone()));
        let watch = tokio::spawn(ready::watch(deps.clone(), background.clone()));
        let drain = Duration::try_from_secs_f64(config.drain_s).unwrap_or(FLUSH);
        let app = Arc::new(app(config, deps, committer, scheduled, shutdown.clone(), address));
        let connections = app.config.limits.concurrent_requests + app.config.limits.listeners;
        let router = api::router(app)?;
        tracing::info!(addr = %address, "listening");
        server::serve(listener, router, connections, &shutdown, drain).await;
        background.cancel();
        for (task, what) in [(leader, "leader"), (watch, "readiness")] {
            if timeout(FLUSH, task).await.is_err() {
                tracing::warn!(what, "did not end in time");
            }
        }
        tokio::select! {
            flushed = timeout(FLUSH, relay.idle()) => if flushed.is_err() {
                tracing::warn!("not all messages were published: the next leader finds them in the outbox");
            },
            () = shutdown.stop.cancelled() => {}
        }
        relay_stop.cancel();
        tracing::info!("stopped");
        Ok(())
    }
}

fn app(
    config: Config,
    deps: Deps,
    committer: Committer,
    scheduled: Arc<Notify>,
    shutdown: Shutdown,
    address: SocketAddr,
) -> App {
    let limits = &config.limits;
    let compile = CompileLimits {
        nodes: limits.flow_nodes,
        bytes: limits.flow_bytes,
        ..CompileLimits::default()
    };
    App {
        committer,
        flows: Flows::new(deps.store.clone(), compile),
        keys: api::auth::Keys::new(deps.store.clone(), address.ip().is_loopback()),
        readiness: deps.readiness,
        prometheus: Metrics(deps.prometheus),
        shutdown,
        requests: Arc::new(Semaphore::new(
            limits.concurrent_requests.min(Semaphore::MAX_PERMITS),
        )),
        listeners: Arc::new(Semaphore::new(limits.listeners.min(Semaphore::MAX_PERMITS))),
        scheduled,
        store: deps.store,
        bus: deps.bus,
        blob: deps.blob,
        config,
    }
}
