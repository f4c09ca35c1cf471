//! The history of a run as the store keeps it, and what must hold for it.
//!
//! Owns the invariants, their names, and one pure function, [`check`], that says which of them a history breaks. The
//! leader calls it on what was written lately, `flowfleet doctor --deep` on a whole store. Reading histories belongs to
//! the store, what to do about a violation to people.

mod check;
mod nodes;
mod timeline;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

pub use check::check;

use crate::event::RunEvent;
use crate::id::RunId;
use crate::run::{EndedBecause, RunState};

/// How much later than promised something may happen before it counts as stuck: a leader that vanished is followed by
/// another within 45 seconds, which then has to catch up.
pub const SLACK: Duration = Duration::from_secs(120);

/// What must hold for every history. The name is a label of metrics, so there are few of them and they stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    /// An accepted run has ended exactly once, or is live.
    EndedOnce,
    /// No output of a node was produced under two epochs and kept from both.
    OutputOnce,
    /// No finished node runs again once its checkpoint is committed.
    NodeNotRerun,
    /// The sequences of a run's events have no hole and no step back.
    SequenceWhole,
    /// Nothing waits for longer than a lease or a backoff lasts.
    NotStuck,
    /// Events follow the state machine, and only the holder of a lease writes.
    LegalSteps,
    /// Every claim made one epoch and every attempt ended once, for a reason that was counted.
    AttemptsAddUp,
    /// No row is left of a run that is gone, or that needs it no more.
    NothingOrphaned,
    /// Every row can be read.
    Readable,
}

impl Invariant {
    pub const ALL: [Self; 9] = [
        Self::EndedOnce,
        Self::OutputOnce,
        Self::NodeNotRerun,
        Self::SequenceWhole,
        Self::NotStuck,
        Self::LegalSteps,
        Self::AttemptsAddUp,
        Self::NothingOrphaned,
        Self::Readable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndedOnce => "ended_once",
            Self::OutputOnce => "output_once",
            Self::NodeNotRerun => "node_not_rerun",
            Self::SequenceWhole => "sequence_whole",
            Self::NotStuck => "not_stuck",
            Self::LegalSteps => "legal_steps",
            Self::AttemptsAddUp => "attempts_add_up",
            Self::NothingOrphaned => "nothing_orphaned",
            Self::Readable => "readable",
        }
    }

    /// What holds, in a few words.
    pub fn rule(self) -> &'static str {
        match self {
            Self::EndedOnce => "every accepted run ended exactly once or is live",
            Self::OutputOnce => "no node has outputs of two epochs",
            Self::NodeNotRerun => "no finished node ran again",
            Self::SequenceWhole => "events have no hole and no step back",
            Self::NotStuck => "nothing waits longer than lease and backoff",
            Self::LegalSteps => "events follow the state machine",
            Self::AttemptsAddUp => "every claim and every attempt is accounted for",
            Self::NothingOrphaned => "no rows are left of runs that are gone or over",
            Self::Readable => "every row can be read",
        }
    }

    /// What an operator does about a violation.
    pub fn advice(self) -> &'static str {
        match self {
            Self::EndedOnce => {
                "two processes ended one run, or its end is written in part: keep the store as it is and report a bug"
            }
            Self::OutputOnce => {
                "a worker that had lost its lease was not refused, or a write was applied twice: keep the store as it is \
                 and report a bug"
            }
            Self::NodeNotRerun => {
                "a node was paid for twice, or will be: look for \"no checkpoint\" in the logs of the workers (is the blob \
                 store there?); if there is none, report a bug"
            }
            Self::SequenceWhole => {
                "events were lost or written twice: was the store restored from a backup or edited? If not, report a bug"
            }
            Self::NotStuck => {
                "does a dispatcher lead (metric flowfleet_leader), do its broker and its store answer, and are the clocks of \
                 database and machines right?"
            }
            Self::LegalSteps => {
                "somebody wrote without a lease: was the store edited, or does a program of another version write to it?"
            }
            Self::AttemptsAddUp => {
                "a claim or the end of an attempt is written in part: keep the store as it is and report a bug"
            }
            Self::NothingOrphaned => {
                "were runs deleted by hand? Rows of runs that are gone, and checkpoints of ended runs, can be deleted"
            }
            Self::Readable => {
                "was the store edited, or written by a newer version? Upgrade this program, or report a bug"
            }
        }
    }
}

/// One broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Violation {
    pub invariant: Invariant,
    /// `None` when it is about no run.
    pub run: Option<RunId>,
    /// What was found, as a sentence.
    pub detail: String,
}

/// An attempt that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedAttempt {
    pub epoch: u64,
    pub attempt: u32,
    pub because: EndedBecause,
}

/// Everything the store holds about how a run went, read in one snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct RunHistory {
    pub run: RunId,
    pub state: RunState,
    pub attempt: u32,
    pub failures: u32,
    pub interruptions: u32,
    pub epoch: u64,
    pub last_seq: u64,
    pub queued_at: Option<Timestamp>,
    pub published_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub attempt_started_at: Option<Timestamp>,
    pub lease_until: Option<Timestamp>,
    pub run_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Longest execution of one attempt.
    pub timeout_s: f64,
    /// In the order in which they are stored.
    pub events: Vec<RunEvent>,
    /// In the order of their epochs.
    pub attempts: Vec<EndedAttempt>,
    /// Nodes that have a checkpoint.
    pub checkpoints: Vec<String>,
    /// What could not be read, as sentences; then the rest says nothing.
    pub damage: Vec<String>,
}

impl RunHistory {
    /// A run without a past, to be filled in.
    pub fn empty(run: RunId, state: RunState) -> Self {
        Self {
            run,
            state,
            attempt: 0,
            failures: 0,
            interruptions: 0,
            epoch: 0,
            last_seq: 0,
            queued_at: None,
            published_at: None,
            started_at: None,
            attempt_started_at: None,
            lease_until: None,
            run_at: None,
            expires_at: None,
            finished_at: None,
            timeout_s: crate::run::RunSettings::default().timeout_s,
            events: Vec::new(),
            attempts: Vec::new(),
            checkpoints: Vec::new(),
            damage: Vec::new(),
        }
    }

    /// A run whose rows cannot be read.
    pub fn unreadable(run: RunId, why: String) -> Self {
        Self {
            damage: vec![why],
            ..Self::empty(run, RunState::Queued)
        }
    }
}

/// A row that belongs to no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    pub table: String,
    pub run: RunId,
}

impl Stray {
    pub fn violation(&self) -> Violation {
        Violation {
            invariant: Invariant::NothingOrphaned,
            run: Some(self.run),
            detail: format!("{} has rows of a run that does not exist", self.table),
        }
    }
}
