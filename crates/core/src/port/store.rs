//! The store: the truth about runs, flows and keys.
//!
//! All times a store writes come from the store's own clock (the database's, or the host's for SQLite), so that
//! the clocks of dispatchers and workers decide nothing. Every query names its tenant, except those of workers
//! and of upkeep, which act for all. Every transition is checked with [`crate::run::apply`]'s table in the
//! statement itself: an update names the state it starts from.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::queue::Envelope;
use super::{ChatStore, FleetStore, HistoryStore, KnowledgeStore, Result};
use crate::event::RunEvent;
use crate::flow::FlowVersion;
use crate::id::{FlowId, KeyId, RunId, WorkerId};
use crate::lease::Lease;
use crate::name::{Capability, FlowName, QueueName, Tenant};
use crate::pool::{Capabilities, Pool};
use crate::run::{ClaimedRun, Finish, NewRun, Priority, Progress, Release, RunState, RunView};

/// Messages to publish, stored in the same transaction as the runs they speak of (the transactional outbox).
/// Whoever gets the row publishes it and then calls [`Upkeep::outbox_done`]; if it dies before that, the leader
/// finds the row by its age.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    pub id: i64,
    pub envelopes: Vec<Envelope>,
}

/// What became of one submitted run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    Created {
        id: RunId,
        state: RunState,
    },
    /// The idempotency key was used before for the same request.
    Existing {
        id: RunId,
        state: RunState,
    },
    /// The idempotency key was used before for another request.
    Conflict {
        id: RunId,
    },
}

/// The answer to a group of submissions: one outcome a run, in order, and at most one outbox row.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    pub outcomes: Vec<SubmitOutcome>,
    pub outbox: Option<OutboxRow>,
}

/// Which runs to list. Empty lists mean any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunFilter {
    pub states: Vec<RunState>,
    pub flow: Option<FlowName>,
    pub queue: Option<QueueName>,
    /// All of them must match.
    pub labels: Vec<(String, String)>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Only runs older than this one (the last of the page before).
    pub before: Option<RunId>,
    pub limit: u32,
}

/// One page of a listing, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether there is more behind the last item.
    pub more: bool,
}

/// What became of a request to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It had not started: it is cancelled.
    Cancelled,
    /// It runs: its worker has been asked to stop.
    Requested {
        worker: Option<WorkerId>,
    },
    /// It had ended before.
    AlreadyFinal(RunState),
    NotFound,
}

/// An idempotency key that a run was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedKey {
    pub key: String,
    /// Of the request that it was used for.
    pub digest: String,
    pub run: RunId,
}

/// Runs, as the API sees them.
#[async_trait]
pub trait RunStore: Send + Sync + std::fmt::Debug {
    /// Stores runs and one outbox row in one transaction: all or nothing, aside from runs whose idempotency key
    /// exists already (also within the same call). A run with `run_at` in the future becomes `scheduled`, others
    /// `queued`. Idempotent by key. Writes the first event of each.
    async fn submit(&self, runs: &[NewRun]) -> Result<Submission>;

    /// Those of `keys` that the tenant has used, in no order: a batch with a key of another request is refused before
    /// anything of it is stored.
    async fn used_keys(&self, tenant: &Tenant, keys: &[&str]) -> Result<Vec<UsedKey>>;

    /// One run with its payload references and attempts.
    async fn get(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunView>>;

    /// Newest first, without payloads and attempts.
    async fn list(&self, tenant: &Tenant, filter: &RunFilter) -> Result<Page<RunView>>;

    /// Events after `after` in order, at most `limit`. `None` when the tenant has no such run.
    async fn events(
        &self,
        tenant: &Tenant,
        run: RunId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<RunEvent>>>;

    /// Cancels a waiting run, or flags a running one. Idempotent.
    async fn cancel(&self, tenant: &Tenant, run: RunId) -> Result<CancelOutcome>;

    /// How many runs of its pool, all tenants, are ahead of a queued run: higher priority or queued earlier
    /// with the same. Counts to `cap` at most.
    async fn ahead_of(&self, run: RunId, cap: u32) -> Result<u32>;

    /// Whether the backend answers and carries the schema this program needs.
    async fn ping(&self) -> Result<()>;
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The caller now holds its lease.
    Claimed(Box<ClaimedRun>),
    /// It is running, ended, not due, unknown, or needs what the worker cannot do: the message is spent.
    NotClaimable,
}

/// The state of one lease at a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    Held { cancel: bool },
    Lost,
}

/// What became of a write under a lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Fenced {
    /// Written. The events that were appended, with their sequences.
    Applied { events: Vec<RunEvent> },
    /// The lease belongs to somebody else, or the run has ended: nothing was written (invariant I2).
    Stale,
}

