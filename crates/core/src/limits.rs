//! What a request may ask for at most. Every limit has a reason a user can be told.

use serde::{Deserialize, Serialize};

/// Limits of the dispatcher; all can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request body, batches and flows aside.
    pub body_bytes: usize,
    /// Bytes of a flow document.
    pub flow_bytes: usize,
    /// Bytes of a file for flows to read.
    pub file_bytes: usize,
    /// Bytes of a batch body.
    pub batch_bytes: usize,
    /// Runs in one batch.
    pub batch_runs: usize,
    /// Nodes of a flow after its groups are flattened.
    pub flow_nodes: usize,
    /// Requests served at once; more are answered 503 with `Retry-After`.
    pub concurrent_requests: usize,
    /// Event streams and waiting requests at once.
    pub listeners: usize,
    /// Longest `wait_s`.
    pub wait_s: u64,
    /// Longest `timeout_s` of a run.
    pub timeout_s: u64,
    /// Largest `max_attempts`.
    pub max_attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            flow_bytes: 16 << 20,
            file_bytes: 64 << 20,
            batch_bytes: 64 << 20,
            batch_runs: 10_000,
            flow_nodes: 2_000,
            concurrent_requests: 2_048,
            listeners: 10_000,
            wait_s: 300,
            timeout_s: 7 * 24 * 3600,
            max_attempts: 100,
        }
    }
}
