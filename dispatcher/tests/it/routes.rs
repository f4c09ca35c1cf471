//! What holds for every route: the OpenAPI document, problems, unknown things, health and metrics, limits.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Parts, Server, answer, until};

#[tokio::test]
async fn unknown_paths_methods_and_parameters_are_problems() {
    let server = Server::start().await;
    for (method, path, status, code) in [
        (Method::GET, "/v1/nothing", 404, "not_found"),
        (Method::GET, "/v1/schedules", 404, "not_found"),
        (Method::GET, "/v1/fleet/decisions", 404, "not_found"),
        (Method::GET, "/v1/runs/no-uuid", 404, "not_found"),
        (
            Method::GET,
            "/v1/runs/00000000-0000-7000-8000-000000000000",
            404,
            "not_found",
        ),
        (
            Method::GET,
            "/v1/runs/00000000-0000-7000-8000-000000000000/events",
            404,
            "not_found",
        ),
        (
            Method::GET,
            "/v1/runs/00000000-0000-7000-8000-000000000000/explain",
            404,
            "not_found",
        ),
        (
            Method::POST,
            "/v1/runs/00000000-0000-7000-8000-000000000000/cancel",
            404,
            "not_found",
        ),
        (
            Method::POST,
            "/v1/runs/00000000-0000-7000-8000-000000000000/replay",
            404,
            "not_found",
        ),
        (Method::GET, "/v1/flows/nobody", 404, "not_found"),
        (Method::GET, "/v1/flows/nobody/versions/1", 404, "not_found"),
        (Method::GET, "/v1/flows/nobody/versions/x", 404, "not_found"),
        (Method::DELETE, "/v1/flows/nobody", 404, "not_found"),
        (Method::GET, "/v1/flows/b%20d", 422, "invalid"),
        (
            Method::DELETE,
            "/v1/keys/00000000-0000-7000-8000-000000000000",
            404,
            "not_found",
        ),
        (Method::PATCH, "/v1/runs", 405, "method_not_allowed"),
        (Method::DELETE, "/v1/fleet", 405, "method_not_allowed"),
        (Method::GET, "/v1/runs?colour=red", 422, "invalid"),
        (Method::GET, "/v1/runs?limit=0", 422, "invalid"),
        (Method::GET, "/v1/runs?limit=1&limit=2", 422, "invalid"),
        (Method::GET, "/v1/runs?state=done", 422, "invalid"),
        (Method::GET, "/v1/runs?label=x", 422, "invalid"),
        (Method::GET, "/v1/runs?since=yesterday", 422, "invalid"),
        (Method::GET, "/v1/runs?cursor=abc", 422, "invalid"),
        (Method::GET, "/v1/flows?x=1", 422, "invalid"),
        (Method::GET, "/v1/flows?cursor=abc", 422, "invalid"),
        (Method::GET, "/v1/fleet?x=1", 422, "invalid"),
        (Method::GET, "/v1/audit?x=1", 422, "invalid"),
        (Method::POST, "/v1/runs?wait_s=9999", 422, "invalid"),
        (Method::POST, "/v1/runs/cancel", 422, "invalid"),
        (Method::POST, "/v1/runs/replay", 422, "invalid"),
    ] {
        let (found, body) = server.call(method.clone(), path, &Value::Null).await;
        assert_eq!(
            (found.as_u16(), body["code"].as_str()),
            (status, Some(code)),
            "{method} {path}: {body}"
        );
    }
    let response = server.request(Method::PATCH, "/v1/runs").send().await.unwrap();
    let allow = response.headers()["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

#[tokio::test]
async fn the_openapi_document_describes_every_route_and_resolves() {
    let server = Server::start().await;
    let (status, document) = server.get("/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(document["openapi"].as_str().map(|v| &v[..3]), Some("3.1"));
    let mut calls = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(
                operation["responses"].as_object().is_some_and(|r| !r.is_empty()),
                "{method} {path}"
            );
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            calls.insert(format!("{} {path}", method.to_uppercase()));
            // Mounted: whatever it answers, it is neither "no such path" nor "no such method".
            let path = path
                .replace("{id}", "00000000-0000-7000-8000-000000000000")
                .replace("{name}", "n");
            let path = path.replace("{version}", "1");
            let (status, body) = server
                .call(method.to_uppercase().parse().unwrap(), &path, &Value::Null)
                .await;
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            let text = body["detail"].as_str().unwrap_or_default();
            assert!(!text.starts_with("there is no call"), "{method} {path}: {text}");
        }
    }
    let contract = [
        "PUT /v1/flows/{name}",
        "GET /v1/flows",
        "GET /v1/flows/{name}",
        "GET /v1/flows/{name}/versions/{version}",
        "DELETE /v1/flows/{name}",
        "POST /v1/runs",
        "POST /v1/runs/batch",
        "GET /v1/runs",
        "GET /v1/runs/{id}",
        "GET /v1/runs/{id}/events",
        "GET /v1/runs/{id}/explain",
        "POST /v1/runs/{id}/cancel",
        "POST /v1/runs/{id}/replay",
        "POST /v1/runs/cancel",
        "POST /v1/runs/replay",
        "GET /v1/fleet",
        "GET /v1/fleet/workers",
        "POST /v1/fleet/workers/{id}/drain",
        "POST /v1/fleet/workers/{id}/undrain",
        "POST /v1/keys",
        "GET /v1/keys",
        "DELETE /v1/keys/{id}",
        "GET /v1/audit",
        "POST /api/v1/run/{flow}",
        "POST /api/v1/webhook/{flow}",
        "GET /api/v1/flows/",
        "POST /api/v1/flows/",
        "GET /api/v1/flows/{id}",
        "PATCH /api/v1/flows/{id}",
        "PUT /api/v1/flows/{id}",
        "DELETE /api/v1/flows/{id}",
        "POST /api/v1/flows/upload/",
        "POST /api/v1/flows/batch/",
        "POST /api/v1/flows/download/",
        "GET /api/v1/projects/",
        "POST /api/v1/projects/",
        "POST /api/v1/projects/upload/",
        "GET /api/v1/projects/{id}",
        "PATCH /api/v1/projects/{id}",
        "DELETE /api/v1/projects/{id}",
        "GET /api/v1/projects/download/{id}",
        "POST /api/v1/files/upload/{flow}",
        "GET /api/v1/files/download/{flow}/{file}",
        "GET /api/v1/files/list/{flow}",
        "DELETE /api/v1/files/delete/{flow}/{file}",
        "GET /api/v2/files",
        "POST /api/v2/files",
        "DELETE /api/v2/files/{id}",
        "GET /logs",
        "GET /logs-stream",
        "GET /api/v2/workflows",
        "POST /api/v2/workflows",
        "POST /api/v2/workflows/stop",
        "GET /api/v2/workflows/pending",
        "GET /api/v2/workflows/{job}/events",
        "POST /api/v2/workflows/{job}/resume",
        "GET /api/v1/knowledge_bases",
        "POST /api/v1/knowledge_bases",
        "GET /api/v1/knowledge_bases/{name}",
        "DELETE /api/v1/knowledge_bases/{name}",
        "GET /api/v1/monitor/messages",
        "GET /api/v1/monitor/messages/sessions",
        "DELETE /api/v1/monitor/messages/session/{session_id}",
        "GET /api/v1/version",
        "GET /health",
        "GET /health_check",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
        "GET /openapi.json",
        "GET /docs",
        "GET /",
    ];
    assert_eq!(calls, contract.into_iter().map(str::to_owned).collect());
    references(&document, &document);
}

/// Every `$ref` leads somewhere.
fn references(at: &Value, document: &Value) {
    match at {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            map.values().for_each(|value| references(value, document));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, document)),
        _ => {}
    }
}

