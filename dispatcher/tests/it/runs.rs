//! Submitting, waiting, listing, cancelling, replaying, explaining.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use flowfleet_core::RunId;
use flowfleet_core::port::{WorkerPresence, WorkerState};
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, answer, id};

#[tokio::test]
async fn a_run_is_stored_with_all_it_was_given() {
    let server = Server::with_flow().await;
    let body = json!({
        "flow": "hello", "input": "hi", "session_id": "s-1", "queue": "gpu", "priority": "high", "timeout_s": 12.5,
        "max_attempts": 5, "retry": {"backoff_s": 1, "factor": 2, "max_s": 9}, "labels": {"team": "a"},
        "variables": {"OPENAI_API_KEY": "sk-secret"},
    });
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = server
        .request(Method::POST, "/v1/runs")
        .header("traceparent", parent)
        .json(&body);
    let response = request.send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (status, stored) = answer(response).await;
    assert_eq!(
        (status, stored["state"].as_str()),
        (StatusCode::ACCEPTED, Some("queued"))
    );
    assert_eq!(location, format!("/v1/runs/{}", id(&stored)));
    let (_, run) = server.get(&location).await;
    for (field, value) in [
        ("flow", json!("hello")),
        ("version", json!(1)),
        ("input", json!("hi")),
        ("output", Value::Null),
        ("queue", json!("gpu")),
        ("priority", json!("high")),
        ("session_id", json!("s-1")),
        ("max_attempts", json!(5)),
        ("timeout_s", json!(12.5)),
        ("labels", json!({"team": "a"})),
        ("attempts", json!([])),
        ("cost_usd", Value::Null),
    ] {
        assert_eq!(run[field], value, "{field}");
    }
    assert!(
        !run.to_string().contains("sk-secret"),
        "variables are never shown"
    );
    let claimed = server.claim(id(&stored)).await;
    assert_eq!(claimed.trace.unwrap().traceparent, parent);
    assert_eq!(claimed.settings.retry.max_s, 9.0);
    let stored: flowfleet_core::run::RunInput = match claimed.input {
        flowfleet_core::Payload::Inline(value) => serde_json::from_value(value).unwrap(),
        flowfleet_core::Payload::Blob(_) => panic!("small inputs are inline"),
    };
    assert_eq!(stored.variables["OPENAI_API_KEY"], "sk-secret");
}

