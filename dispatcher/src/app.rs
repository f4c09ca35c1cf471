//! What every request handler shares.

use std::sync::Arc;

use flowfleet_core::port::{Actor, BlobStore, Bus, Store};
use flowfleet_runtime::prometheus::PrometheusHandle;
use flowfleet_runtime::{Readiness, Shutdown};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::api::auth::Keys;
use crate::api::problem::{Code, Problem};
use crate::config::Config;
use crate::metrics::LISTENERS;
use crate::submit::group::Committer;
use crate::submit::resolve::Flows;

/// The state of the API; one a process, handed out in an `Arc`.
#[derive(Debug)]
pub(crate) struct App {
    pub config: Config,
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub blob: Arc<dyn BlobStore>,
    pub committer: Committer,
    pub flows: Flows,
    pub keys: Keys,
    pub readiness: Readiness,
    pub prometheus: Metrics,
    pub shutdown: Shutdown,
    pub requests: Arc<Semaphore>,
    pub listeners: Arc<Semaphore>,
    /// Told when a run was scheduled, so that the scheduler does not sleep past it.
    pub scheduled: Arc<Notify>,
}

/// The exporter, without the noise of its registry in debug output.
pub(crate) struct Metrics(pub PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

pub(crate) type Shared = Arc<App>;

/// A place among the bounded number of event streams and waiting requests; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Listener(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Drop for Listener {
    fn drop(&mut self) {
        metrics::gauge!(LISTENERS).decrement(1.0);
    }
}

impl App {
    pub(crate) fn listen(&self) -> Result<Listener, Problem> {
        let Ok(permit) = self.listeners.clone().try_acquire_owned() else {
            return Err(Problem::new(
                Code::Overloaded,
                format!(
                    "{} event streams and waiting requests are open already",
                    self.config.limits.listeners
                ),
            ));
        };
        metrics::gauge!(LISTENERS).increment(1.0);
        Ok(Listener(permit))
    }

    /// Writes to the audit log. A mutation that happened is not undone when its log line cannot be written; the
    /// process log then has it.
    pub(crate) async fn audit(&self, actor: &Actor, action: &str, target: &str) {
        if let Err(error) = self.store.audit(actor, action, target).await {
            tracing::error!(%error, actor = actor.name, action, target, "not written to the audit log");
        }
    }
}
