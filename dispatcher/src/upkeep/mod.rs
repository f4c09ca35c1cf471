//! What one dispatcher does for all: it sweeps the outbox, reaps leases, promotes and expires runs, reconciles the
//! broker with the store, sets the gauges, and checks the history. Only the leader does; two at once would be harmless.

mod audit;
mod gauges;
pub(crate) mod leader;
mod reaper;
mod reconciler;
mod scheduler;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::RunEvent;
use flowfleet_core::port::{Bus, Live, OutboxRow, Queue, Store};
use flowfleet_runtime::Relay;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::Intervals;

/// What the loops need.
#[derive(Debug, Clone)]
pub(crate) struct Upkeep {
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn Queue>,
    pub bus: Arc<dyn Bus>,
    pub relay: Relay,
    pub intervals: Intervals,
    /// The queue lives in this process and forgot everything at its last end.
    pub queue_is_memory: bool,
    /// Told when a run was scheduled here.
    pub scheduled: Arc<Notify>,
}

impl Upkeep {
    fn send(&self, row: Option<OutboxRow>) {
        if let Some(row) = row {
            self.relay.send(row);
        }
    }

    /// Tells those who follow; they find out by themselves otherwise.
    async fn announce(&self, events: Vec<RunEvent>) {
        let mut messages: Vec<Live> = Vec::new();
        for event in events {
            match messages.last_mut() {
                Some(Live::Events { events }) if events.last().is_some_and(|last| last.run == event.run) => {
                    events.push(event);
                }
                _ => messages.push(Live::Events { events: vec![event] }),
            }
        }
        if messages.is_empty() {
            return;
        }
        if let Err(error) = self.bus.publish(messages).await {
            tracing::debug!(%error, "events were not announced");
        }
    }
}

/// A wait that ends early with `stop`; false when it did.
async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = stop.cancelled() => false,
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::from_secs(1))
}
