//! A store that fails when told to, and counts what workers do with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flowfleet_core::chat::{Recall, Remember, Said};
use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::event::RunEvent;
use flowfleet_core::history::Stray;
use flowfleet_core::knowledge::{Found, Ingest, Ingested, Knowledge, NewKnowledge, Search, SearchBy};
use flowfleet_core::port::{
    Actor, AuditEntry, Backlog, CancelOutcome, ChatStore, Claim, Fenced, FleetStore, FlowRecord, FlowStore,
    Histories, HistoryStore, KeyRecord, KeyStore, KnowledgeStore, Leadership, LeaseStore, NewFlow, NewKey,
    OutboxRow, Page, PutFlow, Renewal, Result, RunFilter, RunStore, Store, Submission, Upkeep, UsedKey, Wish,
};
use flowfleet_core::run::{Finish, NewRun, Progress, Release, RunView};
use flowfleet_core::{
    Capabilities, FlowId, FlowName, FlowVersion, KeyId, KnowledgeName, Lease, Pool, RunId, Tenant, WorkerId,
};
use jiff::Timestamp;
use uuid::Uuid;

/// Delegates to a real store. Only what workers call fails.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    /// Workers get no answer but "away".
    pub(crate) away: AtomicBool,
    /// Renewals say that leases are lost.
    pub(crate) lost: AtomicBool,
    /// Batches of more than one finish are refused, and so is every finish that has an output.
    pub(crate) refuse_finish: AtomicBool,
    /// Every other call that writes under leases is carried out, and its caller hears that the store is away.
    pub(crate) unheard: AtomicBool,
    calls: AtomicU32,
    /// Runs held right now, and the most that ever were.
    running: AtomicUsize,
    pub(crate) most_running: AtomicUsize,
    /// Calls of `finish` that the store answered.
    pub(crate) finishes: AtomicU32,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            away: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            refuse_finish: AtomicBool::new(false),
            unheard: AtomicBool::new(false),
            calls: AtomicU32::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            finishes: AtomicU32::new(0),
        }
    }

    fn there(&self, operation: &'static str) -> Result<()> {
        if self.away.load(Ordering::SeqCst) {
            return Err(PortError::new(
                Kind::Retryable,
                operation,
                "the test took the store away",
            ));
        }
        Ok(())
    }

    /// The answer to a call that was carried out.
    fn heard<T>(&self, operation: &'static str, answer: T) -> Result<T> {
        if self.unheard.load(Ordering::SeqCst) && self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)
        {
            return Err(PortError::new(
                Kind::Retryable,
                operation,
                "the test lost the answer",
            ));
        }
        Ok(answer)
    }

    fn ended(&self, fenced: &[Fenced]) {
        let applied = fenced
            .iter()
            .filter(|f| matches!(f, Fenced::Applied { .. }))
            .count();
        self.running.fetch_sub(applied, Ordering::SeqCst);
    }
}

#[async_trait]
impl LeaseStore for Faulty {
    async fn claim(
        &self,
        worker: WorkerId,
        can: &Capabilities,
        runs: &[RunId],
        ttl: Duration,
    ) -> Result<Vec<Claim>> {
        self.there("claim")?;
        let claims = self.inner.claim(worker, can, runs, ttl).await?;
        let claimed = claims.iter().filter(|c| matches!(c, Claim::Claimed(_))).count();
        let running = self.running.fetch_add(claimed, Ordering::SeqCst) + claimed;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        Ok(claims)
    }

    async fn renew(&self, worker: WorkerId, leases: &[Lease], ttl: Duration) -> Result<Vec<Renewal>> {
        self.there("renew")?;
        if self.lost.load(Ordering::SeqCst) {
            return Ok(vec![Renewal::Lost; leases.len()]);
        }
        self.inner.renew(worker, leases, ttl).await
    }

    async fn checkpoint(&self, progress: &[Progress]) -> Result<Vec<Fenced>> {
        self.there("checkpoint")?;
        self.heard("checkpoint", self.inner.checkpoint(progress).await?)
    }

    async fn finish(&self, runs: &[Finish]) -> Result<Vec<Fenced>> {
        self.there("finish")?;
        let with_output = runs.iter().any(|run| run.error.is_none());
        if self.refuse_finish.load(Ordering::SeqCst) && (runs.len() > 1 || with_output) {
            return Err(PortError::new(Kind::Permanent, "finish", "the test refuses this"));
        }
        let fenced = self.inner.finish(runs).await?;
        self.finishes.fetch_add(1, Ordering::SeqCst);
        self.ended(&fenced);
        self.heard("finish", fenced)
    }

