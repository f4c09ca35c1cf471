//! The ports: what the services need from the outside, in the words of the domain.
//!
//! Each method says whether it is idempotent, ordered and lossy. Every adapter passes its port's one contract
//! suite.

mod blob;
mod bus;
mod chat;
mod fleet;
mod history;
mod knowledge;
mod queue;
mod store;

pub use blob::{BlobInfo, BlobStore};
pub use bus::{Bus, Live, LiveStream, Notice, NoticeKind, Place, WorkerPresence, WorkerState};
pub use chat::ChatStore;
pub use fleet::{FleetStore, Wish};
pub use history::{Histories, HistoryStore};
pub use knowledge::KnowledgeStore;
pub use queue::{Consumer, Delivery, Depth, Envelope, Queue, Receipt};
pub use store::{
    Actor, AuditEntry, Backlog, CancelOutcome, Claim, Fenced, FlowRecord, FlowStore, KeyRecord, KeyStore,
    Leadership, LeaseStore, NewFlow, NewKey, OutboxRow, Page, PutFlow, Renewal, Role, RunFilter, RunStore,
    Store, Submission, SubmitOutcome, Upkeep, UsedKey,
};

use crate::error::PortError;

/// What every port answers.
pub type Result<T> = std::result::Result<T, PortError>;
