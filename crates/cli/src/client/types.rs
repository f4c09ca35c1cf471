//! What the dispatcher answers, as far as this program reads it. Unknown fields are fine: servers may be newer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A listing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    #[serde(default)]
    pub next_cursor: Option<String>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            next_cursor: None,
        }
    }
}

/// One stored version of a flow.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Flow {
    pub name: String,
    pub version: u32,
    #[serde(default)]
    pub digest: String,
    #[serde(default)]
    pub nodes: u64,
    #[serde(default)]
    pub engine: String,
    #[serde(default)]
    pub unsupported: Vec<String>,
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    #[serde(default)]
    pub warnings: Vec<Value>,
}

/// A run.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Run {
    pub id: String,
    pub state: String,
    #[serde(default)]
    pub flow: String,
    #[serde(default)]
    pub version: Option<u32>,
    #[serde(default)]
    pub queue: String,
    #[serde(default)]
    pub priority: String,
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub max_attempts: u32,
    #[serde(default)]
    pub interruptions: u32,
    #[serde(default)]
    pub input: Value,
    #[serde(default)]
    pub output: Value,
    #[serde(default)]
    pub error: Option<RunFault>,
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    #[serde(default)]
    pub run_at: Option<Timestamp>,
    #[serde(default)]
    pub wait_s: Option<f64>,
    #[serde(default)]
    pub duration_s: Option<f64>,
    #[serde(default)]
    pub usage: Usage,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    #[serde(default)]
    pub replay_of: Option<String>,
}

impl Run {
    pub(crate) fn ended(&self) -> bool {
        matches!(
            self.state.as_str(),
            "succeeded" | "failed" | "cancelled" | "expired"
        )
    }

    pub(crate) fn flow_ref(&self) -> String {
        match self.version {
            Some(version) => format!("{}@{version}", self.flow),
            None => self.flow.clone(),
        }
    }
}

/// Why a run failed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RunFault {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub node: Option<String>,
}

/// Tokens a run paid for.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Usage {
    #[serde(default)]
    pub input_tokens: u64,
    #[serde(default)]
    pub output_tokens: u64,
}

/// One attempt at a run.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attempt {
    pub attempt: u32,
    #[serde(default)]
    pub worker: String,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    #[serde(default)]
    pub ended_because: Option<String>,
    #[serde(default)]
    pub nodes_reused: u32,
}

/// A worker that announced itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Worker {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub queues: Vec<String>,
    #[serde(default)]
    pub capabilities: Vec<String>,
    #[serde(default)]
    pub slots: u64,
    #[serde(default)]
    pub busy: u64,
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub lifecycle: String,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub seen_at: Option<Timestamp>,
}
