//! A run as it is read: by the API, by `explain`, by the console.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Priority, RunSettings, RunState, Usage};
use crate::flow::FlowVersion;
use crate::id::{RunId, WorkerId};
use crate::name::{Capability, Labels, QueueName, Tenant};
use crate::payload::Payload;

/// Where an error arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunErrorKind {
    /// A node of the flow failed.
    Node,
    /// The run took longer than its `timeout_s`.
    Timeout,
    /// The request does not fit the flow.
    Request,
    /// No worker could finish it: too many interruptions.
    Infrastructure,
    /// A fault of this program.
    Internal,
}

/// Why a run failed, as the user reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    pub kind: RunErrorKind,
    /// Stable and machine-readable, such as `model_timeout`.
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// The true reason an attempt ended (invariant I4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBecause {
    Succeeded,
    Failed,
    Cancelled,
    /// The flow ran longer than `timeout_s`.
    TimedOut,
    /// The worker drained and handed the run back.
    Interrupted,
    /// The worker's machine got a spot notice.
    SpotNotice,
    /// The worker was told to drain and gave the run away between two nodes.
    HandedOff,
    /// The lease ended without a word from the worker.
    WorkerLost,
}

impl EndedBecause {
    pub const ALL: [Self; 8] = [
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
        Self::Interrupted,
        Self::SpotNotice,
        Self::HandedOff,
        Self::WorkerLost,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::SpotNotice => "spot_notice",
            Self::HandedOff => "handed_off",
            Self::WorkerLost => "worker_lost",
        }
    }

    /// Whether losing a machine ended the attempt: then it does not count against `max_attempts`.
    pub fn is_interruption(self) -> bool {
        matches!(
            self,
            Self::Interrupted | Self::SpotNotice | Self::HandedOff | Self::WorkerLost
        )
    }

    /// Whether it counts towards the limit of interruptions and the wish for on-demand capacity. A run that was handed
    /// off lost nothing and is not to blame for it.
    pub fn counts_as_interruption(self) -> bool {
        self.is_interruption() && self != Self::HandedOff
    }
}

/// One attempt to execute a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptView {
    pub attempt: u32,
    pub epoch: u64,
    pub worker: WorkerId,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub ended_because: Option<EndedBecause>,
    pub nodes_reused: u32,
    pub error: Option<RunError>,
}

/// Everything about one run, its payloads perhaps still in the blob store.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    pub id: RunId,
    pub tenant: Tenant,
    pub flow: FlowVersion,
    pub queue: QueueName,
    /// What it needs of a worker.
    pub needs: Capability,
    pub priority: Priority,
    pub state: RunState,
    pub attempt: u32,
    pub interruptions: u32,
    pub settings: RunSettings,
    pub session_id: Option<String>,
    pub labels: Labels,
    /// `None` in lists: only `get` reads it.
    pub input: Option<Payload>,
    pub output: Option<Payload>,
    pub outputs: Option<Payload>,
    pub error: Option<RunError>,
    pub usage: Usage,
    pub created_at: Timestamp,
    pub queued_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// When a scheduled run is due.
    pub run_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub worker: Option<WorkerId>,
    pub lease_until: Option<Timestamp>,
    pub cancel_requested: bool,
    pub replay_of: Option<RunId>,
    /// Oldest first, the running one last; empty in lists.
    pub attempts: Vec<AttemptView>,
    pub last_seq: u64,
}