/// Runs, as workers see them. Each method takes a batch and answers in its order, in one or few round trips.
#[async_trait]
pub trait LeaseStore: Send + Sync + std::fmt::Debug {
    /// Takes leases for `ttl`, of runs that need nothing but what the worker can do. Not idempotent: a second claim of
    /// the same run is `NotClaimable`. Duplicates within the call are claimed once.
    async fn claim(
        &self,
        worker: WorkerId,
        can: &Capabilities,
        runs: &[RunId],
        ttl: Duration,
    ) -> Result<Vec<Claim>>;

    /// Prolongs leases to now + `ttl`. Idempotent.
    async fn renew(&self, worker: WorkerId, leases: &[Lease], ttl: Duration) -> Result<Vec<Renewal>>;

    /// Stores outputs of finished nodes and appends events. Idempotent: each progress says after which sequence it
    /// comes, and since only the holder of a lease appends to a running run, one whose sequences are there already was
    /// written by an earlier call; it changes nothing and is answered as it was then. Progress of one run is written in
    /// its order; one that leaves a hole, or covers others in part, is a bug and refuses its whole batch.
    async fn checkpoint(&self, progress: &[Progress]) -> Result<Vec<Fenced>>;

    /// Ends runs: outcome, usage, attempt and final event in one transaction; checkpoints are dropped.
    /// A repeated call is `Stale`.
    async fn finish(&self, runs: &[Finish]) -> Result<Vec<Fenced>>;

    /// Gives runs back: to the queue (an interruption, with an outbox row), or to `scheduled` (a retry, which
    /// counts an attempt and keeps checkpoints). An interruption over the limit of
    /// [`crate::retry::after_interruption`] fails the run; one whose cancellation was asked for is cancelled.
    async fn release(&self, runs: &[Release]) -> Result<(Vec<Fenced>, Option<OutboxRow>)>;
}

/// What waits and runs in one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Backlog {
    pub queue: QueueName,
    pub needs: Capability,
    pub priority: Priority,
    pub scheduled: u64,
    pub queued: u64,
    pub running: u64,
    pub oldest_queued_at: Option<Timestamp>,
}

impl Backlog {
    pub fn pool(&self) -> Pool {
        Pool {
            queue: self.queue.clone(),
            needs: self.needs.clone(),
        }
    }
}

/// Held while this process leads; dropping it gives the leadership up.
#[async_trait]
pub trait Leadership: Send + Sync + std::fmt::Debug {
    /// Whether the leadership is still held (its connection lives).
    async fn holds(&mut self) -> bool;
}

/// What the leader does for all tenants. Every method is idempotent and harmless when two processes call it.
#[async_trait]
pub trait Upkeep: Send + Sync + std::fmt::Debug {
    /// Deletes rows whose messages the broker confirmed.
    async fn outbox_done(&self, ids: &[i64]) -> Result<()>;

    /// Rows older than `age`, oldest first: their owner died or could not publish.
    async fn outbox_leftover(&self, age: Duration, limit: u32) -> Result<Vec<OutboxRow>>;

    /// Moves due scheduled runs to the queue.
    async fn promote_due(&self, limit: u32) -> Result<(u32, Option<OutboxRow>)>;

    /// When the next scheduled run is due, if any.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// Ends leases that ran out: back to the queue as `worker_lost`, or cancelled, or failed after too many
    /// interruptions. Answers the events written, for the bus.
    async fn reap(&self, limit: u32) -> Result<(Vec<RunEvent>, Option<OutboxRow>)>;

    /// Expires waiting runs whose `expires_at` passed.
    async fn expire(&self, limit: u32) -> Result<Vec<RunEvent>>;

    /// A fresh outbox row for the oldest queued runs of a pool whose last message is older than `age`, and marks
    /// them as published now. For the reconciler, and at start for the memory queue (`age` zero).
    async fn republish(&self, pool: &Pool, age: Duration, limit: u32) -> Result<Option<OutboxRow>>;

    /// Per pool and priority, exact, from indexes that hold live runs only.
    async fn backlog(&self) -> Result<Vec<Backlog>>;

    /// Tries to become the leader for `role`; `None` when another process leads.
    async fn lead(&self, role: &str) -> Result<Option<Box<dyn Leadership>>>;

    /// Brings the schema to this program's version. Idempotent. Answers how many migrations ran.
    async fn migrate(&self) -> Result<u32>;
}

