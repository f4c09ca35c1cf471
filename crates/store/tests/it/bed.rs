//! A store on a database of its own, and short words for what the cases do with it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::port::{Claim, Fenced, RunFilter, Store, SubmitOutcome};
use flowfleet_core::run::{
    ClaimedRun, EndedBecause, Ending, Finish, Idempotency, NewRun, NodeCheckpoint, Progress, Release,
    RunSettings, RunView, Usage,
};
use flowfleet_core::{
    Capabilities, Capability, EventKind, FlowVersion, Lease, NewEvent, Payload, Priority, RunEvent, RunId,
    Tenant, WorkerId,
};
use flowfleet_store::{Options, open};
use serde_json::{Value, json};
use sqlx::{Connection, Executor as _, PgConnection};

pub(crate) const TTL: Duration = Duration::from_secs(60);
/// A lease that is over as soon as it is given.
pub(crate) const OVER: Duration = Duration::ZERO;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// What a case is given.
#[derive(Clone)]
pub(crate) struct Bed {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) url: String,
    pub(crate) tenant: Tenant,
    pub(crate) worker: WorkerId,
}

fn server() -> String {
    std::env::var("FLOWFLEET_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

async fn administer(statement: String) {
    let mut server = PgConnection::connect(&server())
        .await
        .expect("PostgreSQL must run for this suite (FLOWFLEET_TEST_POSTGRES)");
    server.execute(statement.as_str()).await.unwrap();
    server.close().await.unwrap();
}

/// Runs a case on an empty, migrated database, which goes away afterwards, also when the case fails.
pub(crate) async fn run<F, Fut>(dialect: Dialect, case: F)
where
    F: FnOnce(Bed) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let name = format!("ff_store_{}", uuid::Uuid::now_v7().simple());
    let url = match dialect {
        Dialect::Postgres => {
            administer(format!("CREATE DATABASE {name}")).await;
            let mut url = url::Url::parse(&server()).unwrap();
            url.set_path(&name);
            url.to_string()
        }
        Dialect::Sqlite => format!("sqlite:{}", folder.path().join("store.db").display()),
    };
    let bed = Bed::open(&url).await;
    // Its own task, so that a panic does not keep the database.
    let outcome = tokio::spawn(case(bed)).await;
    if dialect == Dialect::Postgres {
        administer(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }
    if let Err(failed) = outcome {
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// Waits until `poll` answers, at most ten seconds.
pub(crate) async fn until<T, Fut: Future<Output = Option<T>>>(what: &str, poll: impl Fn() -> Fut) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn new_run(tenant: &Tenant) -> NewRun {
    NewRun {
        id: RunId::generate(),
        tenant: tenant.clone(),
        flow: FlowVersion {
            name: "hello".parse().unwrap(),
            version: 1,
            digest: "d1".to_owned(),
        },
        queue: "default".parse().unwrap(),
        needs: Capability::native(),
        priority: Priority::Normal,
        input: Payload::Inline(json!({ "input": "hi" })),
        settings: RunSettings::default(),
        session_id: None,
        labels: Default::default(),
        run_at: None,
        expires_at: None,
        reckoned_at: None,
        idempotency: None,
        trace: None,
        replay_of: None,
    }
}

pub(crate) fn key(key: &str, digest: &str) -> Option<Idempotency> {
    Some(Idempotency {
        key: key.to_owned(),
        digest: digest.to_owned(),
    })
}

pub(crate) fn node_event(kind: EventKind, node: &str) -> NewEvent {
    NewEvent {
        kind,
        at: jiff::Timestamp::now(),
        data: json!({ "node": node }).into(),
    }
}

pub(crate) fn checkpoint(node: &str, output: Value) -> NodeCheckpoint {
    NodeCheckpoint {
        node: node.to_owned(),
        output: Payload::Inline(output),
    }
}

pub(crate) fn progress(
    lease: Lease,
    after_seq: u64,
    nodes: Vec<NodeCheckpoint>,
    events: Vec<NewEvent>,
) -> Progress {
    Progress {
        lease,
        after_seq,
        nodes,
        events,
    }
}

/// From a worker that has lost count of the events.
pub(crate) fn finish(lease: Lease, ending: Ending) -> Finish {
    Finish {
        lease,
        after_seq: 0,
        ending,
        events: Vec::new(),
        output: Payload::Inline(json!("done")),
        outputs: Payload::Inline(json!({ "out": "done" })),
        error: None,
        usage: Usage {
            input_tokens: 3,
            output_tokens: 4,
        },
        nodes_reused: 0,
    }
}

pub(crate) fn release(lease: Lease, because: EndedBecause, retry_in: Option<Duration>) -> Release {
    Release {
        lease,
        because,
        retry_in,
        error: None,
        nodes: Vec::new(),
        events: Vec::new(),
        usage: Usage {
            input_tokens: 1,
            output_tokens: 1,
        },
        nodes_reused: 0,
    }
}

pub(crate) fn filter(limit: u32) -> RunFilter {
    RunFilter {
        limit,
        ..RunFilter::default()
    }
}

pub(crate) fn kinds(events: &[RunEvent]) -> Vec<&'static str> {
    events.iter().map(|e| e.kind.as_str()).collect()
}

/// Sequences from 1, without a hole.
pub(crate) fn assert_gapless(events: &[RunEvent]) {
    let found: Vec<_> = events.iter().map(|e| e.seq).collect();
    let expected: Vec<_> = (1..=events.len() as u64).collect();
    assert_eq!(found, expected);
}

pub(crate) fn applied(answers: &[Fenced]) -> Vec<RunEvent> {
    let mut all = Vec::new();
    for answer in answers {
        match answer {
            Fenced::Applied { events } => all.extend(events.clone()),
            Fenced::Stale => panic!("expected to be applied, found stale"),
        }
    }
    all
}

impl Bed {
    async fn open(url: &str) -> Self {
        let store = open(url, Options::default()).await.unwrap();
        store.migrate().await.unwrap();
        Self {
            store,
            url: url.to_owned(),
            tenant: "acme".parse().unwrap(),
            worker: WorkerId::generate(),
        }
    }

    pub(crate) fn new_run(&self) -> NewRun {
        new_run(&self.tenant)
    }

    pub(crate) async fn submit(&self, runs: &[NewRun]) -> Vec<RunId> {
        let submission = self.store.submit(runs).await.unwrap();
        assert_eq!(submission.outcomes.len(), runs.len());
        submission
            .outcomes
            .iter()
            .map(|outcome| match outcome {
                SubmitOutcome::Created { id, .. } => *id,
                other => panic!("expected a new run, found {other:?}"),
            })
            .collect()
    }

    pub(crate) async fn submit_one(&self) -> RunId {
        self.submit(&[self.new_run()]).await[0]
    }

    pub(crate) async fn try_claim(&self, run: RunId, ttl: Duration) -> Option<ClaimedRun> {
        match self
            .store
            .claim(self.worker, &Capabilities::default(), &[run], ttl)
            .await
            .unwrap()
            .remove(0)
        {
            Claim::Claimed(claimed) => Some(*claimed),
            Claim::NotClaimable => None,
        }
    }

    pub(crate) async fn claim(&self, run: RunId, ttl: Duration) -> ClaimedRun {
        self.try_claim(run, ttl).await.expect("the run is claimable")
    }

    pub(crate) async fn get(&self, run: RunId) -> RunView {
        self.store
            .get(&self.tenant, run)
            .await
            .unwrap()
            .expect("the run exists")
    }

    pub(crate) async fn events(&self, run: RunId) -> Vec<RunEvent> {
        let events = self
            .store
            .events(&self.tenant, run, 0, 1_000)
            .await
            .unwrap()
            .unwrap();
        assert_gapless(&events);
        assert_eq!(self.get(run).await.last_seq, events.len() as u64);
        events
    }

    pub(crate) async fn finish(&self, lease: Lease, ending: Ending) -> Fenced {
        self.store
            .finish(&[finish(lease, ending)])
            .await
            .unwrap()
            .remove(0)
    }

    /// Reaps until something was lost.
    pub(crate) async fn reap(&self) -> Vec<RunEvent> {
        until("a lost lease", || async {
            let (events, _) = self.store.reap(100).await.unwrap();
            (!events.is_empty()).then_some(events)
        })
        .await
    }
}