#[tokio::test]
async fn pages_carry_all_they_need() {
    let server = Server::start().await;
    for path in ["/", "/docs"] {
        let response = server.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(
            response.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'none'")
        );
        let page = response.text().await.unwrap();
        assert!(page.contains("<title>") && !page.contains("src=\"http") && !page.contains("cdn"));
    }
}

#[tokio::test]
async fn health_and_metrics() {
    let server = Server::with_flow().await;
    server.run().await;
    assert_eq!(
        server.get("/health/live").await,
        (StatusCode::OK, json!({"live": true}))
    );
    until("ready", async || {
        server.get("/health/ready").await.0 == StatusCode::OK
    })
    .await;
    let (_, ready) = server.get("/health/ready").await;
    for what in ["store", "queue", "bus", "blob"] {
        assert_eq!(ready["checks"][what]["ok"], true, "{ready}");
    }
    let response = server.request(Method::GET, "/metrics").send().await.unwrap();
    let text = response.text().await.unwrap();
    for line in [
        "flowfleet_runs_submitted_total{queue=\"default\"} 1",
        "flowfleet_http_requests_total{route=\"/v1/runs\",status=\"202\"} 1",
        "flowfleet_http_request_seconds_bucket{route=\"/v1/flows/{name}\"",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_back() {
    let mut parts = Parts::new().await;
    parts.config.limits.concurrent_requests = 1;
    let server = parts.start().await;
    // A request whose body never ends holds the only place.
    let (_body, stream) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(stream));
    let slow = server.request(Method::POST, "/v1/runs").body(body);
    let slow = tokio::spawn(slow.send());
    until("503", async || {
        server.get("/v1/runs").await.0 == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let response = server.request(Method::GET, "/v1/runs").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, body) = answer(response).await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("overloaded"))
    );
    // Health checks are always answered.
    assert_eq!(server.get("/health/live").await.0, StatusCode::OK);
    slow.abort();
    until("200", async || server.get("/v1/runs").await.0 == StatusCode::OK).await;
}