/// A flow to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewFlow {
    pub tenant: Tenant,
    pub name: FlowName,
    pub id: FlowId,
    pub digest: String,
    pub document: bytes::Bytes,
    pub nodes: u32,
    /// `native` or `python`.
    pub engine: String,
}

/// One stored version, without its document.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowRecord {
    pub flow: FlowVersion,
    pub id: FlowId,
    pub nodes: u32,
    pub engine: String,
    pub created_at: Timestamp,
}

/// What became of a stored flow.
#[derive(Debug, Clone, PartialEq)]
pub struct PutFlow {
    pub record: FlowRecord,
    /// False when the newest version has the same content already.
    pub created: bool,
}

/// Flows and their immutable versions.
#[async_trait]
pub trait FlowStore: Send + Sync + std::fmt::Debug {
    /// Stores a new version unless the newest has the same digest. Idempotent.
    async fn put_flow(&self, flow: NewFlow) -> Result<PutFlow>;

    /// The version named, or the newest.
    async fn flow(
        &self,
        tenant: &Tenant,
        name: &FlowName,
        version: Option<u32>,
    ) -> Result<Option<FlowRecord>>;

    /// The newest version of the flow whose newest version has this id: of several, the one stored last.
    async fn flow_by_id(&self, tenant: &Tenant, id: FlowId) -> Result<Option<FlowRecord>>;

    /// The document of a version; also of a deleted flow, for runs that still need it.
    async fn flow_document(&self, tenant: &Tenant, flow: &FlowVersion) -> Result<Option<bytes::Bytes>>;

    /// Newest version of each flow by name, after `after`.
    async fn flows(&self, tenant: &Tenant, after: Option<&FlowName>, limit: u32) -> Result<Page<FlowRecord>>;

    /// Hides a flow from `flow`, `flow_by_id` and `flows`; false when there is none. A later `put_flow` continues its numbers.
    async fn delete_flow(&self, tenant: &Tenant, name: &FlowName) -> Result<bool>;
}

/// What a key may do; each role may do what those after it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Admin,
    Submit,
    Read,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Admin, Self::Submit, Self::Read];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Submit => "submit",
            Self::Read => "read",
        }
    }

    /// Whether this role includes `needed`.
    pub fn includes(self, needed: Self) -> bool {
        (self as u8) <= (needed as u8)
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or_else(|| format!("role {text:?} is not known: use admin, submit or read"))
    }
}

/// A key to store: only its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct NewKey {
    pub id: KeyId,
    pub tenant: Tenant,
    pub name: String,
    pub role: Role,
    /// Lower-case hex sha256 of the whole key (keys carry 256 random bits, so a fast hash is right).
    pub hash: String,
}

/// A stored key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRecord {
    pub id: KeyId,
    pub tenant: Tenant,
    pub name: String,
    pub role: Role,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub tenant: Tenant,
    /// A key's id, or `loopback` or `cli`.
    pub name: String,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub target: String,
}

/// API keys and the audit log.
#[async_trait]
pub trait KeyStore: Send + Sync + std::fmt::Debug {
    /// Stores a key. Idempotent by id.
    async fn create_key(&self, key: NewKey) -> Result<KeyRecord>;

    /// The key with this hash, unless it was revoked.
    async fn key_by_hash(&self, hash: &str) -> Result<Option<KeyRecord>>;

    /// All keys of a tenant, newest first, revoked ones included.
    async fn keys(&self, tenant: &Tenant) -> Result<Vec<KeyRecord>>;

    /// Revokes a key; false when the tenant has no such live key.
    async fn revoke_key(&self, tenant: &Tenant, key: KeyId) -> Result<bool>;

    /// Whether any live key exists, of any tenant.
    async fn any_key(&self) -> Result<bool>;

    /// Appends to the audit log.
    async fn audit(&self, actor: &Actor, action: &str, target: &str) -> Result<()>;

    /// The newest entries of a tenant, older than `before`.
    async fn audit_log(
        &self,
        tenant: &Tenant,
        before: Option<Timestamp>,
        limit: u32,
    ) -> Result<Page<AuditEntry>>;
}

/// Everything a store offers.
pub trait Store:
    RunStore + LeaseStore + Upkeep + HistoryStore + FlowStore + KeyStore + ChatStore + KnowledgeStore + FleetStore
{
}

impl<T> Store for T where
    T: RunStore
        + LeaseStore
        + Upkeep
        + HistoryStore
        + FlowStore
        + KeyStore
        + ChatStore
        + KnowledgeStore
        + FleetStore
{
}
