//! The queue: a hint that a run wants a worker (invariant I1).

use std::time::Duration;

use async_trait::async_trait;

use super::Result;
use crate::message::RunMessage;
use crate::pool::Pool;
use crate::run::Priority;

/// A message and where it goes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Envelope {
    pub pool: Pool,
    pub priority: Priority,
    pub message: RunMessage,
}

/// Names a delivery to the consumer that made it. Opaque to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Which connection or channel generation it belongs to: a receipt of an old one is void.
    pub generation: u64,
    /// Which of the consumer's sources.
    pub source: u32,
    pub tag: u64,
}

/// One message handed to a worker. Until it is acknowledged it belongs to the consumer and comes back to the
/// queue when that dies.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub pool: Pool,
    pub priority: Priority,
    pub message: RunMessage,
    pub receipt: Receipt,
}

/// Messages ready in a pool, by priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    pub high: u64,
    pub normal: u64,
    pub low: u64,
}

impl Depth {
    pub fn total(&self) -> u64 {
        self.high + self.normal + self.low
    }
}

/// A broker. Each pool has three queues, one a priority.
#[async_trait]
pub trait Queue: Send + Sync + std::fmt::Debug {
    /// Publishes and waits until the broker confirmed all of it. At least once: on an error any part may have
    /// been published, and the caller publishes all of it again. Declares what it needs. Bounded by a timeout.
    async fn publish(&self, envelopes: &[Envelope]) -> Result<()>;

    /// Starts to consume from pools, holding at most `prefetch` unacknowledged messages a pool and priority.
    async fn consume(&self, pools: &[Pool], prefetch: u16) -> Result<Box<dyn Consumer>>;

    /// Messages ready in a pool right now (those handed out are not counted); zero for an unknown pool.
    async fn depth(&self, pool: &Pool) -> Result<Depth>;

    /// Whether the broker answers within `timeout`.
    async fn ping(&self, timeout: Duration) -> Result<()>;
}

/// One worker's intake. Survives a restart of the broker: it reconnects and goes on by itself, and receipts
/// handed out before are void (their messages come again).
#[async_trait]
pub trait Consumer: Send + std::fmt::Debug {
    /// Waits for messages and returns at least one and at most `max` (at least 1), picked among priorities by
    /// weight (high 6, normal 3, low 1) while several have messages. Resumes a paused consumer. Cancel-safe.
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>>;

    /// Acknowledges deliveries, with `multiple` where it can. Void receipts are ignored. An error means their
    /// messages may come again.
    async fn ack(&mut self, receipts: &[Receipt]) -> Result<()>;

    /// Gives deliveries back to the queue for others.
    async fn reject(&mut self, receipts: &[Receipt]) -> Result<()>;

    /// Stops taking messages and gives back everything buffered but not yet handed out, so that a worker with no
    /// free slot hoards nothing. Idempotent; the next `receive` resumes.
    async fn pause(&mut self) -> Result<()>;

    /// Whether the broker currently accepts this consumer (false while reconnecting).
    fn connected(&self) -> bool;
}