#[tokio::test]
async fn bodies_over_the_limit_are_413() {
    let mut parts = Parts::new().await;
    parts.config.limits.body_bytes = 1_000;
    let server = parts.start().await;
    let (status, body) = server
        .post("/v1/runs", &json!({"flow": "a", "input": "x".repeat(2_000)}))
        .await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, Some("too_large"))
    );
    // The same without a length in front.
    let chunks = futures::stream::iter((0..50).map(|_| Ok::<_, std::io::Error>("x".repeat(100))));
    let request = server
        .request(Method::POST, "/v1/runs")
        .body(reqwest::Body::wrap_stream(chunks));
    let (status, body) = answer(request.send().await.unwrap()).await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, Some("too_large"))
    );
}

#[tokio::test]
async fn a_drain_lets_waiting_requests_and_streams_end() {
    let server = Server::with_flow().await;
    let run = server.run().await;
    let path = format!("/v1/runs/{run}?wait_s=60");
    let waiting = tokio::spawn(server.request(Method::GET, &path).send());
    let stream = server
        .request(Method::GET, &format!("/v1/runs/{run}/events"))
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    until("both listen", async || {
        let text = server
            .request(Method::GET, "/metrics")
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        text.contains("flowfleet_listeners 2")
    })
    .await;
    server.shutdown.drain();
    let text = tokio::time::timeout(Duration::from_secs(10), stream.text())
        .await
        .unwrap()
        .unwrap();
    assert!(text.contains("run.queued"));
    // In flight when the drain began: answered with the run as it is.
    let (status, body) = answer(waiting.await.unwrap().unwrap()).await;
    assert_eq!((status, body["state"].as_str()), (StatusCode::OK, Some("queued")));
    server.stop().await;
}

/// What the layers around the calls answer is described once and stands at every call.
#[tokio::test]
async fn every_call_describes_who_may_make_it_and_how_it_is_refused() {
    let server = Server::start().await;
    let (_, document) = server.get("/openapi.json").await;
    let (mut open, mut secured) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let has = |status: &str| operation["responses"].get(status).is_some();
            let closed = ["/v1/", "/api/v1/", "/api/v2/", "/logs"]
                .iter()
                .any(|root| path.starts_with(root));
            let closed = closed && path != "/api/v1/version";
            let has_body = operation.get("requestBody").is_some();
            for (status, expected) in [
                ("401", closed),
                ("403", closed),
                ("422", closed),
                ("413", has_body),
            ] {
                assert_eq!(has(status), expected, "{method} {path} {status}");
            }
            *(if closed { &mut secured } else { &mut open }) += 1;
        }
    }
    assert!(open >= 6 && secured >= 20, "{open} {secured}");
    let reference = &document["paths"]["/v1/runs"]["get"]["responses"]["401"]["$ref"];
    assert!(
        document
            .pointer(reference.as_str().unwrap().trim_start_matches('#'))
            .is_some()
    );
}
