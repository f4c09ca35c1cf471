//! Workers are told to drain and to accept again.

use std::time::Duration;

use axum::http::StatusCode;
use flowfleet_core::WorkerId;
use flowfleet_core::port::{Place, Role, Wish, WorkerPresence, WorkerState};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::auth::key;
use crate::harness::{Server, until};

async fn present(server: &Server, state: WorkerState) -> WorkerId {
    let worker = WorkerPresence {
        id: WorkerId::generate(),
        host: "h".to_owned(),
        version: "0".to_owned(),
        queues: vec!["default".parse().unwrap()],
        capabilities: Default::default(),
        slots: 2,
        busy: 0,
        state,
        lifecycle: "spot".to_owned(),
        started_at: Timestamp::now(),
        seen_at: Timestamp::now(),
        place: Place {
            provider_id: Some("i-1".to_owned()),
            usd_per_hour: Some(0.25),
            ..Place::default()
        },
    };
    server
        .bus
        .announce(&worker, Duration::from_secs(60))
        .await
        .unwrap();
    worker.id
}

#[tokio::test]
async fn wishes_are_kept_and_audited() {
    let server = Server::start().await;
    let worker = present(&server, WorkerState::Drained).await;
    let drain = format!("/v1/fleet/workers/{worker}/drain");
    let (status, said) = server.post(&drain, &json!({ "handoff_s": 1.5 })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{said}");
    assert_eq!(
        said,
        json!({ "id": worker.to_string(), "wished": "draining", "handoff_s": 1.5 })
    );
    let handoff = Some(Duration::from_millis(1500));
    let wished = async || server.store.wished(worker).await.unwrap();
    assert_eq!(wished().await, Some(Wish::Drain { handoff }));
    assert_eq!(server.post(&drain, &Value::Null).await.0, StatusCode::ACCEPTED);
    assert_eq!(wished().await, Some(Wish::Drain { handoff: None }));
    for bad in [
        json!({ "handoff_s": -1 }),
        json!({ "handoff_s": 1e9 }),
        json!({ "handoff": 1 }),
    ] {
        assert_eq!(
            server.post(&drain, &bad).await.0,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
    let undrain = format!("/v1/fleet/workers/{worker}/undrain");
    assert_eq!(server.post(&undrain, &Value::Null).await.1["wished"], "accepting");
    assert_eq!(wished().await, Some(Wish::Accept));
    for nobody in [WorkerId::generate().to_string(), "me".to_owned()] {
        let path = format!("/v1/fleet/workers/{nobody}/drain");
        assert_eq!(server.post(&path, &Value::Null).await.0, StatusCode::NOT_FOUND);
    }
    let (_, page) = server.get("/v1/audit").await;
    let lines = page["items"].as_array().unwrap().iter();
    let lines: Vec<_> = lines
        .map(|line| (line["action"].as_str(), line["target"].as_str()))
        .collect();
    let target = worker.to_string();
    let line = |action| (Some(action), Some(target.as_str()));
    assert_eq!(
        lines,
        [line("worker.undrain"), line("worker.drain"), line("worker.drain")]
    );

    let (_, workers) = server.get("/v1/fleet/workers").await;
    let shown = &workers["items"][0];
    assert_eq!(
        (&shown["state"], &shown["provider_id"], &shown["usd_per_hour"]),
        (&json!("drained"), &json!("i-1"), &json!(0.25))
    );
    let (_, fleet) = server.get("/v1/fleet").await;
    assert_eq!(fleet["capacity"][0]["drained"], 1);
}

#[tokio::test]
async fn only_admins_of_the_fleet_tell_workers() {
    let mut server = Server::start().await;
    let worker = present(&server, WorkerState::Accepting).await;
    let path = format!("/v1/fleet/workers/{worker}/drain");
    let keys = [
        (key(&server, "default", Role::Admin).await, StatusCode::ACCEPTED),
        (key(&server, "default", Role::Submit).await, StatusCode::FORBIDDEN),
        (key(&server, "other", Role::Admin).await, StatusCode::FORBIDDEN),
    ];
    until("keys are needed", async || server.get("/v1/runs").await.0 == 401).await;
    for (key, expected) in keys {
        server.key = Some(key);
        assert_eq!(server.post(&path, &Value::Null).await.0, expected);
    }
}
