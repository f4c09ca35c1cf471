//! The bus of a fleet in one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::id::{RunId, WorkerId};
use flowfleet_core::port::{Bus, Live, LiveStream, Result, WorkerPresence};
use futures::stream::BoxStream;
use tokio::time::Instant;

use crate::hub::Hub;
use crate::wire::by_run;

#[derive(Debug)]
pub(crate) struct MemoryBus {
    hub: Arc<Hub>,
    workers: Mutex<HashMap<WorkerId, (Instant, WorkerPresence)>>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self {
            hub: Hub::new(false),
            workers: Mutex::default(),
        }
    }
}

impl MemoryBus {
    /// Workers that have not run out.
    fn present(&self) -> MutexGuard<'_, HashMap<WorkerId, (Instant, WorkerPresence)>> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        workers.retain(|_, (until, _)| *until > now);
        workers
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, live: Vec<Live>) -> Result<()> {
        for (run, items) in by_run(live) {
            for item in items {
                self.hub.deliver(run, item);
            }
        }
        Ok(())
    }

    async fn subscribe(&self, run: RunId) -> Result<LiveStream> {
        Ok(self.hub.listen(run).0)
    }

    async fn cancel(&self, run: RunId) -> Result<()> {
        self.hub.cancel(run);
        Ok(())
    }

    async fn cancels(&self) -> Result<BoxStream<'static, RunId>> {
        Ok(self.hub.cancels())
    }

    async fn announce(&self, presence: &WorkerPresence, ttl: Duration) -> Result<()> {
        self.present()
            .insert(presence.id, (Instant::now() + ttl, presence.clone()));
        Ok(())
    }

    async fn withdraw(&self, worker: WorkerId) -> Result<()> {
        self.present().remove(&worker);
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<WorkerPresence>> {
        Ok(self
            .present()
            .values()
            .map(|(_, presence)| presence.clone())
            .collect())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}
