//! Who watches. Keeps its own books of what each transaction changed and of what actors did, and compares them with
//! the invariants: it trusts no decision of the store that it watches.

mod rows;

use std::fmt;

use flowfleet_core::RunId;
use flowfleet_core::RunState;
use flowfleet_core::lease::Lease;
use flowfleet_core::port::{CancelOutcome, SubmitOutcome};

use crate::model::{NODES, number};
use crate::store::Store;
use crate::wire::Who;

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What must hold in every history.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Invariant {
            $($(#[$doc])* $name,)*
        }

        impl Invariant {
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

invariants! {
    Transition = "a run moves only as the state machine allows",
    EndsOnce = "a run ends once, and nothing changes it afterwards",
    EpochGrows = "each claim raises the epoch, and nothing else does",
    OneHolder = "one worker at a time executes under an epoch",
    Fenced = "a write under a stale lease changes nothing",
    OneOutput = "a node's output is produced under one epoch",
    NotAgain = "a node whose checkpoint was committed is not executed again",
    KeepsCheckpoints = "a live run keeps its checkpoints",
    Sequence = "events have sequences without holes and steps back",
    InTurn = "progress comes after what its worker wrote before, and nobody else writes in between",
    ToldOnce = "what a node does under an epoch is written once",
    OneFinalEvent = "the last event of a run that ended is its only final one",
    Counted = "attempts, failures and interruptions are counted as the rules say",
    FailsForAReason = "a run fails after a refusal, its last attempt or too many interruptions",
    CancelHonoured = "a run whose cancellation was accepted is not executed anew",
    NotAfterExpiry = "a run that is too late is not started",
    OneRunAKey = "one run a key, and everybody is told the same one",
    Kept = "a run that was accepted is in the store",
    AfterClaim = "a message is acknowledged after its claim was decided",
    Confirmed = "an outbox row is deleted after its messages were confirmed",
    Slots = "a worker holds no more runs than it has slots",
    Ends = "every run ends when faults end",
    OutboxEmpties = "the outbox empties when faults end",
    Settles = "the fleet comes to rest when faults end",
}

/// Something that must not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: Invariant,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.as_str(), self.detail)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) violation: Option<Violation>,
    books: Vec<rows::Book>,
    /// By tag of a delivery: its claim was decided.
    decided: Vec<bool>,
    /// By outbox row: its messages were with the broker, or refused by it.
    published: Vec<bool>,
    /// Runs that clients were told of, with their keys.
    accepted: Vec<(Option<u8>, RunId)>,
    poison: bool,
}

fn mark(marks: &mut Vec<bool>, at: usize) -> bool {
    if marks.len() <= at {
        marks.resize(at + 1, false);
    }
    !std::mem::replace(&mut marks[at], true)
}

fn marked(marks: &[bool], at: usize) -> bool {
    marks.get(at).copied().unwrap_or(false)
}

fn place(id: i64) -> usize {
    usize::try_from(id).unwrap_or_default()
}

impl Checker {
    /// The first violation counts: what follows it may follow from it.
    pub(crate) fn violate(&mut self, invariant: Invariant, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation {
                invariant,
                detail: detail(),
            });
        }
    }

    fn demand(&mut self, holds: bool, invariant: Invariant, detail: impl FnOnce() -> String) {
        if !holds {
            self.violate(invariant, detail);
        }
    }

    pub(crate) fn poisoned(&mut self) {
        self.poison = true;
    }

    pub(crate) fn has_poison(&self) -> bool {
        self.poison
    }

    /// The broker has the messages of a row; whether for the first time.
    pub(crate) fn published(&mut self, row: i64) -> bool {
        mark(&mut self.published, place(row))
    }

    pub(crate) fn acknowledged(&mut self, tags: &[u32]) {
        let early = tags.iter().find(|tag| !marked(&self.decided, **tag as usize));
        if let Some(tag) = early.copied() {
            self.violate(Invariant::AfterClaim, || format!("message {tag}"));
        }
    }

    pub(crate) fn holds(&mut self, who: Who, held: usize, slots: usize) {
        self.demand(held <= slots, Invariant::Slots, || {
            format!("{who} holds {held} with {slots} slots")
        });
    }

    pub(crate) fn node_started(&mut self, who: Who, lease: &Lease, node: usize) {
        let Some(book) = self.books.iter_mut().find(|book| book.id == lease.run) else {
            return self.violate(Invariant::OneHolder, || format!("{who} executes an unknown run"));
        };
        let run = number(lease.run);
        let holder = book.holder(lease.epoch, who);
        let known = book.finished_before(lease.epoch)[node];
        self.demand(holder == who, Invariant::OneHolder, || {
            format!("run {run}, epoch {}: {holder} and {who}", lease.epoch)
        });
        self.demand(known == 0, Invariant::NotAgain, || {
            format!(
                "run {run}, node {node}: finished under epoch {known}, again under {}",
                lease.epoch
            )
        });
    }

    /// A client was told that its run is accepted.
    pub(crate) fn accepted(&mut self, store: &Store, key: Option<u8>, id: RunId) {
        let run = number(id);
        self.demand(store.row(id).is_some(), Invariant::Kept, || {
            format!("a client was told of run {run} before it was stored")
        });
        let other = self
            .accepted
            .iter()
            .find(|(of, other)| key.is_some() && *of == key && *other != id);
        if let Some((_, other)) = other.copied() {
            self.violate(Invariant::OneRunAKey, || {
                format!("runs {} and {run}", number(other))
            });
        }
        self.accepted.push((key, id));
    }

    pub(crate) fn wrong_conflict(&mut self) {
        self.violate(Invariant::OneRunAKey, || {
            "a client's own key is a conflict".to_owned()
        });
    }

    /// The answer to another submission with the key of an accepted run.
    pub(crate) fn echoed(&mut self, first: Option<RunId>, outcome: &SubmitOutcome, conflicting: bool) {
        let same = match outcome {
            SubmitOutcome::Existing { id, .. } => !conflicting && Some(*id) == first,
            SubmitOutcome::Conflict { id } => conflicting && Some(*id) == first,
            SubmitOutcome::Created { .. } => false,
        };
        self.demand(same, Invariant::OneRunAKey, || {
            format!(
                "run {:?} was accepted, its key again: {outcome:?}",
                first.map(number)
            )
        });
    }

    /// A client was told what became of its request to cancel.
    pub(crate) fn cancelled(&mut self, store: &Store, run: RunId, outcome: &CancelOutcome) {
        let row = store.row(run);
        let honoured = match (outcome, row) {
            (CancelOutcome::NotFound, _) | (_, None) => {
                return self.violate(Invariant::Kept, || format!("run {} is unknown", number(run)));
            }
            (CancelOutcome::Cancelled, Some(row)) => row.state == RunState::Cancelled,
            (CancelOutcome::Requested { .. }, Some(row)) => row.cancel_requested,
            (CancelOutcome::AlreadyFinal(state), Some(row)) => row.state == *state,
        };
        self.demand(honoured, Invariant::CancelHonoured, || {
            format!(
                "run {}: {outcome:?} was answered, and it is {:?}",
                number(run),
                row.map(|r| r.state)
            )
        });
    }

    /// Everything is at rest, or should be.
    pub(crate) fn at_rest(&mut self, store: &Store, settled: bool) {
        for row in &store.rows {
            self.demand(row.state.is_final(), Invariant::Ends, || {
                format!("run {} is {} for ever", number(row.id), row.state.as_str())
            });
            self.demand(row.outputs == [0; NODES], Invariant::EndsOnce, || {
                format!("run {} ended and has checkpoints", number(row.id))
            });
        }
        let left = store.outbox.len();
        self.demand(left == 0, Invariant::OutboxEmpties, || {
            format!("{left} rows are left")
        });
        for (_, id) in std::mem::take(&mut self.accepted) {
            self.demand(store.row(id).is_some(), Invariant::Kept, || {
                format!("run {} is gone", number(id))
            });
        }
        self.demand(settled, Invariant::Settles, || {
            "something is still under way".to_owned()
        });
    }
}
