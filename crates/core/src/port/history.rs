//! What the store kept of how runs went, for [`crate::history::check`].

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Result;
use crate::history::{RunHistory, Stray};
use crate::id::RunId;

/// Histories of some runs, all read in one snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Histories {
    /// The store's clock at that moment; without a meaning when there are no runs.
    pub now: Timestamp,
    /// In the order of their ids.
    pub runs: Vec<RunHistory>,
}

/// Histories of all tenants. Nothing here writes or locks. Every call is bounded by a limit or by what it is given.
#[async_trait]
pub trait HistoryStore: Send + Sync + std::fmt::Debug {
    /// The next runs after `after`, at most `limit`. A row that cannot be read is a history with damage, no error.
    async fn histories(&self, after: Option<RunId>, limit: u32) -> Result<Histories>;

    /// Those of `runs` that exist.
    async fn histories_of(&self, runs: &[RunId]) -> Result<Histories>;

    /// Runs worth a look whatever their age, at most `limit` of each kind: those that are running, and those whose time
    /// to be queued or to expire came longer than `slack` ago.
    async fn unfinished(&self, slack: Duration, limit: u32) -> Result<Vec<RunId>>;

    /// Which tables have rows of runs between `after` and `upto` (included) that do not exist, at most `limit` in all.
    async fn strays(&self, after: Option<RunId>, upto: Option<RunId>, limit: u32) -> Result<Vec<Stray>>;

    /// How many runs come after `after`: what a walk with [`Self::histories`] has before it.
    async fn runs_after(&self, after: Option<RunId>) -> Result<u64>;
}
