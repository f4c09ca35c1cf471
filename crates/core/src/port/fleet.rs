//! What workers are wished to do. The wish is kept, so that nothing depends on a signal that may be lost: a worker
//! reads its own every few seconds.

use std::time::Duration;

use async_trait::async_trait;

use super::Result;
use crate::id::WorkerId;

/// What somebody wants of a worker that is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Takes runs; ends an earlier wish to drain.
    Accept,
    /// Takes nothing new, finishes what it has, and stays. After `handoff`, runs that still execute are given to others
    /// between two of their nodes; with `None` they end here.
    Drain { handoff: Option<Duration> },
}

/// Wishes for workers.
#[async_trait]
pub trait FleetStore: Send + Sync + std::fmt::Debug {
    /// Wishes something of a worker, instead of what was wished before. Idempotent. Wishes of weeks ago are dropped:
    /// a worker that finds none goes on as it is.
    async fn wish(&self, worker: WorkerId, wish: Wish) -> Result<()>;

    /// What is wished of a worker; `None` when nothing ever was.
    async fn wished(&self, worker: WorkerId) -> Result<Option<Wish>>;
}
