//! One fleet for one test: a store of its own, queue, bus, blobs, a mock model, and workers that can crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flowfleet_core::event::{EventKind, RunEvent};
use flowfleet_core::payload::Payload;
use flowfleet_core::port::{BlobStore, Bus, NewFlow, OutboxRow, Queue, Store, SubmitOutcome};
use flowfleet_core::run::{NewRun, RunInput, RunSettings, RunView};
use flowfleet_core::{
    Capability, FlowId, FlowVersion, Priority, QueueName, RetryPolicy, RunId, RunState, Tenant, WorkerId,
};
use flowfleet_engine::{Environment, Services};
use flowfleet_mock_model as mock;
use flowfleet_runtime::payload::{self, hex_sha256};
use flowfleet_runtime::{Readiness, Relay, Shutdown};
use flowfleet_worker::{Abilities, Config, Deps, Worker};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::faulty::Faulty;

/// Longest wait for anything in a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) store: Arc<Faulty>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) blob: Arc<dyn BlobStore>,
    pub(crate) mock: mock::Handle,
    pub(crate) relay: Relay,
    pub(crate) tenant: Tenant,
    /// Of workers that are started from now on.
    pub(crate) python: Option<flowfleet_python::Host>,
    pool: QueueName,
    environment: BTreeMap<String, String>,
    _dir: tempfile::TempDir,
    _ended: tokio_util::sync::DropGuard,
}

/// What a fleet runs on.
pub(crate) struct Backends {
    /// Without one: SQLite in the test's own directory.
    pub(crate) store: Option<String>,
    pub(crate) queue: String,
    pub(crate) bus: String,
    pub(crate) pool: String,
}

impl Default for Backends {
    fn default() -> Self {
        let memory = || "memory:".to_owned();
        Self {
            store: None,
            queue: memory(),
            bus: memory(),
            pool: "default".to_owned(),
        }
    }
}