#[tokio::test]
async fn bad_submissions_are_refused_and_nothing_is_stored() {
    let server = Server::with_flow().await;
    for (body, code, pointer) in [
        (json!({"flow": "hello", "colour": "red"}), "invalid", "/colour"),
        (json!({"flow": "hello", "input": 3}), "invalid", "/input"),
        (
            json!({"flow": "hello", "priority": "urgent"}),
            "invalid",
            "/priority",
        ),
        (json!({"flow": "nobody"}), "flow_not_found", "/flow"),
        (json!({"flow": "hello@9"}), "flow_not_found", "/flow"),
        (
            json!({"flow": "hello", "webhook": {"url": "http://x"}}),
            "not_available",
            "/webhook",
        ),
        (json!({"flow": "hello", "after": []}), "not_available", "/after"),
        (
            json!({"flow": "hello", "concurrency_key": "k"}),
            "not_available",
            "/concurrency_key",
        ),
    ] {
        let (status, problem) = server.post("/v1/runs", &body).await;
        assert_eq!(
            (status.as_u16(), problem["code"].as_str()),
            (422, Some(code)),
            "{body}: {problem}"
        );
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    for body in ["", "{", "[]", "\"x\"", "{}"] {
        let request = server.request(Method::POST, "/v1/runs").body(body);
        assert_eq!(
            answer(request.send().await.unwrap()).await.0,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{body}"
        );
    }
    assert_eq!(server.get("/v1/runs").await.1["items"], json!([]));
}

#[tokio::test]
async fn fifty_equal_submissions_make_one_run() {
    let server = Server::with_flow().await;
    let body = json!({"flow": "hello", "input": {"b": 1, "a": 2}});
    let answers = join_all((0..50).map(|_| async {
        let request = server
            .request(Method::POST, "/v1/runs")
            .header("Idempotency-Key", "order-1")
            .json(&body);
        answer(request.send().await.unwrap()).await
    }))
    .await;
    let created = answers
        .iter()
        .filter(|(status, _)| *status == StatusCode::ACCEPTED)
        .count();
    let repeated = answers
        .iter()
        .filter(|(status, _)| *status == StatusCode::OK)
        .count();
    assert_eq!((created, repeated), (1, 49));
    let ids: HashSet<RunId> = answers.iter().map(|(_, body)| id(body)).collect();
    assert_eq!(ids.len(), 1);
    let same = json!({"input": {"a": 2, "b": 1}, "flow": "hello", "idempotency_key": "order-1"});
    let (status, body) = server.post("/v1/runs", &same).await;
    assert_eq!((status, body["created"].as_bool()), (StatusCode::OK, Some(false)));
    let other = json!({"flow": "hello", "input": "other", "idempotency_key": "order-1"});
    let (status, problem) = server.post("/v1/runs", &other).await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (409, Some("idempotency_conflict"))
    );
    assert_eq!(
        server.get("/v1/runs").await.1["items"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn waiting_answers_when_the_run_ends_or_the_time_is_over() {
    let server = Server::with_flow().await;
    let began = Instant::now();
    let (status, run) = server
        .post("/v1/runs?wait_s=0.2", &json!({"flow": "hello", "input": "hi"}))
        .await;
    assert_eq!(
        (status, run["state"].as_str()),
        (StatusCode::ACCEPTED, Some("queued"))
    );
    assert!(began.elapsed() >= Duration::from_millis(200));
    let run = id(&run);
    let path = format!("/v1/runs/{run}?wait_s=30");
    let waiting = server.get(&path);
    let work = async {
        let claimed = server.claim(run).await;
        server.finish(&claimed, json!("Hello, hi!")).await;
    };
    let began = Instant::now();
    let ((status, body), ()) = tokio::join!(waiting, work);
    assert!(began.elapsed() < Duration::from_secs(5), "the bus told it");
    assert_eq!(
        (status, body["state"].as_str()),
        (StatusCode::OK, Some("succeeded"))
    );
    assert_eq!(body["output"], "Hello, hi!");
    assert_eq!(body["outputs"]["ChatOutput-1"], "Hello, hi!");
    assert_eq!(body["usage"], json!({"input_tokens": 3, "output_tokens": 5}));
    assert_eq!(body["attempts"][0]["ended_because"], "succeeded");
    let (status, _) = server.get(&path).await;
    assert_eq!(status, StatusCode::OK, "an ended run answers at once");
}

#[tokio::test]
async fn large_inputs_go_to_the_blob_store_and_come_back() {
    let server = Server::with_flow().await;
    let long = "flowfleet ".repeat(20_000);
    let run = server.submit(&json!({"flow": "hello", "input": long})).await;
    let (_, body) = server.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(body["input"].as_str(), Some(long.as_str()));
    let claimed = server.claim(run).await;
    assert!(matches!(claimed.input, flowfleet_core::Payload::Blob(_)));
    server.finish(&claimed, json!("done")).await;
    let (status, replayed) = server.post(&format!("/v1/runs/{run}/replay"), &Value::Null).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{replayed}");
    let (_, body) = server.get(&format!("/v1/runs/{}", id(&replayed))).await;
    assert_eq!(body["input"].as_str(), Some(long.as_str()));
}

#[tokio::test]
async fn lists_filter_and_pages_concatenate() {
    let server = Server::with_flow().await;
    let mut all = Vec::new();
    for n in 0..7 {
        let body = json!({"flow": "hello", "input": "x", "queue": if n % 2 == 0 { "even" } else { "odd" },
            "labels": {"n": n.to_string(), "kind": "test"}});
        all.push(server.submit(&body).await.to_string());
    }
    all.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/runs?limit=3&label=kind:test".to_owned();
    loop {
        let (status, page) = server.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|run| run["id"].as_str().unwrap().to_owned()),
        );
        assert!(page["items"][0].get("input").is_none(), "lists carry no payloads");
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        // With another filter the cursor is refused; with another limit it is fine.
        assert_eq!(
            server.get(&format!("/v1/runs?queue=odd&cursor={cursor}")).await.0,
            422
        );
        path = format!("/v1/runs?limit=2&label=kind:test&cursor={cursor}");
    }
    assert_eq!(seen, all);
    let count = async |query: &str| {
        let (_, page) = server.get(&format!("/v1/runs?{query}")).await;
        page["items"]
            .as_array()
            .map(Vec::len)
            .unwrap_or_else(|| panic!("{page}"))
    };
    assert_eq!(count("queue=even").await, 4);
    assert_eq!(count("label=n:3&label=kind:test").await, 1);
    assert_eq!(count("label=n:3&label=kind:other").await, 0);
    assert_eq!(count("state=running&state=queued").await, 7);
    assert_eq!(count("state=failed").await, 0);
    assert_eq!(count("flow=hello").await, 7);
    assert_eq!(count("flow=other").await, 0);
    assert_eq!(
        count("since=2020-01-01T00:00:00Z&until=2021-01-01T00:00:00Z").await,
        0
    );
    assert_eq!(count("since=2020-01-01T00:00:00Z").await, 7);
}

#[tokio::test]
async fn cancelling_a_waiting_a_running_and_an_ended_run() {
    let server = Server::with_flow().await;
    let waiting = server.run().await;
    let (status, body) = server
        .post(&format!("/v1/runs/{waiting}/cancel"), &Value::Null)
        .await;
    assert_eq!(
        (status, body["state"].as_str()),
        (StatusCode::OK, Some("cancelled"))
    );
    let (status, _) = server
        .post(&format!("/v1/runs/{waiting}/cancel"), &Value::Null)
        .await;
    assert_eq!(status, StatusCode::OK, "twice is fine");

    let running = server.run().await;
    let claimed = server.claim(running).await;
    let mut cancels = server.bus.cancels().await.unwrap();
    let (status, body) = server
        .post(&format!("/v1/runs/{running}/cancel"), &Value::Null)
        .await;
    assert_eq!(
        (status, body["cancel_requested"].as_bool()),
        (StatusCode::ACCEPTED, Some(true))
    );
    let told = tokio::time::timeout(Duration::from_secs(5), futures::StreamExt::next(&mut cancels)).await;
    assert_eq!(told.unwrap(), Some(running));
    server.finish(&claimed, json!("too late")).await;
    let (status, problem) = server
        .post(&format!("/v1/runs/{running}/cancel"), &Value::Null)
        .await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (409, Some("wrong_state"))
    );
}

