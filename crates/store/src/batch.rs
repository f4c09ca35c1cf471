//! What one transaction writes, as rows: the same for both databases.

use std::collections::BTreeMap;

use flowfleet_core::port::Envelope;
use serde::Serialize;

use crate::events::EventRow;
use crate::value::{Id, Time};

/// The new state of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunUpdate {
    pub(crate) id: Id,
    pub(crate) from_state: &'static str,
    pub(crate) epoch: i64,
    pub(crate) state: &'static str,
    pub(crate) failures: i32,
    pub(crate) interruptions: i32,
    pub(crate) last_seq: i64,
    pub(crate) queued_at: Option<Time>,
    pub(crate) run_at: Option<Time>,
    pub(crate) finished_at: Option<Time>,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
}

/// An attempt that ended.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AttemptRow {
    pub(crate) run: Id,
    pub(crate) epoch: i64,
    pub(crate) attempt: i32,
    pub(crate) worker: Id,
    pub(crate) started_at: Time,
    pub(crate) started_seq: i64,
    pub(crate) ended_at: Time,
    pub(crate) ended_because: &'static str,
    pub(crate) nodes_reused: i32,
    pub(crate) error: Option<String>,
    /// The events that came with its end.
    pub(crate) first_seq: i64,
    pub(crate) count: i32,
    pub(crate) events: String,
    pub(crate) output: Option<String>,
    pub(crate) outputs: Option<String>,
}

/// The output of a finished node.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckpointRow {
    pub(crate) run: Id,
    pub(crate) node: String,
    pub(crate) output: String,
}

/// A run whose events grew and whose state did not change.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Append {
    pub(crate) id: Id,
    pub(crate) epoch: i64,
    pub(crate) last_seq: i64,
}

/// Everything one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) updates: Vec<RunUpdate>,
    /// By run: a statement updates a row at most once.
    pub(crate) appends: BTreeMap<Id, Append>,
    /// Beside those that come with the end of an attempt.
    pub(crate) events: Vec<EventRow>,
    pub(crate) attempts: Vec<AttemptRow>,
    pub(crate) checkpoints: Vec<CheckpointRow>,
    /// Runs that ended: their checkpoints go.
    pub(crate) ended: Vec<Id>,
    pub(crate) envelopes: Vec<Envelope>,
}

pub(crate) fn int(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

pub(crate) fn long(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Batch {
    /// Checkpoints without repetitions, the last one of each node: a statement may write a row only once.
    pub(crate) fn distinct_checkpoints(&self) -> Vec<&CheckpointRow> {
        let mut last = BTreeMap::new();
        for row in &self.checkpoints {
            last.insert((row.run, row.node.as_str()), row);
        }
        last.into_values().collect()
    }
}
