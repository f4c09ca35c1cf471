//! Batches: all or nothing.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Parts, Server, answer};

async fn ndjson(server: &Server, text: String) -> (StatusCode, Value) {
    let request = server
        .request(Method::POST, "/v1/runs/batch")
        .header("content-type", "application/x-ndjson");
    answer(request.body(text).send().await.unwrap()).await
}

async fn queued(server: &Server) -> u64 {
    let (_, fleet) = server.get("/v1/fleet").await;
    fleet["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["queued"].as_u64().unwrap())
        .sum()
}

#[tokio::test]
async fn ten_thousand_runs_in_one_call_in_order() {
    let server = Server::with_flow().await;
    let lines: Vec<String> = (0..10_000)
        .map(|n| json!({"flow": "hello", "input": n.to_string()}).to_string())
        .collect();
    let (status, body) = ndjson(&server, lines.join("\n")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(body["created"], 10_000);
    let ids = body["ids"].as_array().unwrap();
    assert_eq!(ids.len(), 10_000);
    for n in [0, 4_321, 9_999] {
        let (_, run) = server
            .get(&format!("/v1/runs/{}", ids[n].as_str().unwrap()))
            .await;
        assert_eq!(run["input"], n.to_string());
    }
    assert_eq!(queued(&server).await, 10_000);
    let (status, _) = ndjson(&server, [lines, vec!["{}".to_owned()]].concat().join("\n")).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn one_bad_line_stores_nothing() {
    let server = Server::with_flow().await;
    let good = json!({"flow": "hello", "input": "x"});
    for (bad, code, pointer) in [
        (
            json!({"flow": "hello", "prioritty": "high"}),
            "invalid",
            "/prioritty",
        ),
        (json!({"flow": "nobody"}), "flow_not_found", "/flow"),
        (
            json!({"flow": "hello", "webhook": {}}),
            "not_available",
            "/webhook",
        ),
    ] {
        let text = [
            good.to_string(),
            good.to_string(),
            bad.to_string(),
            good.to_string(),
        ]
        .join("\n");
        let (status, problem) = ndjson(&server, text).await;
        assert_eq!(
            (status.as_u16(), problem["code"].as_str()),
            (422, Some(code)),
            "{problem}"
        );
        assert_eq!(problem["errors"][0]["line"], 3);
        assert_eq!(problem["errors"][0]["pointer"], pointer);
        assert!(
            problem["detail"].as_str().unwrap().starts_with("line 3: "),
            "{problem}"
        );
        let (status, problem) = server.post("/v1/runs/batch", &json!([good, bad])).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem["errors"][0]["pointer"], format!("/1{pointer}"));
    }
    assert_eq!(queued(&server).await, 0);
}

#[tokio::test]
async fn a_batch_with_a_key_can_be_repeated() {
    let server = Server::with_flow().await;
    let runs: Vec<Value> = (0..20)
        .map(|n| json!({"flow": "hello", "input": n.to_string()}))
        .collect();
    let send = async |runs: &[Value]| {
        let request = server
            .request(Method::POST, "/v1/runs/batch")
            .header("Idempotency-Key", "chunk-1");
        answer(request.json(runs).send().await.unwrap()).await
    };
    let (status, first) = send(&runs).await;
    assert_eq!(
        (status, first["created"].as_u64()),
        (StatusCode::ACCEPTED, Some(20))
    );
    let (status, second) = send(&runs).await;
    assert_eq!(
        (status, second["created"].as_u64(), second["existing"].as_u64()),
        (StatusCode::ACCEPTED, Some(0), Some(20))
    );
    assert_eq!(first["ids"], second["ids"]);
    assert_eq!(queued(&server).await, 20);
}

#[tokio::test]
async fn a_used_key_refuses_the_whole_batch() {
    let server = Server::with_flow().await;
    server
        .submit(&json!({"flow": "hello", "input": "x", "idempotency_key": "taken"}))
        .await;
    let runs = json!([
        {"flow": "hello", "input": "new"},
        {"flow": "hello", "input": "other", "idempotency_key": "taken"},
    ]);
    let (status, problem) = server.post("/v1/runs/batch", &runs).await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (409, Some("idempotency_conflict")),
        "{problem}"
    );
    assert_eq!(problem["errors"][0]["pointer"], "/1/idempotency_key");
    assert_eq!(queued(&server).await, 1, "nothing of the batch was stored");
}

#[tokio::test]
async fn a_batch_over_its_bytes_is_refused() {
    let mut parts = Parts::new().await;
    parts.config.limits.batch_bytes = 10_000;
    let server = parts.start().await;
    let (status, _) = ndjson(&server, "x".repeat(20_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_key_used_through_another_dispatcher_refuses_the_whole_batch() {
    let mut parts = Parts::new().await;
    let other = Parts::new().await;
    let store = other.deps.store.clone();
    let other = other.start().await;
    other.put_flow("hello").await;
    parts.deps.store = store;
    let server = parts.start().await;
    let taken = |input: &str| json!({"flow": "hello", "input": input, "idempotency_key": "taken"});
    other.submit(&taken("x")).await;
    let (status, problem) = server
        .post("/v1/runs/batch", &json!([taken("y"), {"flow": "hello"}]))
        .await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (409, Some("idempotency_conflict")),
        "{problem}"
    );
    assert_eq!(queued(&server).await, 1, "nothing of the batch was stored");
}
