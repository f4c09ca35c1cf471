//! What is submitted, how long things take, and which rules can be switched off to see the checker object.

use std::fmt;
use std::time::Duration;

use flowfleet_core::lease::Term;
use flowfleet_core::{Priority, RetryPolicy, RunId};
use jiff::Timestamp;
use uuid::Uuid;

/// Virtual time, in milliseconds since the beginning of a history.
pub(crate) type Ms = u64;

/// Nodes of the largest flow.
pub(crate) const NODES: usize = 4;

pub(crate) const WORKERS: usize = 3;
pub(crate) const DISPATCHERS: usize = 2;

/// The settings of the fleet. Shorter than a real fleet's, in the same proportions, so that a history has few steps.
pub(crate) const TERM: Term = Term {
    ttl: Duration::from_secs(12),
};
pub(crate) const TTL: Ms = 12_000;
pub(crate) const LEAD: Ms = 3_000;
pub(crate) const REAP: Ms = 2_000;
pub(crate) const SCHEDULE: Ms = 2_000;
pub(crate) const SWEEP: Ms = 4_000;
pub(crate) const SWEEP_AGE: Ms = 4_000;
pub(crate) const RECONCILE: Ms = 4_000;
pub(crate) const RECONCILE_AGE: Ms = 8_000;
pub(crate) const DRAIN: Ms = 5_000;
/// A process that ended is there again after this.
pub(crate) const RESTART: Ms = 1_000;
/// A backend that did not answer is asked again after this.
pub(crate) const BACKOFF: Ms = 500;
/// Longest execution of one attempt.
pub(crate) const TIMEOUT: Ms = 30_000;
pub(crate) const RETRY: RetryPolicy = RetryPolicy {
    backoff_s: 2.0,
    factor: 2.0,
    max_s: 8.0,
};

/// How long a run may take to its end once nothing goes wrong any more: what it may be waiting for, one after the
/// other. A lease has to run out and be reaped, or a delay to pass and be noticed; the message may have to wait for the
/// sweep and then, twice, for the reconciler, by a leader that has to be elected; nodes that were slow finish.
pub(crate) const PATIENCE: Ms = RESTART
    + LEAD * 2
    + TTL
    + REAP
    + 20_000
    + SCHEDULE
    + SWEEP
    + SWEEP_AGE
    + (RECONCILE * 3 + RECONCILE_AGE) * 2
    + TIMEOUT
    + 8_000
    + SCHEDULE;

/// What a run that ends its worker each time adds to that: it has to use up its interruptions.
pub(crate) const PATIENCE_WITH_POISON: Ms =
    (TTL + REAP + RESTART + BACKOFF) * (flowfleet_core::retry::MAX_INTERRUPTIONS as Ms + 1);

pub(crate) fn stamp(ms: Ms) -> Timestamp {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::MAX)
}

pub(crate) fn millis(duration: Duration) -> Ms {
    Ms::try_from(duration.as_millis()).unwrap_or(Ms::MAX)
}

/// A small flow: for each node, the set of those before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    before: &'static [u8],
}

pub(crate) const PLANS: [Plan; 4] = [
    Plan { before: &[0] },
    Plan { before: &[0, 0b1] },
    Plan {
        before: &[0, 0b1, 0b1, 0b110],
    },
    Plan {
        before: &[0, 0, 0b11],
    },
];

impl Plan {
    pub(crate) fn len(self) -> usize {
        self.before.len()
    }

    /// Whether `node` may start when `done` have finished.
    pub(crate) fn ready(self, node: usize, done: u8) -> bool {
        self.before[node] & !done == 0
    }

    pub(crate) fn all(self) -> u8 {
        (1 << self.len()) - 1
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) plan: Plan,
    pub(crate) max_attempts: u32,
    pub(crate) priority: Priority,
    pub(crate) delay: Option<Ms>,
    pub(crate) expires: Option<Ms>,
    /// Executing it ends the worker.
    pub(crate) poison: bool,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, attempts) = (self.plan.len(), self.max_attempts);
        write!(
            f,
            "{nodes} nodes, {attempts} attempts, {}",
            self.priority.as_str()
        )?;
        if let Some(delay) = self.delay {
            write!(f, ", after {delay} ms")?;
        }
        if let Some(expires) = self.expires {
            write!(f, ", expires after {expires} ms")?;
        }
        f.write_str(if self.poison { ", ends its workers" } else { "" })
    }
}

/// A run to store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    pub(crate) key: Option<u8>,
    /// Of what was asked for: the same key with another one is a conflict.
    pub(crate) digest: u8,
    pub(crate) spec: Spec,
}

pub(crate) fn run_id(number: u32) -> RunId {
    RunId(Uuid::from_u128(u128::from(number)))
}

/// The number that a readable trace calls a run by.
pub(crate) fn number(run: RunId) -> u128 {
    run.0.as_u128()
}

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule that is switched off, to prove that the checker notices.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[$doc])* $name,)*
        }

        impl Mutation {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is written on the command line.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        impl std::str::FromStr for Mutation {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|m| m.as_str() == text);
                found.copied().ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|m| m.as_str()).collect();
                    format!("use one of {}", known.join(", "))
                })
            }
        }
    };
}

mutations! {
    /// The store takes writes under any epoch while the run is running.
    StoreIgnoresEpochs,
    /// A second claim has the epoch of the first.
    ClaimKeepsEpoch,
    /// A run that is running can be claimed.
    ClaimTakesRunning,
    /// A run that is past its `expires_at` can be claimed.
    ClaimTakesExpired,
    /// The answer to a claim carries no checkpoints.
    ClaimForgetsCheckpoints,
    /// Progress that is written a second time is appended again.
    ProgressIsNotIdempotent,
    /// A second write of an end is applied again.
    FinishIsNotIdempotent,
    /// A run that was cancelled while it ran goes back to the queue with its worker.
    RequeueForgetsCancel,
    /// Losing a worker counts as a failure of the flow.
    InterruptionIsFailure,
    /// However often its workers are lost, the run goes back to the queue.
    InterruptionsHaveNoLimit,
    /// Appended events start at the sequence of the last one.
    SequenceStandsStill,
    /// A key that was used makes another run.
    KeysAreIgnored,
    /// The client hears of a run before it is committed.
    AnswerBeforeCommit,
    /// Messages are acknowledged before the claim is committed.
    AckBeforeClaim,
    /// Outbox rows are deleted before their messages are confirmed.
    DeleteBeforeConfirm,
    /// Nobody looks for rows left in the outbox.
    NoSweep,
    /// Nobody compares the broker with the store.
    NoReconciler,
    /// Nobody ends leases that ran out.
    NoReaper,
    /// Nobody moves due runs to the queue.
    NoScheduler,
    /// A worker that hands a run back keeps its checkpoints to itself, and so does the store.
    RequeueDropsCheckpoints,
    /// A worker takes more runs than it has slots.
    SlotsAreIgnored,
}
