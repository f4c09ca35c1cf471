//! What happened to a run, in order: the store's per-run sequence is the truth, the bus only a hint.

mod data;

pub use data::EventData;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::RunId;

/// The names of events, as streams show them. `node.token` is live only: it has no sequence and is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    #[serde(rename = "run.scheduled")]
    RunScheduled,
    #[serde(rename = "run.queued")]
    RunQueued,
    #[serde(rename = "run.started")]
    RunStarted,
    #[serde(rename = "node.started")]
    NodeStarted,
    #[serde(rename = "node.token")]
    NodeToken,
    #[serde(rename = "node.finished")]
    NodeFinished,
    #[serde(rename = "node.failed")]
    NodeFailed,
    #[serde(rename = "run.retrying")]
    RunRetrying,
    #[serde(rename = "run.interrupted")]
    RunInterrupted,
    #[serde(rename = "run.succeeded")]
    RunSucceeded,
    #[serde(rename = "run.failed")]
    RunFailed,
    #[serde(rename = "run.cancelled")]
    RunCancelled,
    #[serde(rename = "run.expired")]
    RunExpired,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunScheduled => "run.scheduled",
            Self::RunQueued => "run.queued",
            Self::RunStarted => "run.started",
            Self::NodeStarted => "node.started",
            Self::NodeToken => "node.token",
            Self::NodeFinished => "node.finished",
            Self::NodeFailed => "node.failed",
            Self::RunRetrying => "run.retrying",
            Self::RunInterrupted => "run.interrupted",
            Self::RunSucceeded => "run.succeeded",
            Self::RunFailed => "run.failed",
            Self::RunCancelled => "run.cancelled",
            Self::RunExpired => "run.expired",
        }
    }

    /// Whether a stream ends after it.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::RunSucceeded | Self::RunFailed | Self::RunCancelled | Self::RunExpired
        )
    }
}

/// An event to append; the store gives it its sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    pub kind: EventKind,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "EventData::is_null")]
    pub data: EventData,
}

/// A stored event. Sequences of a run start at 1 and have no holes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    pub run: RunId,
    pub seq: u64,
    pub kind: EventKind,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "EventData::is_null")]
    pub data: EventData,
}