#[tokio::test]
async fn cancelling_and_replaying_by_filter() {
    let server = Server::with_flow().await;
    for n in 0..6 {
        server
            .submit(&json!({"flow": "hello", "input": n.to_string(), "queue": if n < 4 { "a" } else { "b" }}))
            .await;
    }
    let (_, counts) = server
        .post("/v1/runs/cancel", &json!({"queue": "a", "dry_run": true}))
        .await;
    assert_eq!(
        (counts["matched"].as_u64(), counts["cancelled"].as_u64()),
        (Some(4), Some(0)),
        "{counts}"
    );
    let (_, counts) = server
        .post("/v1/runs/cancel", &json!({"queue": "a", "limit": 3}))
        .await;
    assert_eq!(counts["cancelled"], 3);
    assert_eq!(counts["more"], true);
    let (_, counts) = server.post("/v1/runs/cancel", &json!({"all": true})).await;
    assert_eq!(counts["cancelled"], 3, "{counts}");
    for (body, pointer) in [
        (json!({}), "/all"),
        (json!({"all": true, "queue": "a"}), "/all"),
        (json!({"state": ["succeeded"]}), "/state/0"),
        (json!({"state": ["nonsense"]}), "/state/0"),
        (json!({"queue": "a", "colour": 1}), "/colour"),
        (json!({"queue": "a", "limit": 0}), "/limit"),
    ] {
        let (status, problem) = server.post("/v1/runs/cancel", &body).await;
        assert_eq!(
            (status.as_u16(), problem["errors"][0]["pointer"].as_str()),
            (422, Some(pointer)),
            "{body}"
        );
    }
    let body = json!({"state": ["cancelled"], "queue": "a", "dry_run": true});
    assert_eq!(server.post("/v1/runs/replay", &body).await.1["matched"], 4);
    assert_eq!(server.get("/v1/runs?state=queued").await.1["items"], json!([]));
    let (_, counts) = server
        .post("/v1/runs/replay", &json!({"state": ["cancelled"], "queue": "a"}))
        .await;
    assert_eq!(counts["created"], 4, "{counts}");
    let (_, page) = server.get("/v1/runs?state=queued&queue=a").await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(4));
    assert!(page["items"][0]["replay_of"].is_string());
}