/// A worker in this process. Dropping it is a crash.
pub(crate) struct Running {
    pub(crate) id: WorkerId,
    pub(crate) shutdown: Shutdown,
    pub(crate) readiness: Readiness,
    pub(crate) abilities: Abilities,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Waits for its clean end.
    pub(crate) async fn ended(mut self, within: Duration) {
        tokio::time::timeout(within, &mut self.task)
            .await
            .expect("the worker ends")
            .unwrap()
            .unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Settings that retry at once.
pub(crate) fn settings(max_attempts: u32, timeout_s: f64) -> RunSettings {
    RunSettings {
        max_attempts,
        timeout_s,
        retry: RetryPolicy {
            backoff_s: 0.0,
            factor: 1.0,
            max_s: 0.0,
        },
    }
}

/// Waits until `check` answers.
pub(crate) async fn until<T, R>(what: &str, mut check: impl FnMut() -> R) -> T
where
    R: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Rig {
    /// On SQLite and memory.
    pub(crate) async fn new(model: mock::Config) -> Self {
        Self::on(model, Backends::default()).await
    }

    pub(crate) async fn on(model: mock::Config, backends: Backends) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = || format!("sqlite:{}", dir.path().join("fleet.db").display());
        let url = backends.store.unwrap_or_else(sqlite);
        let store = flowfleet_store::open(&url, flowfleet_store::Options::default())
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let store = Arc::new(Faulty::new(store));
        let queue = flowfleet_queue::open(&backends.queue, flowfleet_queue::Options::default())
            .await
            .unwrap();
        let blobs = format!("file:{}", dir.path().join("blobs").display());
        let ended = CancellationToken::new();
        let relay = Relay::spawn(store.clone(), queue.clone(), ended.clone());
        let mock = mock::spawn(model).await.unwrap();
        let environment = BTreeMap::from([
            ("OPENAI_BASE_URL".to_owned(), mock.base_url()),
            ("OPENAI_API_KEY".to_owned(), "test-key".to_owned()),
        ]);
        Self {
            store,
            queue,
            bus: flowfleet_bus::open(&backends.bus).await.unwrap(),
            blob: flowfleet_blob::open(&blobs).await.unwrap(),
            mock,
            relay,
            tenant: Tenant::try_from("default".to_owned()).unwrap(),
            python: None,
            pool: backends.pool.parse().unwrap(),
            environment,
            _dir: dir,
            _ended: ended.drop_guard(),
        }
    }

    pub(crate) async fn flow(&self, document: &Value) -> FlowVersion {
        let bytes = Bytes::from(serde_json::to_vec(document).unwrap());
        let digest = hex_sha256(&bytes);
        self.flow_bytes("flow", bytes, digest).await
    }

    pub(crate) async fn flow_bytes(&self, name: &str, document: Bytes, digest: String) -> FlowVersion {
        use flowfleet_core::port::FlowStore as _;
        let (name, engine) = (name.parse().unwrap(), "native".to_owned());
        let flow = NewFlow {
            tenant: self.tenant.clone(),
            name,
            id: FlowId::generate(),
            digest,
            document,
            nodes: 1,
            engine,
        };
        self.store.put_flow(flow).await.unwrap().record.flow
    }

    pub(crate) fn run(&self, flow: &FlowVersion, input: &str) -> NewRun {
        let input = RunInput {
            input: json!(input),
            ..RunInput::default()
        };
        NewRun {
            id: RunId::generate(),
            tenant: self.tenant.clone(),
            flow: flow.clone(),
            queue: self.pool.clone(),
            needs: Capability::native(),
            priority: Priority::Normal,
            input: Payload::Inline(serde_json::to_value(input).unwrap()),
            settings: settings(1, 60.0),
            session_id: None,
            labels: serde_json::from_value(json!({})).unwrap(),
            run_at: None,
            expires_at: None,
            reckoned_at: None,
            idempotency: None,
            trace: None,
            replay_of: None,
        }
    }

    pub(crate) async fn submit(&self, runs: &[NewRun]) -> Vec<RunId> {
        use flowfleet_core::port::RunStore as _;
        let submission = self.store.submit(runs).await.unwrap();
        self.publish(submission.outbox);
        let id = |outcome| match outcome {
            SubmitOutcome::Created { id, .. } => id,
            other => panic!("not created: {other:?}"),
        };
        submission.outcomes.into_iter().map(id).collect()
    }

    pub(crate) async fn submit_one(&self, run: NewRun) -> RunId {
        self.submit(&[run]).await[0]
    }

    pub(crate) fn publish(&self, outbox: Option<OutboxRow>) {
        if let Some(row) = outbox {
            self.relay.send(row);
        }
    }

    pub(crate) async fn worker(&self, change: impl FnOnce(&mut Config)) -> Running {
        let environment = self.environment.clone();
        self.worker_in(Arc::new(move |name: &str| environment.get(name).cloned()), change)
            .await
    }

    /// A worker in an environment of its own, once it takes runs.
    pub(crate) async fn worker_in(
        &self,
        environment: Environment,
        change: impl FnOnce(&mut Config),
    ) -> Running {
        let mut config = Config {
            drain_s: 0.2,
            lifecycle: flowfleet_worker::Lifecycle::Local,
            queues: vec![self.pool.to_string()],
            ..Config::default()
        };
        change(&mut config);
        let mut services = Services {
            environment,
            ..Services::from_env().unwrap()
        };
        // Failures of the model reach the run at once.
        Arc::make_mut(&mut services.model).limits.max_retries = 0;
        let readiness = Readiness::default();
        let store: Arc<dyn Store> = self.store.clone();
        let worker = Worker::new(
            config,
            Deps {
                store,
                queue: self.queue.clone(),
                bus: self.bus.clone(),
                blob: self.blob.clone(),
                services,
                python: self.python.clone(),
                readiness: readiness.clone(),
            },
        );
        let (id, abilities, shutdown) = (worker.id(), worker.abilities(), Shutdown::manual());
        let task = tokio::spawn(worker.run(shutdown.clone()));
        let running = Running {
            id,
            shutdown,
            readiness,
            abilities,
            task,
        };
        until("the worker is ready", || async {
            let report = running.readiness.report();
            (report.ready && report.checks.contains_key("store")).then_some(())
        })
        .await;
        running
    }

    /// What the dispatcher's leader does: due runs go to the queue, dead leases are reaped.
    pub(crate) fn upkeep(&self) -> tokio_util::task::AbortOnDropHandle<()> {
        use flowfleet_core::port::Upkeep as _;
        let (store, relay) = (self.store.clone(), self.relay.clone());
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let (_, due) = store.promote_due(1_000).await.unwrap();
                let (_, reaped) = store.reap(1_000).await.unwrap();
                due.into_iter().chain(reaped).for_each(|row| relay.send(row));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }

    pub(crate) async fn get(&self, run: RunId) -> RunView {
        use flowfleet_core::port::RunStore as _;
        self.store
            .get(&self.tenant, run)
            .await
            .unwrap()
            .expect("the run exists")
    }

    pub(crate) async fn events(&self, run: RunId) -> Vec<RunEvent> {
        use flowfleet_core::port::RunStore as _;
        self.store
            .events(&self.tenant, run, 0, 10_000)
            .await
            .unwrap()
            .expect("the run exists")
    }

    /// Waits for an event of a run, the `nth` of its kind.
    pub(crate) async fn event(&self, run: RunId, kind: EventKind, nth: usize) -> RunEvent {
        until(&format!("event {nth} {}", kind.as_str()), || async {
            self.events(run)
                .await
                .into_iter()
                .filter(|event| event.kind == kind)
                .nth(nth - 1)
        })
        .await
    }

    pub(crate) async fn state(&self, run: RunId, wanted: RunState) -> RunView {
        until(&format!("the run is {}", wanted.as_str()), || async {
            let view = self.get(run).await;
            assert!(
                !view.state.is_final() || view.state == wanted,
                "the run is {}: {:?}",
                view.state.as_str(),
                view.error
            );
            (view.state == wanted).then_some(view)
        })
        .await
    }

    pub(crate) async fn output(&self, view: &RunView) -> Value {
        payload::open(&*self.blob, view.output.as_ref().expect("an output"))
            .await
            .unwrap()
    }
}
