//! What the leader does: publish, promote, expire, reap, reconcile, rebuild; and backends that are away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::port::{BlobStore, Consumer, Depth, Envelope, Queue, WorkerPresence, WorkerState};
use flowfleet_core::{Pool, QueueName, RunId, WorkerId};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Parts, Server, answer, quick, until};

type Result<T> = std::result::Result<T, PortError>;

async fn quick_server() -> Server {
    let mut parts = Parts::new().await;
    parts.config.upkeep = quick();
    let server = parts.start().await;
    server.put_flow("hello").await;
    server
}

async fn receive(queue: &Arc<dyn Queue>) -> (RunId, Box<dyn Consumer>) {
    let mut consumer = queue.consume(&[Pool::default()], 10).await.unwrap();
    let deliveries = tokio::time::timeout(Duration::from_secs(15), consumer.receive(1))
        .await
        .unwrap()
        .unwrap();
    let receipts: Vec<_> = deliveries.iter().map(|delivery| delivery.receipt).collect();
    consumer.ack(&receipts).await.unwrap();
    (deliveries[0].message.run, consumer)
}

#[tokio::test]
async fn a_submitted_run_is_published_with_its_trace() {
    let server = Server::with_flow().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = server
        .request(Method::POST, "/v1/runs")
        .header("traceparent", parent);
    let (_, stored) = answer(
        request
            .json(&json!({"flow": "hello", "input": "x"}))
            .send()
            .await
            .unwrap(),
    )
    .await;
    let mut consumer = server.queue.consume(&[Pool::default()], 1).await.unwrap();
    let received = tokio::time::timeout(Duration::from_secs(15), consumer.receive(1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(received[0].message.run, crate::harness::id(&stored));
    assert_eq!(received[0].message.trace.as_ref().unwrap().traceparent, parent);
}

#[tokio::test]
async fn a_delayed_run_is_queued_when_it_is_due() {
    let server = quick_server().await;
    let run = server
        .submit(&json!({"flow": "hello", "input": "x", "delay_s": 0.4}))
        .await;
    assert_eq!(server.state(run).await, "scheduled");
    assert_eq!(receive(&server.queue).await.0, run);
    server.claim(run).await;
}

#[tokio::test]
async fn a_run_that_did_not_start_in_time_expires() {
    let server = quick_server().await;
    let run = server
        .submit(&json!({"flow": "hello", "input": "x", "expires_in_s": 0.3}))
        .await;
    server.reaches(run, "expired").await;
    let (_, body) = server.get(&format!("/v1/runs/{run}/events?after=0")).await;
    assert!(body.as_str().unwrap().contains("event: run.expired"), "{body}");
}

#[tokio::test]
async fn a_lost_lease_goes_back_to_the_queue() {
    let server = quick_server().await;
    let run = server.run().await;
    let (_, _consumer) = receive(&server.queue).await;
    let lost = server.claim_for(run, Duration::from_millis(200)).await;
    server.reaches(run, "queued").await;
    assert_eq!(receive(&server.queue).await.0, run, "published again");
    let (_, body) = server.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(
        (body["interruptions"].as_u64(), body["attempt"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(body["attempts"][0]["ended_because"], "worker_lost");
    let claimed = server.claim(run).await;
    assert!(claimed.lease.epoch > lost.lease.epoch);
}

#[tokio::test]
async fn messages_that_the_broker_lost_are_published_again() {
    let server = quick_server().await;
    let run = server.run().await;
    // Taken and acknowledged, but never claimed: as after a purge.
    assert_eq!(receive(&server.queue).await.0, run);
    assert_eq!(receive(&server.queue).await.0, run);
    assert_eq!(server.state(run).await, "queued");
}

#[tokio::test]
async fn messages_that_were_lost_go_to_the_pool_of_those_who_can() {
    let server = quick_server().await;
    let document = crate::flows::with_own_component().to_string();
    let put = server.request(Method::PUT, "/v1/flows/own").body(document);
    assert!(put.send().await.unwrap().status().is_success());
    let run = server.submit(&json!({"flow": "own", "input": "x"})).await;
    let pool: Pool = "default:python".parse().unwrap();
    let mut consumer = server.queue.consume(&[pool], 10).await.unwrap();
    for _ in 0..2 {
        let received = tokio::time::timeout(Duration::from_secs(15), consumer.receive(1));
        let received = received.await.unwrap().unwrap();
        assert_eq!(received[0].message.run, run);
        let receipts: Vec<_> = received.iter().map(|delivery| delivery.receipt).collect();
        consumer.ack(&receipts).await.unwrap();
    }
    let native = server.queue.depth(&Pool::default()).await.unwrap();
    assert_eq!(native.total(), 0, "nothing for workers that cannot run it");
}

#[tokio::test]
async fn a_memory_queue_is_rebuilt_at_start() {
    let mut parts = Parts::new().await;
    parts.config.upkeep = quick();
    // Far too old to be republished by age.
    parts.config.upkeep.reconcile_age_s = 3600.0;
    parts.config.upkeep.sweep_age_s = 3600.0;
    let (store, blob) = (parts.deps.store.clone(), parts.deps.blob.clone());
    let first = Server::start().await;
    drop(blob);
    first.stop().await;
    let server = parts.start().await;
    server.put_flow("hello").await;
    let mut runs: Vec<RunId> = Vec::new();
    for _ in 0..20 {
        runs.push(server.run().await);
    }
    for _ in 0..20 {
        receive(&server.queue).await;
    }
    server.shutdown.drain();
    until("stopped", async || server.task.is_finished()).await;
    // The same store, a new and empty queue.
    let mut again = Parts::new().await;
    again.deps.store = store;
    again.config.upkeep = parts_like(3600.0);
    let restarted = again.start().await;
    let mut found: Vec<RunId> = Vec::new();
    for _ in 0..20 {
        found.push(receive(&restarted.queue).await.0);
    }
    found.sort();
    runs.sort();
    assert_eq!(found, runs);
}

fn parts_like(age: f64) -> flowfleet_dispatcher::Intervals {
    flowfleet_dispatcher::Intervals {
        reconcile_age_s: age,
        sweep_age_s: age,
        ..quick()
    }
}

#[tokio::test]
async fn the_leader_sets_the_gauges() {
    let server = quick_server().await;
    server
        .submit(&json!({"flow": "hello", "input": "x", "queue": "gauged"}))
        .await;
    let presence = WorkerPresence {
        id: WorkerId::generate(),
        host: "host-1".to_owned(),
        version: "0.1.0".to_owned(),
        queues: vec![QueueName::default()],
        capabilities: Default::default(),
        slots: 4,
        busy: 1,
        state: WorkerState::Accepting,
        lifecycle: "spot".to_owned(),
        started_at: jiff::Timestamp::now(),
        seen_at: jiff::Timestamp::now(),
        place: Default::default(),
    };
    server
        .bus
        .announce(&presence, Duration::from_secs(600))
        .await
        .unwrap();
    until("the gauge", async || {
        let text = server
            .request(Method::GET, "/metrics")
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        // Every worker shows its own: a sum over all processes would count them twice.
        assert!(!text.contains("flowfleet_slots{"), "{text}");
        text.contains("flowfleet_workers{lifecycle=\"spot\",state=\"accepting\"} 1")
            && text.contains("flowfleet_queue_runs{queue=\"gauged\",state=\"queued\"} 1")
            && text.contains("flowfleet_queue_oldest_timestamp_seconds{queue=\"gauged\"} 1")
    })
    .await;
}

/// A broker that can be switched off.
#[derive(Debug)]
struct Switched {
    inner: Arc<dyn Queue>,
    off: AtomicBool,
}

impl Switched {
    fn check(&self) -> Result<()> {
        match self.off.load(Ordering::SeqCst) {
            true => Err(PortError::new(Kind::Retryable, "queue", "switched off")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Queue for Switched {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<()> {
        self.check()?;
        self.inner.publish(envelopes).await
    }

    async fn consume(&self, queues: &[Pool], prefetch: u16) -> Result<Box<dyn Consumer>> {
        self.check()?;
        self.inner.consume(queues, prefetch).await
    }

    async fn depth(&self, queue: &Pool) -> Result<Depth> {
        self.check()?;
        self.inner.depth(queue).await
    }

    async fn ping(&self, timeout: Duration) -> Result<()> {
        self.check()?;
        self.inner.ping(timeout).await
    }
}

#[tokio::test]
async fn a_broker_that_is_away_fails_no_submission() {
    let mut parts = Parts::new().await;
    let switched = Arc::new(Switched {
        inner: parts.deps.queue.clone(),
        off: AtomicBool::new(true),
    });
    parts.deps.queue = switched.clone();
    parts.config.upkeep = quick();
    let server = parts.start().await;
    server.put_flow("hello").await;
    let run = server.run().await;
    until("shown", async || {
        server.get("/health/ready").await.1["checks"]["queue"]["ok"] == false
    })
    .await;
    assert_eq!(
        server.get("/health/ready").await.0,
        StatusCode::OK,
        "ready without the broker"
    );
    switched.off.store(false, Ordering::SeqCst);
    assert_eq!(receive(&server.queue).await.0, run);
}

/// A broker that takes nothing for one pool: its queue is of another kind, or the user may not use it.
#[derive(Debug)]
struct Refusing {
    inner: Arc<dyn Queue>,
    pool: Pool,
    on: AtomicBool,
}

impl Refusing {
    fn check(&self, pool: &Pool) -> Result<()> {
        if self.on.load(Ordering::SeqCst) && *pool == self.pool {
            return Err(PortError::new(Kind::Permanent, "queue", "refused"));
        }
        Ok(())
    }
}

#[async_trait]
impl Queue for Refusing {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<()> {
        envelopes
            .iter()
            .try_for_each(|envelope| self.check(&envelope.pool))?;
        self.inner.publish(envelopes).await
    }

    async fn consume(&self, queues: &[Pool], prefetch: u16) -> Result<Box<dyn Consumer>> {
        self.inner.consume(queues, prefetch).await
    }

    async fn depth(&self, queue: &Pool) -> Result<Depth> {
        self.check(queue)?;
        self.inner.depth(queue).await
    }

    async fn ping(&self, timeout: Duration) -> Result<()> {
        self.inner.ping(timeout).await
    }
}

#[tokio::test]
async fn a_pool_that_the_broker_refuses_holds_up_no_other() {
    let mut parts = Parts::new().await;
    let refusing = Arc::new(Refusing {
        inner: parts.deps.queue.clone(),
        // Before `default` in every order.
        pool: "a-bad-one".parse().unwrap(),
        on: AtomicBool::new(true),
    });
    parts.deps.queue = refusing.clone();
    parts.config.upkeep = quick();
    let server = parts.start().await;
    server.put_flow("hello").await;
    let refused = server
        .submit(&json!({"flow": "hello", "input": "x", "queue": "a-bad-one"}))
        .await;
    let run = server.run().await;
    assert_eq!(receive(&server.queue).await.0, run, "published past it");
    assert_eq!(receive(&server.queue).await.0, run, "and reconciled past it");
    assert_eq!(server.state(refused).await, "queued");
    refusing.on.store(false, Ordering::SeqCst);
    let mut consumer = server
        .queue
        .consume(std::slice::from_ref(&refusing.pool), 1)
        .await
        .unwrap();
    let found = tokio::time::timeout(Duration::from_secs(15), consumer.receive(1)).await;
    assert_eq!(
        found.unwrap().unwrap()[0].message.run,
        refused,
        "its runs waited in the store"
    );
}

#[tokio::test]
async fn a_store_without_its_schema_is_not_ready_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("empty.db");
    let mut parts = Parts::new().await;
    // A database without a schema: every query of it fails, as `ping` says.
    let url = format!("sqlite:{}", file.display());
    parts.deps.store = flowfleet_store::open(&url, flowfleet_store::Options::default())
        .await
        .unwrap();
    let server = parts.start().await;
    until("not ready", async || {
        let (status, body) = server.get("/health/ready").await;
        status == StatusCode::SERVICE_UNAVAILABLE && body["checks"]["store"]["ok"] == false
    })
    .await;
    let (_, body) = server.get("/health/ready").await;
    assert!(
        body["checks"]["store"]["detail"]
            .as_str()
            .unwrap()
            .contains("migrate"),
        "{body}"
    );
    let (status, _) = answer(server.request(Method::GET, "/v1/runs").send().await.unwrap()).await;
    assert!(status.is_server_error(), "{status}");
    let null = Value::Null;
    assert!(
        server
            .call(Method::GET, "/v1/flows", &null)
            .await
            .0
            .is_server_error()
    );
}

/// A blob store with a fault.
#[derive(Debug)]
struct Panicking;

#[async_trait]
impl BlobStore for Panicking {
    async fn put(&self, _key: &str, _bytes: bytes::Bytes) -> Result<()> {
        panic!("secret detail of a fault")
    }

    async fn get(&self, _key: &str) -> Result<Option<bytes::Bytes>> {
        Ok(None)
    }

    async fn delete(&self, _key: &str) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_without_its_details_and_ends_nothing_else() {
    let mut parts = Parts::new().await;
    parts.deps.blob = Arc::new(Panicking);
    let server = parts.start().await;
    server.put_flow("hello").await;
    let long = json!({"flow": "hello", "input": "x".repeat(100_000)});
    let (status, problem) = server.post("/v1/runs", &long).await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (500, Some("internal"))
    );
    assert!(!problem.to_string().contains("secret"), "{problem}");
    server.run().await;
}
