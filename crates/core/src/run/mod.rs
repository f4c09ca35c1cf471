//! A run: one execution of one flow version on one input, from submission to its end.

mod state;
mod view;

pub use state::{Ending, Event, IllegalTransition, RunState, apply};
pub use view::{AttemptView, EndedBecause, RunError, RunErrorKind, RunView};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::NewEvent;
use crate::flow::FlowVersion;
use crate::id::RunId;
use crate::lease::Lease;
use crate::message::TraceContext;
use crate::name::{Capability, Labels, QueueName, Tenant};
use crate::payload::Payload;
use crate::pool::Pool;
use crate::retry::RetryPolicy;
use jiff::Timestamp;

/// Which of a pool's three queues a run waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Shares of a worker's attention: low never starves.
    pub fn weight(self) -> u32 {
        match self {
            Self::High => 6,
            Self::Normal => 3,
            Self::Low => 1,
        }
    }
}

impl std::str::FromStr for Priority {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or_else(|| format!("priority {text:?} is not known: use high, normal or low"))
    }
}

/// What a flow is given. `variables` may hold credentials: it is never shown again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunInput {
    pub input: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub tweaks: Value,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub variables: std::collections::BTreeMap<String, String>,
    /// What a caller of Langflow's API asked beside these, for the engine to read.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub langflow: Value,
}

/// How a run is executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    pub max_attempts: u32,
    pub retry: RetryPolicy,
    /// Longest execution of one attempt, in seconds.
    pub timeout_s: f64,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            retry: RetryPolicy::default(),
            timeout_s: 3600.0,
        }
    }
}

/// The client's own key for a submission, and a digest of what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    pub key: String,
    /// Lower-case hex sha256 of the canonical request: the same key with another body is a conflict.
    pub digest: String,
}

/// A run to store. Everything is resolved and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    pub id: RunId,
    pub tenant: Tenant,
    pub flow: FlowVersion,
    pub queue: QueueName,
    /// What the flow needs of a worker.
    pub needs: Capability,
    pub priority: Priority,
    /// A [`RunInput`], possibly in the blob store.
    pub input: Payload,
    pub settings: RunSettings,
    pub session_id: Option<String>,
    pub labels: Labels,
    /// Later than now makes the run `scheduled`.
    pub run_at: Option<Timestamp>,
    /// Not started by then: `expired`.
    pub expires_at: Option<Timestamp>,
    /// Set when both times were reckoned from this reading of the caller's clock: the store reckons them from its own.
    pub reckoned_at: Option<Timestamp>,
    pub idempotency: Option<Idempotency>,
    pub trace: Option<TraceContext>,
    pub replay_of: Option<RunId>,
}

impl NewRun {
    /// Where it will wait.
    pub fn pool(&self) -> Pool {
        Pool {
            queue: self.queue.clone(),
            needs: self.needs.clone(),
        }
    }
}

/// A run that this worker now holds, with all it needs to execute it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedRun {
    pub lease: Lease,
    pub tenant: Tenant,
    pub flow: FlowVersion,
    pub queue: QueueName,
    pub priority: Priority,
    pub input: Payload,
    pub settings: RunSettings,
    pub session_id: Option<String>,
    pub interruptions: u32,
    pub queued_at: Timestamp,
    pub trace: Option<TraceContext>,
    /// The sequence of its `run.started`, which the claim wrote: what this worker appends comes after it.
    pub last_seq: u64,
    /// Nodes that finished in earlier attempts (invariant I5).
    pub checkpoints: Vec<NodeCheckpoint>,
}

/// The output of one finished node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeCheckpoint {
    pub node: String,
    pub output: Payload,
}

/// Tokens a run paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// Progress of a running run, written under its lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub lease: Lease,
    /// The sequence of the run's last event before these: the same progress written again is told by it.
    pub after_seq: u64,
    pub nodes: Vec<NodeCheckpoint>,
    pub events: Vec<NewEvent>,
}

/// The end of a run, written under its lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    pub lease: Lease,
    /// The sequence of the run's last event before these, as far as the holder knows. It only makes the write cheaper:
    /// one that is behind ends the run all the same.
    pub after_seq: u64,
    pub ending: Ending,
    /// Node events not yet written; the final event is added by the store.
    pub events: Vec<NewEvent>,
    pub output: Payload,
    pub outputs: Payload,
    pub error: Option<RunError>,
    pub usage: Usage,
    pub nodes_reused: u32,
}

/// A run given back before its end, written under its lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    pub lease: Lease,
    pub because: EndedBecause,
    /// `None`: straight back to the queue. `Some(delay)`: scheduled, a retry after this long.
    pub retry_in: Option<std::time::Duration>,
    pub error: Option<RunError>,
    pub nodes: Vec<NodeCheckpoint>,
    pub events: Vec<NewEvent>,
    pub usage: Usage,
    pub nodes_reused: u32,
}
