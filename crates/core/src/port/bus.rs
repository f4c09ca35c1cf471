//! Live events, cancel signals and worker presence. Lossy by contract: whoever must know asks the store.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Result;
use crate::event::RunEvent;
use crate::id::{RunId, WorkerId};
use crate::name::QueueName;
use crate::pool::Capabilities;

/// Something that just happened to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "live", rename_all = "snake_case")]
pub enum Live {
    /// Stored events, in order. A reader that sees a gap asks the store.
    Events { events: Vec<RunEvent> },
    /// Streamed text of a node; never stored.
    Token { run: RunId, node: String, text: String },
    /// This subscription may have missed something (reconnected, or fell behind): ask the store.
    Lagged,
}

/// Live events of one run, from the moment `subscribe` returned.
pub type LiveStream = BoxStream<'static, Live>;

/// What a worker says of itself at each heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerPresence {
    pub id: WorkerId,
    pub host: String,
    pub version: String,
    pub queues: Vec<QueueName>,
    /// Workers that do not say are native.
    #[serde(default)]
    pub capabilities: Capabilities,
    pub slots: u32,
    pub busy: u32,
    pub state: WorkerState,
    /// `local`, `spot`, `on_demand` or `fargate`.
    pub lifecycle: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    #[serde(default)]
    pub place: Place,
}

/// Where a worker runs and what that costs, as far as it knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The capacity it belongs to, such as the name of an Auto Scaling group.
    pub pool: Option<String>,
    /// The id of its instance, or the ARN of its task.
    pub provider_id: Option<String>,
    pub instance_type: Option<String>,
    pub zone: Option<String>,
    /// When its machine was asked for, or else when its process began.
    pub launched_at: Option<Timestamp>,
    /// The price when it was launched.
    pub usd_per_hour: Option<f64>,
    /// When it began to accept runs.
    pub accepting_at: Option<Timestamp>,
    /// When it claimed its first run.
    pub first_claim_at: Option<Timestamp>,
    /// What its provider says is to become of it.
    pub notice: Option<Notice>,
}

/// The provider is about to take a machine back, or fears that it may have to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub kind: NoticeKind,
    /// When the machine goes, or when the warning was given.
    pub at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The machine goes.
    Interruption,
    /// The machine is more likely than others to go soon.
    Rebalance,
}

impl NoticeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interruption => "interruption",
            Self::Rebalance => "rebalance",
        }
    }
}

/// Whether a worker takes runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    Accepting,
    Draining,
    /// Told to drain, idle, and still there: it can be told to accept again.
    Drained,
    /// Cut off from the store or the queue.
    Unready,
}

/// The bus. Nothing on it is needed for correctness.
#[async_trait]
pub trait Bus: Send + Sync + std::fmt::Debug {
    /// Publishes to whoever listens to the runs named. Lossy; ordered per run and publisher. Never blocks on a
    /// slow listener; an `Err` may be ignored.
    async fn publish(&self, live: Vec<Live>) -> Result<()>;

    /// Listens to one run. The subscription is active when this returns. Dropping the stream ends it.
    async fn subscribe(&self, run: RunId) -> Result<LiveStream>;

    /// Tells all workers that a run is to be cancelled. Lossy: the heartbeat carries cancels as well.
    async fn cancel(&self, run: RunId) -> Result<()>;

    /// Runs to cancel, as they are announced.
    async fn cancels(&self) -> Result<BoxStream<'static, RunId>>;

    /// Makes a worker visible for `ttl`. Idempotent.
    async fn announce(&self, presence: &WorkerPresence, ttl: Duration) -> Result<()>;

    /// Removes a worker at its clean stop. Idempotent.
    async fn withdraw(&self, worker: WorkerId) -> Result<()>;

    /// Workers whose announcement has not run out, in no order.
    async fn workers(&self) -> Result<Vec<WorkerPresence>>;

    /// Whether the backend answers.
    async fn ping(&self) -> Result<()>;
}
