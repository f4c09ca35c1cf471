//! Langflow's API: runs as its clients make them. The engine itself plays the worker, so that answers are real.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::port::{Fenced, Live, Role};
use flowfleet_core::run::{ClaimedRun, Ending, Finish, RunError, RunErrorKind, RunInput, Usage};
use flowfleet_core::{Payload, RunId, Tenant};
use flowfleet_engine::{CompileLimits, Http, ModelSettings, Request, Services, compile, execute};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{HELLO, Parts, Server, answer, id, until};

/// The id in the export of the flow `hello`.
pub(crate) const HELLO_ID: &str = "0f1ee700-0000-4000-8000-000000000001";

/// Sends a call and lets it wait.
fn send(server: &Server, path: &str, body: &Value) -> JoinHandle<reqwest::Response> {
    let request = server.request(Method::POST, path).json(body);
    let request = request.header("X-Langflow-Global-Var-City", "Ghent");
    tokio::spawn(async move { request.send().await.unwrap() })
}

/// The newest run, once there is one, claimed.
pub(crate) async fn claim(server: &Server) -> ClaimedRun {
    let mut found = None;
    until("a run is queued", async || {
        let (_, body) = server.get("/v1/runs?state=queued").await;
        found = body["items"].get(0).map(id);
        found.is_some()
    })
    .await;
    server.claim(found.unwrap()).await
}

pub(crate) fn input(claimed: &ClaimedRun) -> RunInput {
    let Payload::Inline(input) = &claimed.input else {
        panic!("{:?}", claimed.input)
    };
    serde_json::from_value(input.clone()).unwrap()
}

/// What the engine makes of a claimed run of `hello`.
pub(crate) async fn executed(claimed: &ClaimedRun) -> Value {
    let plan = Arc::new(compile(HELLO.as_bytes(), &CompileLimits::default()).unwrap());
    let input = input(claimed);
    let request = Request {
        input: input.input,
        tweaks: input.tweaks,
        variables: input.variables,
        session_id: claimed.session_id.clone(),
        ..Request::default()
    }
    .called_as(serde_json::from_value(input.langflow).unwrap());
    let services = Services {
        knowledge: None,
        memory: None,
        files: Arc::new(flowfleet_engine::NoFiles),
        http: Http::new().unwrap(),
        environment: Arc::new(|_: &str| None),
        clock: Arc::new(jiff::Timestamp::now),
        model: Arc::new(ModelSettings::default()),
        outbound: Arc::default(),
    };
    let run = claimed.lease.run.to_string();
    let outcome = execute(
        &plan,
        &request,
        BTreeMap::new(),
        &run,
        &services,
        Arc::new(|_| ()),
        flowfleet_engine::Control::default(),
    );
    outcome.await.unwrap().langflow.unwrap()
}

pub(crate) async fn finish(server: &Server, claimed: &ClaimedRun, ending: Ending, outputs: Value) {
    let error = (ending == Ending::Failed).then(|| RunError {
        kind: RunErrorKind::Node,
        code: "model_unauthorized".to_owned(),
        message: "the model refused the key".to_owned(),
        node: None,
    });
    let finish = Finish {
        lease: claimed.lease,
        after_seq: claimed.last_seq,
        ending,
        events: Vec::new(),
        output: Payload::null(),
        outputs: Payload::Inline(outputs),
        error,
        usage: Usage::default(),
        nodes_reused: 0,
    };
    match server.store.finish(&[finish]).await.unwrap().pop().unwrap() {
        Fenced::Applied { events } => {
            let live = vec![Live::Events { events }];
            server.bus.publish(live).await.unwrap();
        }
        Fenced::Stale => panic!("the lease was lost"),
    }
}