#[tokio::test]
async fn only_an_ended_run_can_be_replayed() {
    let server = Server::with_flow().await;
    let run = server
        .submit(&json!({"flow": "hello", "input": "again", "labels": {"a": "b"}}))
        .await;
    let path = format!("/v1/runs/{run}/replay");
    let (status, problem) = server.post(&path, &Value::Null).await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (409, Some("wrong_state"))
    );
    let claimed = server.claim(run).await;
    server.finish(&claimed, json!("x")).await;
    assert_eq!(server.post(&path, &json!({"input": "y"})).await.0, 422);
    let replay = async || {
        let request = server
            .request(Method::POST, &path)
            .header("Idempotency-Key", "r-1");
        answer(request.send().await.unwrap()).await
    };
    let (status, first) = replay().await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, second) = replay().await;
    assert_eq!((status, id(&first)), (StatusCode::OK, id(&second)));
    let (_, body) = server.get(&format!("/v1/runs/{}", id(&first))).await;
    assert_eq!(
        (body["input"].as_str(), body["replay_of"].as_str()),
        (Some("again"), Some(&*run.to_string()))
    );
    assert_eq!(body["labels"], json!({"a": "b"}));
}

#[tokio::test]
async fn explanations_follow_the_fleet() {
    let server = Server::with_flow().await;
    server.run().await;
    let run = server.run().await;
    let explain = async || server.get(&format!("/v1/runs/{run}/explain")).await.1;
    let first = explain().await;
    assert_eq!(
        (
            first["data"]["waits_for"].as_str(),
            first["data"]["ahead"].as_u64()
        ),
        (Some("no_workers"), Some(1))
    );
    assert!(
        first["summary"]
            .as_str()
            .unwrap()
            .contains("one run is ahead of it"),
        "{first}"
    );
    let now = jiff::Timestamp::now();
    let mut worker = WorkerPresence {
        id: flowfleet_core::WorkerId::generate(),
        host: "h".to_owned(),
        version: "0".to_owned(),
        queues: vec!["other".parse().unwrap()],
        capabilities: Default::default(),
        slots: 2,
        busy: 2,
        state: WorkerState::Accepting,
        lifecycle: "local".to_owned(),
        started_at: now,
        seen_at: now,
        place: Default::default(),
    };
    server
        .bus
        .announce(&worker, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(explain().await["data"]["waits_for"], "no_workers_for_queue");
    worker.queues.push("default".parse().unwrap());
    server
        .bus
        .announce(&worker, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(explain().await["data"]["waits_for"], "slots");
    let (_, fleet) = server.get("/v1/fleet").await;
    assert_eq!(fleet["capacity"][0]["slots"], 2);
    assert_eq!(fleet["queues"][0]["queued"], 2);
    let (_, workers) = server.get("/v1/fleet/workers").await;
    assert_eq!(workers["items"][0]["state"], "accepting");
    let claimed = server.claim(run).await;
    let running = explain().await;
    assert_eq!(
        (running["state"].as_str(), running["data"]["waits_for"].as_str()),
        (Some("running"), Some("worker"))
    );
    server.finish(&claimed, json!("x")).await;
    assert!(
        explain().await["summary"]
            .as_str()
            .unwrap()
            .starts_with("Succeeded")
    );
    let later = server
        .submit(&json!({"flow": "hello", "input": "x", "delay_s": 3600}))
        .await;
    let (_, scheduled) = server.get(&format!("/v1/runs/{later}/explain")).await;
    assert_eq!(scheduled["data"]["waits_for"], "time", "{scheduled}");
}
