//! Runs that only some workers can execute.

use std::time::Duration;

use flowfleet_core::Capability;
use flowfleet_core::port::{WorkerPresence, WorkerState};
use reqwest::Method;
use serde_json::{Value, json};

use crate::flows::with_own_component;
use crate::harness::{Server, id, until};

#[tokio::test]
async fn a_run_that_needs_python_waits_for_it_and_says_so() {
    let server = Server::start().await;
    let document = with_own_component().to_string();
    let put = server.request(Method::PUT, "/v1/flows/own").body(document);
    assert!(put.send().await.unwrap().status().is_success());
    let run = server.submit(&json!({"flow": "own", "input": "x"})).await;
    let pool = "default:python".parse().unwrap();
    until("its message is in its own queue", async || {
        server.queue.depth(&pool).await.unwrap().total() == 1
    })
    .await;
    let explain = async || server.get(&format!("/v1/runs/{run}/explain")).await.1;
    let alone = explain().await;
    assert_eq!(alone["data"]["waits_for"], "no_workers", "{alone}");
    assert_eq!(alone["data"]["needs"], "python");
    let now = jiff::Timestamp::now();
    let mut worker = WorkerPresence {
        id: flowfleet_core::WorkerId::generate(),
        host: "h".to_owned(),
        version: "0".to_owned(),
        queues: vec!["default".parse().unwrap()],
        capabilities: Default::default(),
        slots: 2,
        busy: 0,
        state: WorkerState::Accepting,
        lifecycle: "local".to_owned(),
        started_at: now,
        seen_at: now,
        place: Default::default(),
    };
    let present = async |worker: &WorkerPresence| {
        let announced = server.bus.announce(worker, Duration::from_secs(60)).await;
        announced.unwrap();
    };
    present(&worker).await;
    let native = explain().await;
    assert_eq!(native["data"]["waits_for"], "no_workers_able", "{native}");
    let sentence = native["sentences"][1].as_str().unwrap();
    assert!(sentence.starts_with("This flow needs Python ("), "{sentence}");
    assert!(
        sentence.contains("NeverHeardOf has no native implementation"),
        "{sentence}"
    );
    assert!(
        sentence.ends_with(
            "No worker of queue default with `python` is present: start one with [python] enabled = true."
        ),
        "{sentence}"
    );
    worker.capabilities.add(Capability::python());
    present(&worker).await;
    assert_eq!(explain().await["data"]["waits_for"], "turn");
    let (_, workers) = server.get("/v1/fleet/workers").await;
    assert_eq!(workers["items"][0]["capabilities"], json!(["native", "python"]));
    let (_, fleet) = server.get("/v1/fleet").await;
    assert_eq!(fleet["queues"][0]["needs"], "python");
    let replayed = {
        let (status, _) = server.post(&format!("/v1/runs/{run}/cancel"), &Value::Null).await;
        assert!(status.is_success());
        let (status, body) = server.post(&format!("/v1/runs/{run}/replay"), &Value::Null).await;
        assert!(status.is_success(), "{body}");
        id(&body)
    };
    let view = server
        .store
        .get(&Default::default(), replayed)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(view.needs, Capability::python());
}