#[tokio::test]
async fn a_call_is_a_run_and_its_answer_langflows() {
    let server = Server::with_flow().await;
    let body = json!({"input_value": "Ada", "tweaks": {}, "session_id": "s-1", "user_id": "ignored"});
    let call = send(&server, "/api/v1/run/hello", &body);
    let claimed = claim(&server).await;
    let given = input(&claimed);
    assert_eq!(given.input, "Ada");
    assert_eq!(
        given.variables,
        BTreeMap::from([("CITY".to_owned(), "Ghent".to_owned())])
    );
    assert_eq!(claimed.session_id.as_deref(), Some("s-1"));
    finish(&server, &claimed, Ending::Succeeded, executed(&claimed).await).await;
    let (status, body) = answer(call.await.unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["session_id"], "s-1");
    let message = &body["outputs"][0]["outputs"][0]["results"]["message"];
    assert_eq!(message["text"], "Hello, Ada! This flow ran on Flowfleet.");
    assert_eq!(message["flow_id"], HELLO_ID);
    assert_eq!(
        message["session_metadata"]["graph_run_id"],
        claimed.lease.run.to_string()
    );
    // It is a run like any other, and what the headers said is not shown.
    let (_, run) = server.get(&format!("/v1/runs/{}", claimed.lease.run)).await;
    assert_eq!(
        (&run["state"], &run["input"]),
        (&json!("succeeded"), &json!("Ada"))
    );
    assert!(!run.to_string().contains("Ghent"), "{run}");
    server.stop().await;
}

