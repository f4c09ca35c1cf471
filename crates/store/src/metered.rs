//! A decorator that times every operation of a store.

use std::future::Future;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use flowfleet_core::chat::{Recall, Remember, Said};
use flowfleet_core::history::Stray;
use flowfleet_core::knowledge::{Found, Ingest, Ingested, Knowledge, NewKnowledge, Search, SearchBy};
use flowfleet_core::port::{
    Actor, AuditEntry, Backlog, CancelOutcome, ChatStore, Claim, Fenced, FleetStore, FlowRecord, FlowStore,
    Histories, HistoryStore, KeyRecord, KeyStore, KnowledgeStore, Leadership, LeaseStore, NewFlow, NewKey,
    OutboxRow, Page, PutFlow, Renewal, Result, RunFilter, RunStore, Submission, Upkeep, UsedKey, Wish,
};
use flowfleet_core::run::{Finish, NewRun, Progress, Release, RunView};
use flowfleet_core::{
    Capabilities, FlowId, FlowName, FlowVersion, KeyId, KnowledgeName, Lease, Pool, RunEvent, RunId, Tenant,
    WorkerId,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::metrics::{CLAIM_BATCH_SIZE, OPERATION_SECONDS};

/// A store and how long it takes.
#[derive(Debug)]
pub(crate) struct Metered<S>(S);

impl<S> Metered<S> {
    pub(crate) fn new(store: S) -> Self {
        Self(store)
    }
}

async fn timed<T>(operation: &'static str, run: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let start = Instant::now();
    let answer = run.await;
    metrics::histogram!(OPERATION_SECONDS, "operation" => operation).record(start.elapsed().as_secs_f64());
    if let Err(error) = &answer {
        tracing::debug!(operation, kind = ?error.kind, %error, "store operation failed");
    }
    answer
}

#[async_trait]
impl<S: RunStore> RunStore for Metered<S> {
    async fn submit(&self, runs: &[NewRun]) -> Result<Submission> {
        timed("submit", self.0.submit(runs)).await
    }

    async fn used_keys(&self, tenant: &Tenant, keys: &[&str]) -> Result<Vec<UsedKey>> {
        timed("used_keys", self.0.used_keys(tenant, keys)).await
    }

    async fn get(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunView>> {
        timed("get", self.0.get(tenant, run)).await
    }

    async fn list(&self, tenant: &Tenant, filter: &RunFilter) -> Result<Page<RunView>> {
        timed("list", self.0.list(tenant, filter)).await
    }

    async fn events(
        &self,
        tenant: &Tenant,
        run: RunId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<RunEvent>>> {
        timed("events", self.0.events(tenant, run, after, limit)).await
    }

    async fn cancel(&self, tenant: &Tenant, run: RunId) -> Result<CancelOutcome> {
        timed("cancel", self.0.cancel(tenant, run)).await
    }

    async fn ahead_of(&self, run: RunId, cap: u32) -> Result<u32> {
        timed("ahead_of", self.0.ahead_of(run, cap)).await
    }

    async fn ping(&self) -> Result<()> {
        timed("ping", self.0.ping()).await
    }
}

#[async_trait]
impl<S: LeaseStore> LeaseStore for Metered<S> {
    async fn claim(
        &self,
        worker: WorkerId,
        can: &Capabilities,
        runs: &[RunId],
        ttl: Duration,
    ) -> Result<Vec<Claim>> {
        metrics::histogram!(CLAIM_BATCH_SIZE).record(runs.len() as f64);
        timed("claim", self.0.claim(worker, can, runs, ttl)).await
    }

    async fn renew(&self, worker: WorkerId, leases: &[Lease], ttl: Duration) -> Result<Vec<Renewal>> {
        timed("renew", self.0.renew(worker, leases, ttl)).await
    }

    async fn checkpoint(&self, progress: &[Progress]) -> Result<Vec<Fenced>> {
        timed("checkpoint", self.0.checkpoint(progress)).await
    }

    async fn finish(&self, runs: &[Finish]) -> Result<Vec<Fenced>> {
        timed("finish", self.0.finish(runs)).await
    }

    async fn release(&self, runs: &[Release]) -> Result<(Vec<Fenced>, Option<OutboxRow>)> {
        timed("release", self.0.release(runs)).await
    }
}

#[async_trait]
impl<S: Upkeep> Upkeep for Metered<S> {
    async fn outbox_done(&self, ids: &[i64]) -> Result<()> {
        timed("outbox_done", self.0.outbox_done(ids)).await
    }

    async fn outbox_leftover(&self, age: Duration, limit: u32) -> Result<Vec<OutboxRow>> {
        timed("outbox_leftover", self.0.outbox_leftover(age, limit)).await
    }

    async fn promote_due(&self, limit: u32) -> Result<(u32, Option<OutboxRow>)> {
        timed("promote_due", self.0.promote_due(limit)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        timed("next_due", self.0.next_due()).await
    }

    async fn reap(&self, limit: u32) -> Result<(Vec<RunEvent>, Option<OutboxRow>)> {
        timed("reap", self.0.reap(limit)).await
    }

    async fn expire(&self, limit: u32) -> Result<Vec<RunEvent>> {
        timed("expire", self.0.expire(limit)).await
    }

    async fn republish(&self, pool: &Pool, age: Duration, limit: u32) -> Result<Option<OutboxRow>> {
        timed("republish", self.0.republish(pool, age, limit)).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        timed("backlog", self.0.backlog()).await
    }

    async fn lead(&self, role: &str) -> Result<Option<Box<dyn Leadership>>> {
        timed("lead", self.0.lead(role)).await
    }

    async fn migrate(&self) -> Result<u32> {
        timed("migrate", self.0.migrate()).await
    }
}

#[async_trait]
impl<S: HistoryStore> HistoryStore for Metered<S> {
    async fn histories(&self, after: Option<RunId>, limit: u32) -> Result<Histories> {
        timed("histories", self.0.histories(after, limit)).await
    }

    async fn histories_of(&self, runs: &[RunId]) -> Result<Histories> {
        timed("histories_of", self.0.histories_of(runs)).await
    }

    async fn unfinished(&self, slack: Duration, limit: u32) -> Result<Vec<RunId>> {
        timed("unfinished", self.0.unfinished(slack, limit)).await
    }

    async fn strays(&self, after: Option<RunId>, upto: Option<RunId>, limit: u32) -> Result<Vec<Stray>> {
        timed("strays", self.0.strays(after, upto, limit)).await
    }

    async fn runs_after(&self, after: Option<RunId>) -> Result<u64> {
        timed("runs_after", self.0.runs_after(after)).await
    }
}

#[async_trait]
impl<S: FlowStore> FlowStore for Metered<S> {
    async fn put_flow(&self, flow: NewFlow) -> Result<PutFlow> {
        timed("put_flow", self.0.put_flow(flow)).await
    }

    async fn flow(
        &self,
        tenant: &Tenant,
        name: &FlowName,
        version: Option<u32>,
    ) -> Result<Option<FlowRecord>> {
        timed("flow", self.0.flow(tenant, name, version)).await
    }

    async fn flow_by_id(&self, tenant: &Tenant, id: FlowId) -> Result<Option<FlowRecord>> {
        timed("flow_by_id", self.0.flow_by_id(tenant, id)).await
    }

    async fn flow_document(&self, tenant: &Tenant, flow: &FlowVersion) -> Result<Option<Bytes>> {
        timed("flow_document", self.0.flow_document(tenant, flow)).await
    }

    async fn flows(&self, tenant: &Tenant, after: Option<&FlowName>, limit: u32) -> Result<Page<FlowRecord>> {
        timed("flows", self.0.flows(tenant, after, limit)).await
    }

    async fn delete_flow(&self, tenant: &Tenant, name: &FlowName) -> Result<bool> {
        timed("delete_flow", self.0.delete_flow(tenant, name)).await
    }
}

#[async_trait]
impl<S: KnowledgeStore> KnowledgeStore for Metered<S> {
    async fn create_knowledge(&self, tenant: &Tenant, new: &NewKnowledge) -> Result<Option<Knowledge>> {
        timed("create_knowledge", self.0.create_knowledge(tenant, new)).await
    }

    async fn knowledge(&self, tenant: &Tenant, name: &KnowledgeName) -> Result<Option<Knowledge>> {
        timed("knowledge", self.0.knowledge(tenant, name)).await
    }

    async fn knowledge_list(
        &self,
        tenant: &Tenant,
        after: Option<&KnowledgeName>,
        limit: u32,
    ) -> Result<Page<Knowledge>> {
        timed("knowledge_list", self.0.knowledge_list(tenant, after, limit)).await
    }

    async fn delete_knowledge(&self, tenant: &Tenant, name: &KnowledgeName) -> Result<bool> {
        timed("delete_knowledge", self.0.delete_knowledge(tenant, name)).await
    }

    async fn unknown_chunks(
        &self,
        tenant: &Tenant,
        knowledge: Uuid,
        chunks: &[(Uuid, String)],
    ) -> Result<Vec<bool>> {
        timed("unknown_chunks", self.0.unknown_chunks(tenant, knowledge, chunks)).await
    }

    async fn ingest(&self, ingest: &Ingest) -> Result<Ingested> {
        timed("ingest", self.0.ingest(ingest)).await
    }

    async fn search(&self, tenant: &Tenant, search: &Search) -> Result<Vec<Found>> {
        timed("search", self.0.search(tenant, search)).await
    }

    async fn searches_by(&self) -> Result<SearchBy> {
        timed("searches_by", self.0.searches_by()).await
    }
}

#[async_trait]
impl<S: ChatStore> ChatStore for Metered<S> {
    async fn remember(&self, messages: &[Remember], keep: u32) -> Result<Vec<bool>> {
        timed("remember", self.0.remember(messages, keep)).await
    }

    async fn recall(&self, tenant: &Tenant, wanted: &Recall) -> Result<Vec<Said>> {
        timed("recall", self.0.recall(tenant, wanted)).await
    }

    async fn sessions(
        &self,
        tenant: &Tenant,
        flow: Option<&FlowName>,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<String>> {
        timed("sessions", self.0.sessions(tenant, flow, offset, limit)).await
    }

    async fn forget(&self, tenant: &Tenant, session_id: &str) -> Result<u64> {
        timed("forget", self.0.forget(tenant, session_id)).await
    }
}

#[async_trait]
impl<S: FleetStore> FleetStore for Metered<S> {
    async fn wish(&self, worker: WorkerId, wish: Wish) -> Result<()> {
        timed("wish", self.0.wish(worker, wish)).await
    }

    async fn wished(&self, worker: WorkerId) -> Result<Option<Wish>> {
        timed("wished", self.0.wished(worker)).await
    }
}

#[async_trait]
impl<S: KeyStore> KeyStore for Metered<S> {
    async fn create_key(&self, key: NewKey) -> Result<KeyRecord> {
        timed("create_key", self.0.create_key(key)).await
    }

    async fn key_by_hash(&self, hash: &str) -> Result<Option<KeyRecord>> {
        timed("key_by_hash", self.0.key_by_hash(hash)).await
    }

    async fn keys(&self, tenant: &Tenant) -> Result<Vec<KeyRecord>> {
        timed("keys", self.0.keys(tenant)).await
    }

    async fn revoke_key(&self, tenant: &Tenant, key: KeyId) -> Result<bool> {
        timed("revoke_key", self.0.revoke_key(tenant, key)).await
    }

    async fn any_key(&self) -> Result<bool> {
        timed("any_key", self.0.any_key()).await
    }

    async fn audit(&self, actor: &Actor, action: &str, target: &str) -> Result<()> {
        timed("audit", self.0.audit(actor, action, target)).await
    }

    async fn audit_log(
        &self,
        tenant: &Tenant,
        before: Option<Timestamp>,
        limit: u32,
    ) -> Result<Page<AuditEntry>> {
        timed("audit_log", self.0.audit_log(tenant, before, limit)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use super::*;

    /// Remembers what histograms recorded.
    #[derive(Default)]
    struct Seen(Arc<Mutex<Vec<(String, f64)>>>);

    struct Line(String, Arc<Mutex<Vec<(String, f64)>>>);

    impl HistogramFn for Line {
        fn record(&self, value: f64) {
            self.1.lock().unwrap().push((self.0.clone(), value));
        }
    }

    impl Recorder for Seen {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            let labels: Vec<_> = key
                .labels()
                .map(|l| format!("{}={}", l.key(), l.value()))
                .collect();
            let name = format!("{} {}", key.name(), labels.join(","));
            Histogram::from_arc(Arc::new(Line(name, self.0.clone())))
        }
    }

    #[tokio::test]
    async fn every_operation_is_timed_and_claims_are_counted() {
        let seen = Seen::default();
        let lines = seen.0.clone();
        // The runtime of this test has one thread, so this recorder sees all of it.
        let _guard = metrics::set_default_local_recorder(&seen);
        let store = crate::open("sqlite::memory:", crate::Options::default())
            .await
            .unwrap();
        store.ping().await.unwrap_err();
        store.migrate().await.unwrap();
        let runs = [RunId::generate(), RunId::generate(), RunId::generate()];
        store
            .claim(
                WorkerId::generate(),
                &Capabilities::default(),
                &runs,
                Duration::from_secs(1),
            )
            .await
            .unwrap();
        let lines = lines.lock().unwrap();
        let names: Vec<_> = lines.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "flowfleet_store_operation_seconds operation=ping",
            "flowfleet_store_operation_seconds operation=migrate",
            "flowfleet_claim_batch_size ",
            "flowfleet_store_operation_seconds operation=claim",
        ];
        assert_eq!(names, expected);
        assert_eq!(lines[2].1, 3.0);
    }
}
