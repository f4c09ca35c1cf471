//! What travels between the actors: questions, answers and signals. Each may be late, overtaken, lost or outlive its
//! sender; which of these can happen to what is decided in [`crate::faults`].

use std::fmt;

use flowfleet_core::port::{CancelOutcome, Envelope, OutboxRow, Renewal, SubmitOutcome};
use flowfleet_core::run::{EndedBecause, Ending};
use flowfleet_core::{EventKind, Lease, RunId, RunMessage, WorkerId};

use crate::model::{Ms, NODES, NewRun, Spec};

/// An actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Client,
    Dispatcher(u8),
    Worker(u8),
    Store,
    Broker,
}

/// An actor in one of its lives: what is meant for an earlier one never arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) place: Place,
    pub(crate) life: u32,
}

pub(crate) const STORE: Who = Who {
    place: Place::Store,
    life: 0,
};
pub(crate) const BROKER: Who = Who {
    place: Place::Broker,
    life: 0,
};
pub(crate) const CLIENT: Who = Who {
    place: Place::Client,
    life: 0,
};

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Client => f.write_str("client"),
            Place::Store => f.write_str("store"),
            Place::Broker => f.write_str("broker"),
            Place::Dispatcher(n) => write!(f, "dispatcher {n}.{}", self.life),
            Place::Worker(n) => write!(f, "worker {n}.{}", self.life),
        }
    }
}

/// Something under way.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) from: Who,
    pub(crate) to: Who,
    /// Which question this is or answers; 0 for what nobody answers.
    pub(crate) call: u32,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Store(StoreOp),
    Stored(Stored),
    /// Messages of these outbox rows.
    Publish {
        rows: Vec<i64>,
        envelopes: Vec<Envelope>,
    },
    Confirmed,
    /// The broker takes no messages for this pool.
    Refused,
    Depth,
    DepthIs(u64),
    /// The connection broke or nobody answered in time: nobody knows whether it was done.
    Away,
    /// From the broker to a worker, on its connection `generation`.
    Deliver {
        generation: u32,
        delivery: Delivery,
    },
    Consume {
        generation: u32,
    },
    Pause {
        generation: u32,
    },
    Ack {
        generation: u32,
        tags: Vec<u32>,
    },
    Reject {
        generation: u32,
        tags: Vec<u32>,
    },
    /// A worker's connection broke.
    ConnectionLost {
        generation: u32,
    },
    /// A process is gone, and with it its connections.
    Gone,
    Submit(NewRunRequest),
    Submitted(SubmitOutcome),
    Cancel(RunId),
    CancelDone(CancelOutcome),
    /// On the bus.
    CancelHint(RunId),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRunRequest {
    pub(crate) key: Option<u8>,
    pub(crate) digest: u8,
    pub(crate) spec: Spec,
}

#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) tag: u32,
    pub(crate) message: RunMessage,
}

/// A call of the store: one transaction.
#[derive(Debug, Clone)]
pub(crate) enum StoreOp {
    Submit(Vec<NewRun>),
    Cancel(RunId),
    Claim {
        worker: WorkerId,
        runs: Vec<RunId>,
        /// The deliveries that named them, for the checker only.
        tags: Vec<u32>,
    },
    Renew {
        worker: WorkerId,
        leases: Vec<Lease>,
    },
    Checkpoint(Vec<Progress>),
    Finish(Vec<Finish>),
    Release(Vec<Release>),
    OutboxDone(Vec<i64>),
    Leftover,
    Promote,
    Expire,
    Reap,
    Backlog,
    Republish(usize),
    Lead(Who),
    Holds(Who),
}

/// What the store answers.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    Submitted(Vec<SubmitOutcome>, Option<OutboxRow>),
    Cancelled(CancelOutcome),
    Claims(Vec<Option<Granted>>),
    Renewals(Vec<Renewal>),
    /// Whether each write was applied.
    Written(Vec<bool>, Option<OutboxRow>),
    Done,
    Rows(Vec<OutboxRow>),
    /// How many runs upkeep touched.
    Moved(usize, Option<OutboxRow>),
    Backlog(u64),
    Leads(bool),
}

/// A run with all that is needed to execute it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granted {
    pub(crate) lease: Lease,
    pub(crate) spec: Spec,
    pub(crate) last_seq: u64,
    /// For each node, the epoch that produced its checkpoint; 0 for none.
    pub(crate) outputs: [u64; NODES],
}

pub(crate) type NodeEvent = (EventKind, u8);

/// See [`flowfleet_core::run::Progress`].
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) lease: Lease,
    pub(crate) after_seq: u64,
    /// Nodes that finished under this lease.
    pub(crate) nodes: u8,
    pub(crate) events: Vec<NodeEvent>,
}

/// See [`flowfleet_core::run::Finish`].
#[derive(Debug, Clone)]
pub(crate) struct Finish {
    pub(crate) lease: Lease,
    pub(crate) ending: Ending,
    pub(crate) because: EndedBecause,
    pub(crate) events: Vec<NodeEvent>,
    /// Which epoch produced each node's part of the answer.
    pub(crate) outputs: [u64; NODES],
    /// It failed for good, whatever the number of attempts.
    pub(crate) permanent: bool,
}

/// See [`flowfleet_core::run::Release`].
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) lease: Lease,
    pub(crate) because: EndedBecause,
    pub(crate) retry_in: Option<Ms>,
    pub(crate) nodes: u8,
    pub(crate) events: Vec<NodeEvent>,
}