#[tokio::test]
async fn a_flow_is_called_by_id_or_name_and_its_id_is_the_session() {
    let server = Server::with_flow().await;
    let mut bare: Value = serde_json::from_str(HELLO).unwrap();
    bare.as_object_mut().unwrap().remove("id");
    let (_, put) = server.call(Method::PUT, "/v1/flows/bare", &bare).await;
    let made = put["id"].as_str().unwrap();
    assert_ne!(made, HELLO_ID);
    for (flow, session) in [
        ("hello", HELLO_ID),
        (HELLO_ID, HELLO_ID),
        (made, made),
        ("bare", made),
    ] {
        let call = send(&server, &format!("/api/v1/run/{flow}?stream=false"), &Value::Null);
        let claimed = claim(&server).await;
        assert_eq!(claimed.session_id.as_deref(), Some(session), "{flow}");
        finish(&server, &claimed, Ending::Succeeded, json!([])).await;
        let (status, body) = answer(call.await.unwrap()).await;
        assert_eq!(
            (status, &body["session_id"]),
            (StatusCode::OK, &json!(session)),
            "{flow}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_before_it_is_queued() {
    let server = Server::with_flow().await;
    for (path, body, status, code) in [
        ("/api/v1/run/nobody", json!({}), 404, "not_found"),
        ("/api/v1/run/b%20d", json!({}), 404, "not_found"),
        (
            "/api/v1/run/0f1ee700-0000-4000-8000-00000000ffff",
            json!({}),
            404,
            "not_found",
        ),
        ("/api/v1/webhook/nobody", json!({}), 404, "not_found"),
        (
            "/api/v1/run/hello",
            json!({"input_type": "voice"}),
            422,
            "invalid",
        ),
        (
            "/api/v1/run/hello",
            json!({"context": {"a": 1}}),
            422,
            "not_available",
        ),
        (
            "/api/v1/run/hello",
            json!({"output_component": "nobody"}),
            422,
            "request_refused",
        ),
        ("/api/v1/run/hello?stream=yes", json!({}), 422, "invalid"),
        ("/api/v1/run/hello?colour=red", json!({}), 422, "invalid"),
    ] {
        let (found, body) = server.post(path, &body).await;
        assert_eq!(
            (found.as_u16(), body["code"].as_str()),
            (status, Some(code)),
            "{path}: {body}"
        );
        assert!(body["detail"].is_string());
    }
    let form = server
        .request(Method::POST, "/api/v1/run/hello")
        .header("content-type", "multipart/form-data; boundary=x")
        .body("--x--");
    assert_eq!(
        answer(form.send().await.unwrap()).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let (_, runs) = server.get("/v1/runs").await;
    assert_eq!(runs["items"], json!([]));
}

#[tokio::test]
async fn a_failed_run_says_why_where_clients_look() {
    let server = Server::with_flow().await;
    let call = send(&server, "/api/v1/run/hello", &json!({}));
    let claimed = claim(&server).await;
    finish(&server, &claimed, Ending::Failed, Value::Null).await;
    let (status, body) = answer(call.await.unwrap()).await;
    assert_eq!(
        (status.as_u16(), body["code"].as_str()),
        (500, Some("run_failed"))
    );
    let detail: Value = serde_json::from_str(body["detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail["message"], "the model refused the key");
    assert_eq!(detail["code"], "model_unauthorized");
    for field in ["traceback", "description", "suggestion"] {
        assert_eq!(detail.get(field), Some(&Value::Null), "{field}");
    }
}

#[tokio::test]
async fn a_run_that_takes_longer_is_named_and_goes_on() {
    let mut parts = Parts::new().await;
    parts.config.limits.wait_s = 0;
    let server = parts.start().await;
    server.put_flow("hello").await;
    let (status, body) = server.post("/api/v1/run/hello", &json!({})).await;
    assert_eq!(
        (status.as_u16(), body["code"].as_str()),
        (504, Some("run_unfinished"))
    );
    let claimed = claim(&server).await;
    let run: RunId = claimed.lease.run;
    assert!(
        body["detail"]
            .as_str()
            .unwrap()
            .contains(&format!("GET /v1/runs/{run}")),
        "{body}"
    );
}

#[tokio::test]
async fn a_repeated_key_gets_the_same_run() {
    let server = Server::with_flow().await;
    let ask = |input: &str| {
        let request = server.request(Method::POST, "/api/v1/run/hello");
        let request = request
            .header("idempotency-key", "k")
            .json(&json!({"input_value": input}));
        tokio::spawn(async move { answer(request.send().await.unwrap()).await })
    };
    let first = ask("Ada");
    let claimed = claim(&server).await;
    finish(&server, &claimed, Ending::Succeeded, executed(&claimed).await).await;
    let first = first.await.unwrap();
    assert_eq!(first.0, StatusCode::OK);
    assert_eq!(ask("Ada").await.unwrap(), first);
    let (status, body) = ask("Bob").await.unwrap();
    assert_eq!(
        (status.as_u16(), body["code"].as_str()),
        (409, Some("idempotency_conflict"))
    );
}

#[tokio::test]
async fn a_webhook_starts_a_run_with_what_was_sent() {
    let server = Server::start().await;
    let mut hook: Value = serde_json::from_str(HELLO).unwrap();
    let webhook = json!({"id": "Webhook-1", "data": {"id": "Webhook-1", "type": "Webhook", "node": {
        "display_name": "Webhook", "outputs": [{"name": "output_data", "types": ["JSON"]}],
        "template": {"data": {"type": "str", "value": "", "show": true}},
    }}});
    hook["data"]["nodes"].as_array_mut().unwrap().push(webhook);
    let (status, put) = server.call(Method::PUT, "/v1/flows/hook", &hook).await;
    assert!(status.is_success(), "{put}");
    let (_, shown) = server.get("/api/v1/flows/hook").await;
    assert_eq!(shown["webhook"], true);

    let send = async |path: &str, body: Vec<u8>| {
        let request = server.request(Method::POST, path);
        let request = request
            .header("x-flowfleet-queue", "hooks")
            .header("idempotency-key", "k")
            .body(body);
        request.send().await.unwrap()
    };
    let sent = br#"{"a": "b"}"#.to_vec();
    let response = send("/api/v1/webhook/hook", sent.clone()).await;
    let run: RunId = response.headers()["x-flowfleet-run"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let expected = json!({"message": "Task started in the background", "status": "in progress"});
    assert_eq!(answer(response).await, (StatusCode::ACCEPTED, expected.clone()));
    let claimed = server.claim(run).await;
    assert_eq!(claimed.queue.as_str(), "hooks");
    assert_eq!(
        input(&claimed).tweaks,
        json!({"Webhook-1": {"data": r#"{"a": "b"}"#}})
    );
    // Sent again with the same key, it is the same run.
    let again = send("/api/v1/webhook/hook", sent).await;
    assert_eq!(again.headers()["x-flowfleet-run"], run.to_string());
    assert_eq!(answer(again).await, (StatusCode::ACCEPTED, expected));

    for (body, status, code) in [
        (Vec::new(), 400, "body_missing"),
        (vec![0xff], 422, "invalid"),
        (b"other".to_vec(), 409, "idempotency_conflict"),
    ] {
        let (found, body) = answer(send("/api/v1/webhook/hook", body).await).await;
        assert_eq!(
            (found.as_u16(), body["code"].as_str()),
            (status, Some(code)),
            "{body}"
        );
    }
    let nowhere = server
        .request(Method::POST, "/api/v1/webhook/hook")
        .header("x-flowfleet-queue", "b d")
        .body("x");
    assert_eq!(answer(nowhere.send().await.unwrap()).await.0, 422);
}

async fn frames(call: JoinHandle<reqwest::Response>) -> Vec<(String, Value)> {
    let response = call.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let text = tokio::time::timeout(Duration::from_secs(15), response.text());
    let text = text.await.expect("the stream ends").unwrap();
    assert!(text.ends_with("\n\n") && !text.contains("data: "), "{text}");
    let frame = |frame: &str| {
        let mut frame: Value = serde_json::from_str(frame).unwrap();
        assert_eq!(frame.as_object().unwrap().len(), 2, "{frame}");
        (frame["event"].as_str().unwrap().to_owned(), frame["data"].take())
    };
    text.split("\n\n")
        .filter(|frame| !frame.trim().is_empty())
        .map(frame)
        .collect()
}

#[tokio::test]
async fn a_stream_tells_the_messages_and_the_answer() {
    let server = Server::with_flow().await;
    // As a body's field and as a parameter.
    for (path, body) in [
        ("/api/v1/run/hello?stream=true", json!({"input_value": "Ada"})),
        ("/api/v1/run/hello", json!({"input_value": "Ada", "stream": true})),
    ] {
        let call = send(&server, path, &body);
        let claimed = claim(&server).await;
        let outputs = executed(&claimed).await;
        finish(&server, &claimed, Ending::Succeeded, outputs.clone()).await;
        let told = frames(call).await;
        let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["add_message", "add_message", "end"]);
        let (user, machine) = (&told[0].1, &told[1].1);
        assert_eq!((&user["sender"], &user["text"]), (&json!("User"), &json!("Ada")));
        assert_eq!(machine["text"], "Hello, Ada! This flow ran on Flowfleet.");
        assert_eq!(
            machine["id"],
            outputs[0]["outputs"][0]["results"]["message"]["data"]["id"]
        );
        assert_ne!(user["id"], machine["id"]);
        assert_eq!(
            told[2].1["result"],
            json!({"session_id": HELLO_ID, "outputs": outputs})
        );
    }
}

#[tokio::test]
async fn a_stream_of_a_failed_run_ends_with_its_error() {
    let server = Server::with_flow().await;
    let call = send(&server, "/api/v1/run/hello?stream=true", &json!({}));
    let claimed = claim(&server).await;
    finish(&server, &claimed, Ending::Failed, Value::Null).await;
    let told = frames(call).await;
    let (kind, data) = told.last().unwrap();
    assert_eq!(
        (kind.as_str(), data),
        ("error", &json!({"error": "the model refused the key"}))
    );
}

#[tokio::test]
async fn the_server_says_which_langflow_it_is() {
    let server = Server::start().await;
    let (status, body) = server.get("/api/v1/version").await;
    assert_eq!(status, StatusCode::OK);
    for field in ["version", "main_version", "package"] {
        assert!(body[field].is_string(), "{body}");
    }
    assert_eq!(
        server.get("/health").await,
        (StatusCode::OK, json!({"status": "ok"}))
    );
    until("the server is ready", async || {
        server.get("/health_check").await.0 == StatusCode::OK
    })
    .await;
    let (_, body) = server.get("/health_check").await;
    assert_eq!(body, json!({"status": "ok", "chat": "ok", "db": "ok"}));
}

#[tokio::test]
async fn keys_and_tenants_hold_for_langflows_paths() {
    let server = Server::with_flow().await;
    let other: Tenant = "other".parse().unwrap();
    let key = crate::auth::key(&server, other.as_str(), Role::Submit).await;
    until("keys are needed", async || server.get("/v1/runs").await.0 == 401).await;
    let call = async |key: Option<&str>, flow: &str| {
        let mut request = server.request(Method::POST, &format!("/api/v1/run/{flow}"));
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        answer(request.send().await.unwrap()).await.0.as_u16()
    };
    assert_eq!(call(None, "hello").await, 401);
    assert_eq!(call(Some(&key), "hello").await, 404, "another tenant's");
    assert_eq!(call(Some(&key), HELLO_ID).await, 404, "another tenant's");
    assert_eq!(
        server.get("/api/v1/version").await.0,
        StatusCode::OK,
        "open to all"
    );
}
