//! A whole fleet in this process: dispatcher and workers over a SQLite store, the memory queue and bus, and files.
//!
//! This is the only place that composes both services; neither knows that it is not alone.

mod lock;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use flowfleet_core::port::{BlobStore, Bus, Queue, Store};
use flowfleet_engine::Services;
use flowfleet_runtime::prometheus::{self, PrometheusHandle};
use flowfleet_runtime::{Readiness, Shutdown};
use tokio::task::JoinSet;

pub(crate) use lock::DataLock;

use crate::failure::{Failure, Result};

/// How long a part may take to end once it was told to stop at once.
const STOP: Duration = Duration::from_secs(5);

/// What to compose.
#[derive(Debug)]
pub(crate) struct Options {
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// Workers in this process.
    pub workers: u32,
    /// Runs each of them executes at once.
    pub slots: u32,
    pub services: Services,
    /// Shared by the workers.
    pub python: Option<flowfleet_python::Host>,
}

/// A running fleet.
#[derive(Debug)]
pub(crate) struct Embedded {
    pub address: SocketAddr,
    /// Migrations that ran at this start.
    pub migrated: u32,
    parts: JoinSet<(&'static str, anyhow::Result<()>)>,
    shutdown: Shutdown,
    /// Held until everything has ended.
    _lock: DataLock,
}

/// The URL of the store in a data directory.
pub(crate) fn store_url(data: &Path) -> String {
    format!("sqlite:{}", data.join("flowfleet.db").display())
}

/// The URL of the blobs in a data directory.
pub(crate) fn blob_url(data: &Path) -> String {
    format!("file:{}", data.join("blobs").display())
}

/// Makes the directory a file will lie in.
pub(crate) fn make_parent(file: &Path) -> Result {
    match file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::create_dir_all(parent)
            .map_err(|error| Failure::usage(format!("cannot make {}: {error}", parent.display()))),
        None => Ok(()),
    }
}

impl Embedded {
    /// Starts everything; answers once the API listens.
    pub(crate) async fn start(options: Options, lock: DataLock, shutdown: Shutdown) -> anyhow::Result<Self> {
        // Before the adapters: they make their gauges as they open.
        let prometheus = prometheus::install()?;
        flowfleet_store::metrics::describe();
        flowfleet_queue::metrics::describe();
        flowfleet_bus::metrics::describe();
        flowfleet_blob::metrics::describe();
        flowfleet_engine::metrics::describe();
        let backends = Backends::open(&options.data).await?;
        let migrated = backends
            .store
            .migrate()
            .await
            .context("cannot migrate the store")?;
        let readiness = Readiness::default();
        let mut parts = JoinSet::new();

        let dispatcher = bind(&options, &backends, prometheus, readiness.clone()).await?;
        let address = dispatcher.local_addr();
        let ends = shutdown.clone();
        parts.spawn(async move { ("dispatcher", dispatcher.run(ends).await) });
        for index in 0..options.workers {
            let worker = backends.worker(&options, index, readiness.clone());
            let ends = shutdown.clone();
            parts.spawn(async move { ("worker", worker.run(ends).await) });
        }
        Ok(Self {
            address,
            migrated,
            parts,
            shutdown,
            _lock: lock,
        })
    }

    /// Where the API is, as a client on this machine reaches it.
    pub(crate) fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv6() {
                std::net::Ipv6Addr::LOCALHOST.into()
            } else {
                std::net::Ipv4Addr::LOCALHOST.into()
            });
        }
        format!("http://{address}")
    }

    /// Runs until told to end, or until a part breaks; then everything ends.
    pub(crate) async fn join(mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        let overdue = async {
            self.shutdown.stop.cancelled().await;
            tokio::time::sleep(STOP).await;
        };
        tokio::pin!(overdue);
        loop {
            let ended = tokio::select! {
                ended = self.parts.join_next() => ended,
                () = &mut overdue => {
                    tracing::warn!("parts did not stop in time");
                    return result;
                }
            };
            let broken = match ended {
                None => return result,
                Some(Ok((_, Ok(())))) if self.shutdown.draining.is_cancelled() => None,
                Some(Ok((part, Ok(())))) => Some(anyhow::anyhow!("the {part} ended by itself")),
                Some(Ok((part, Err(error)))) => Some(error.context(format!("the {part} broke"))),
                Some(Err(error)) => Some(anyhow::anyhow!("a part panicked: {error}")),
            };
            if let Some(error) = broken {
                tracing::error!(error = format!("{error:#}"), "stopping everything");
                result = result.and(Err(error));
                self.shutdown.drain();
            }
        }
    }
}

/// The adapters.
struct Backends {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    bus: Arc<dyn Bus>,
    blob: Arc<dyn BlobStore>,
}

impl Backends {
    async fn open(data: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            store: flowfleet_store::open(&store_url(data), flowfleet_store::Options::default()).await?,
            queue: flowfleet_queue::open("memory:", flowfleet_queue::Options::default()).await?,
            bus: flowfleet_bus::open("memory:").await?,
            blob: flowfleet_blob::open(&blob_url(data)).await?,
        })
    }

    fn worker(&self, options: &Options, index: u32, readiness: Readiness) -> flowfleet_worker::Worker {
        let config = flowfleet_worker::Config {
            slots: options.slots,
            // Nobody else can hold a lease on this store: one left over by a killed process is soon free.
            lease_s: 10.0,
            drain_s: 10.0,
            lifecycle: flowfleet_worker::Lifecycle::Local,
            name: Some(format!("embedded-{}", index + 1)),
            ..flowfleet_worker::Config::default()
        };
        let deps = flowfleet_worker::Deps {
            store: self.store.clone(),
            queue: self.queue.clone(),
            bus: self.bus.clone(),
            blob: self.blob.clone(),
            services: options.services.clone(),
            python: options.python.clone(),
            readiness,
        };
        flowfleet_worker::Worker::new(config, deps)
    }
}

async fn bind(
    options: &Options,
    backends: &Backends,
    prometheus: PrometheusHandle,
    readiness: Readiness,
) -> anyhow::Result<flowfleet_dispatcher::Dispatcher> {
    let config = flowfleet_dispatcher::Config {
        listen: options.listen,
        ..flowfleet_dispatcher::Config::default()
    };
    let deps = flowfleet_dispatcher::Deps {
        store: backends.store.clone(),
        queue: backends.queue.clone(),
        bus: backends.bus.clone(),
        blob: backends.blob.clone(),
        prometheus,
        readiness,
    };
    flowfleet_dispatcher::Dispatcher::bind(config, deps).await
}
