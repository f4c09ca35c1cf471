//! A dispatcher on a free port with backends of its own, and a hand that plays the worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowfleet_core::port::{Bus, Claim, Fenced, Queue, Store};
use flowfleet_core::run::{ClaimedRun, Ending, Finish, Usage};
use flowfleet_core::{Payload, RunId, WorkerId};
use flowfleet_dispatcher::{Config, Deps, Dispatcher, Intervals};
use flowfleet_runtime::{Readiness, Shutdown, prometheus};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) const HELLO: &str = include_str!("../../../examples/flows/hello-prompt.json");

pub(crate) struct Server {
    pub url: String,
    pub client: Client,
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn Queue>,
    pub bus: Arc<dyn Bus>,
    pub shutdown: Shutdown,
    pub task: JoinHandle<anyhow::Result<()>>,
    pub key: Option<String>,
    _dir: TempDir,
}

/// What a server is made of, to be changed before it starts.
pub(crate) struct Parts {
    pub config: Config,
    pub deps: Deps,
    dir: TempDir,
}

/// Loops so quick that tests need not wait.
pub(crate) fn quick() -> Intervals {
    Intervals {
        lead_s: 0.05,
        reap_s: 0.05,
        schedule_s: 0.1,
        sweep_s: 0.05,
        sweep_age_s: 0.05,
        reconcile_s: 0.1,
        reconcile_age_s: 0.1,
        gauges_s: 0.05,
        audit_s: 0.05,
        audit_runs: 1_000,
    }
}

impl Parts {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("flowfleet.db").display());
        let store = flowfleet_store::open(&url, flowfleet_store::Options::default())
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let deps = Deps {
            store,
            queue: flowfleet_queue::open("memory:", flowfleet_queue::Options::default())
                .await
                .unwrap(),
            bus: flowfleet_bus::open("memory:").await.unwrap(),
            blob: flowfleet_blob::open(&format!("file:{}", dir.path().join("blobs").display()))
                .await
                .unwrap(),
            prometheus: prometheus::install().unwrap(),
            readiness: Readiness::default(),
        };
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            drain_s: 5.0,
            ..Config::default()
        };
        Self { config, deps, dir }
    }

    pub(crate) async fn start(self) -> Server {
        let Self { config, deps, dir } = self;
        let (store, queue, bus) = (deps.store.clone(), deps.queue.clone(), deps.bus.clone());
        let dispatcher = Dispatcher::bind(config, deps).await.unwrap();
        let url = format!("http://{}", dispatcher.local_addr());
        let shutdown = Shutdown::manual();
        let task = tokio::spawn(dispatcher.run(shutdown.clone()));
        Server {
            url,
            client: Client::new(),
            store,
            queue,
            bus,
            shutdown,
            task,
            key: None,
            _dir: dir,
        }
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Parts::new().await.start().await
    }

    /// With the flow `hello`.
    pub(crate) async fn with_flow() -> Self {
        let server = Self::start().await;
        server.put_flow("hello").await;
        server
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let mut request = self.request(method, path);
        if !body.is_null() {
            request = request.json(body);
        }
        answer(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn put_flow(&self, name: &str) -> Value {
        let path = format!("/v1/flows/{name}");
        let (status, body) = answer(self.request(Method::PUT, &path).body(HELLO).send().await.unwrap()).await;
        assert!(status.is_success(), "{status} {body}");
        body
    }

    pub(crate) async fn submit(&self, run: &Value) -> RunId {
        let (status, body) = self.post("/v1/runs", run).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        id(&body)
    }

    pub(crate) async fn run(&self) -> RunId {
        self.submit(&json!({"flow": "hello", "input": "hi"})).await
    }

    pub(crate) async fn claim(&self, run: RunId) -> ClaimedRun {
        self.claim_for(run, Duration::from_secs(30)).await
    }

    pub(crate) async fn claim_for(&self, run: RunId, ttl: Duration) -> ClaimedRun {
        match self
            .store
            .claim(WorkerId::generate(), &Default::default(), &[run], ttl)
            .await
            .unwrap()
            .pop()
            .unwrap()
        {
            Claim::Claimed(claimed) => *claimed,
            Claim::NotClaimable => panic!("{run} is not claimable"),
        }
    }

    /// Ends a claimed run and announces it, as a worker does.
    pub(crate) async fn finish(&self, claimed: &ClaimedRun, output: Value) {
        let finish = Finish {
            lease: claimed.lease,
            after_seq: claimed.last_seq,
            ending: Ending::Succeeded,
            events: Vec::new(),
            output: Payload::Inline(output.clone()),
            outputs: Payload::Inline(json!({"ChatOutput-1": output})),
            error: None,
            usage: Usage {
                input_tokens: 3,
                output_tokens: 5,
            },
            nodes_reused: 0,
        };
        match self.store.finish(&[finish]).await.unwrap().pop().unwrap() {
            Fenced::Applied { events } => {
                self.bus
                    .publish(vec![flowfleet_core::port::Live::Events { events }])
                    .await
                    .unwrap();
            }
            Fenced::Stale => panic!("the lease was lost"),
        }
    }

    pub(crate) async fn state(&self, run: RunId) -> String {
        let (_, body) = self.get(&format!("/v1/runs/{run}")).await;
        body["state"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) async fn reaches(&self, run: RunId, state: &str) {
        until(state, async || self.state(run).await == state).await;
    }

    pub(crate) async fn stop(self) {
        self.shutdown.drain();
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .expect("stops")
            .unwrap()
            .unwrap();
    }
}

pub(crate) fn id(body: &Value) -> RunId {
    body["id"]
        .as_str()
        .unwrap_or_else(|| panic!("no id in {body}"))
        .parse()
        .unwrap()
}

pub(crate) async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let problem = status.is_client_error() || status.is_server_error();
    let kind = response
        .headers()
        .get("content-type")
        .map(|v| v.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if problem && body.get("checks").is_none() {
        assert_eq!(
            kind.as_deref(),
            Some("application/problem+json"),
            "{status} {body}"
        );
        for field in ["type", "title", "status", "detail", "code"] {
            assert!(!body[field].is_null(), "{field} is missing in {body}");
        }
        assert_eq!(body["status"], status.as_u16());
    }
    (status, body)
}

/// Waits for a condition, with a deadline.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !condition().await {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
