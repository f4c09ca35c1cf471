//! Counts and times a bus.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use flowfleet_core::id::{RunId, WorkerId};
use flowfleet_core::port::{Bus, Live, LiveStream, Result, WorkerPresence};
use futures::stream::BoxStream;

use crate::metrics::{ERRORS, OPERATION_SECONDS};

#[derive(Debug)]
pub(crate) struct Metered<T>(T);

impl<T: Bus> Metered<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(inner)
    }
}

async fn timed<R>(operation: &'static str, call: impl Future<Output = Result<R>>) -> Result<R> {
    let start = Instant::now();
    let result = call.await;
    metrics::histogram!(OPERATION_SECONDS, "operation" => operation).record(start.elapsed().as_secs_f64());
    if result.is_err() {
        metrics::counter!(ERRORS, "operation" => operation).increment(1);
    }
    result
}

#[async_trait]
impl<T: Bus> Bus for Metered<T> {
    async fn publish(&self, live: Vec<Live>) -> Result<()> {
        timed("publish", self.0.publish(live)).await
    }

    async fn subscribe(&self, run: RunId) -> Result<LiveStream> {
        timed("subscribe", self.0.subscribe(run)).await
    }

    async fn cancel(&self, run: RunId) -> Result<()> {
        timed("cancel", self.0.cancel(run)).await
    }

    async fn cancels(&self) -> Result<BoxStream<'static, RunId>> {
        timed("cancels", self.0.cancels()).await
    }

    async fn announce(&self, presence: &WorkerPresence, ttl: Duration) -> Result<()> {
        timed("announce", self.0.announce(presence, ttl)).await
    }

    async fn withdraw(&self, worker: WorkerId) -> Result<()> {
        timed("withdraw", self.0.withdraw(worker)).await
    }

    async fn workers(&self) -> Result<Vec<WorkerPresence>> {
        timed("workers", self.0.workers()).await
    }

    async fn ping(&self) -> Result<()> {
        timed("ping", self.0.ping()).await
    }
}