    async fn release(&self, runs: &[Release]) -> Result<(Vec<Fenced>, Option<OutboxRow>)> {
        self.there("release")?;
        let (fenced, outbox) = self.inner.release(runs).await?;
        self.ended(&fenced);
        self.heard("release", (fenced, outbox))
    }
}

#[async_trait]
impl RunStore for Faulty {
    async fn submit(&self, runs: &[NewRun]) -> Result<Submission> {
        self.inner.submit(runs).await
    }

    async fn used_keys(&self, tenant: &Tenant, keys: &[&str]) -> Result<Vec<UsedKey>> {
        self.inner.used_keys(tenant, keys).await
    }

    async fn get(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunView>> {
        self.inner.get(tenant, run).await
    }

    async fn list(&self, tenant: &Tenant, filter: &RunFilter) -> Result<Page<RunView>> {
        self.inner.list(tenant, filter).await
    }

    async fn events(
        &self,
        tenant: &Tenant,
        run: RunId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<RunEvent>>> {
        self.inner.events(tenant, run, after, limit).await
    }

    async fn cancel(&self, tenant: &Tenant, run: RunId) -> Result<CancelOutcome> {
        self.inner.cancel(tenant, run).await
    }

    async fn ahead_of(&self, run: RunId, cap: u32) -> Result<u32> {
        self.inner.ahead_of(run, cap).await
    }

    async fn ping(&self) -> Result<()> {
        self.there("ping")?;
        self.inner.ping().await
    }
}

#[async_trait]
impl Upkeep for Faulty {
    async fn outbox_done(&self, ids: &[i64]) -> Result<()> {
        self.there("outbox_done")?;
        self.inner.outbox_done(ids).await
    }

    async fn outbox_leftover(&self, age: Duration, limit: u32) -> Result<Vec<OutboxRow>> {
        self.inner.outbox_leftover(age, limit).await
    }

    async fn promote_due(&self, limit: u32) -> Result<(u32, Option<OutboxRow>)> {
        self.inner.promote_due(limit).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.inner.next_due().await
    }

    async fn reap(&self, limit: u32) -> Result<(Vec<RunEvent>, Option<OutboxRow>)> {
        self.inner.reap(limit).await
    }

    async fn expire(&self, limit: u32) -> Result<Vec<RunEvent>> {
        self.inner.expire(limit).await
    }

    async fn republish(&self, pool: &Pool, age: Duration, limit: u32) -> Result<Option<OutboxRow>> {
        self.inner.republish(pool, age, limit).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        self.inner.backlog().await
    }

    async fn lead(&self, role: &str) -> Result<Option<Box<dyn Leadership>>> {
        self.inner.lead(role).await
    }

    async fn migrate(&self) -> Result<u32> {
        self.inner.migrate().await
    }
}

#[async_trait]
impl HistoryStore for Faulty {
    async fn histories(&self, after: Option<RunId>, limit: u32) -> Result<Histories> {
        self.inner.histories(after, limit).await
    }

    async fn histories_of(&self, runs: &[RunId]) -> Result<Histories> {
        self.inner.histories_of(runs).await
    }

    async fn unfinished(&self, slack: Duration, limit: u32) -> Result<Vec<RunId>> {
        self.inner.unfinished(slack, limit).await
    }

    async fn strays(&self, after: Option<RunId>, upto: Option<RunId>, limit: u32) -> Result<Vec<Stray>> {
        self.inner.strays(after, upto, limit).await
    }

    async fn runs_after(&self, after: Option<RunId>) -> Result<u64> {
        self.inner.runs_after(after).await
    }
}

#[async_trait]
impl FlowStore for Faulty {
    async fn put_flow(&self, flow: NewFlow) -> Result<PutFlow> {
        self.inner.put_flow(flow).await
    }

    async fn flow(
        &self,
        tenant: &Tenant,
        name: &FlowName,
        version: Option<u32>,
    ) -> Result<Option<FlowRecord>> {
        self.inner.flow(tenant, name, version).await
    }

    async fn flow_by_id(&self, tenant: &Tenant, id: FlowId) -> Result<Option<FlowRecord>> {
        self.inner.flow_by_id(tenant, id).await
    }

    async fn flow_document(&self, tenant: &Tenant, flow: &FlowVersion) -> Result<Option<Bytes>> {
        self.there("flow_document")?;
        self.inner.flow_document(tenant, flow).await
    }

    async fn flows(&self, tenant: &Tenant, after: Option<&FlowName>, limit: u32) -> Result<Page<FlowRecord>> {
        self.inner.flows(tenant, after, limit).await
    }

    async fn delete_flow(&self, tenant: &Tenant, name: &FlowName) -> Result<bool> {
        self.inner.delete_flow(tenant, name).await
    }
}

#[async_trait]
impl ChatStore for Faulty {
    async fn remember(&self, messages: &[Remember], keep: u32) -> Result<Vec<bool>> {
        self.there("remember")?;
        self.heard("remember", self.inner.remember(messages, keep).await?)
    }

    async fn recall(&self, tenant: &Tenant, wanted: &Recall) -> Result<Vec<Said>> {
        self.there("recall")?;
        self.inner.recall(tenant, wanted).await
    }

    async fn sessions(
        &self,
        tenant: &Tenant,
        flow: Option<&FlowName>,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<String>> {
        self.inner.sessions(tenant, flow, offset, limit).await
    }

    async fn forget(&self, tenant: &Tenant, session_id: &str) -> Result<u64> {
        self.inner.forget(tenant, session_id).await
    }
}

#[async_trait]
impl KnowledgeStore for Faulty {
    async fn create_knowledge(&self, tenant: &Tenant, new: &NewKnowledge) -> Result<Option<Knowledge>> {
        self.inner.create_knowledge(tenant, new).await
    }

    async fn knowledge(&self, tenant: &Tenant, name: &KnowledgeName) -> Result<Option<Knowledge>> {
        self.there("knowledge")?;
        self.inner.knowledge(tenant, name).await
    }

    async fn knowledge_list(
        &self,
        tenant: &Tenant,
        after: Option<&KnowledgeName>,
        limit: u32,
    ) -> Result<Page<Knowledge>> {
        self.inner.knowledge_list(tenant, after, limit).await
    }

    async fn delete_knowledge(&self, tenant: &Tenant, name: &KnowledgeName) -> Result<bool> {
        self.inner.delete_knowledge(tenant, name).await
    }

    async fn unknown_chunks(
        &self,
        tenant: &Tenant,
        knowledge: Uuid,
        chunks: &[(Uuid, String)],
    ) -> Result<Vec<bool>> {
        self.there("unknown_chunks")?;
        self.inner.unknown_chunks(tenant, knowledge, chunks).await
    }

    async fn ingest(&self, ingest: &Ingest) -> Result<Ingested> {
        self.there("ingest")?;
        self.heard("ingest", self.inner.ingest(ingest).await?)
    }

    async fn search(&self, tenant: &Tenant, search: &Search) -> Result<Vec<Found>> {
        self.there("search")?;
        self.inner.search(tenant, search).await
    }

    async fn searches_by(&self) -> Result<SearchBy> {
        self.inner.searches_by().await
    }
}

#[async_trait]
impl FleetStore for Faulty {
    async fn wish(&self, worker: WorkerId, wish: Wish) -> Result<()> {
        self.there("wish")?;
        self.inner.wish(worker, wish).await
    }

    async fn wished(&self, worker: WorkerId) -> Result<Option<Wish>> {
        self.there("wished")?;
        self.inner.wished(worker).await
    }
}

#[async_trait]
impl KeyStore for Faulty {
    async fn create_key(&self, key: NewKey) -> Result<KeyRecord> {
        self.inner.create_key(key).await
    }

    async fn key_by_hash(&self, hash: &str) -> Result<Option<KeyRecord>> {
        self.inner.key_by_hash(hash).await
    }

    async fn keys(&self, tenant: &Tenant) -> Result<Vec<KeyRecord>> {
        self.inner.keys(tenant).await
    }

    async fn revoke_key(&self, tenant: &Tenant, key: KeyId) -> Result<bool> {
        self.inner.revoke_key(tenant, key).await
    }

    async fn any_key(&self) -> Result<bool> {
        self.inner.any_key().await
    }

    async fn audit(&self, actor: &Actor, action: &str, target: &str) -> Result<()> {
        self.inner.audit(actor, action, target).await
    }

    async fn audit_log(
        &self,
        tenant: &Tenant,
        before: Option<Timestamp>,
        limit: u32,
    ) -> Result<Page<AuditEntry>> {
        self.inner.audit_log(tenant, before, limit).await
    }
}
