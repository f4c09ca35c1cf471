//! Flows: upload, versions, refusals that store nothing, deletion.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{HELLO, Parts, Server, answer};

async fn put(server: &Server, name: &str, text: String) -> (StatusCode, Value) {
    answer(
        server
            .request(Method::PUT, &format!("/v1/flows/{name}"))
            .body(text)
            .send()
            .await
            .unwrap(),
    )
    .await
}

#[tokio::test]
async fn versions_are_immutable_and_equal_content_makes_none() {
    let server = Server::start().await;
    let (status, first) = put(&server, "hello", HELLO.to_owned()).await;
    assert_eq!(status, StatusCode::CREATED, "{first}");
    assert_eq!(
        (first["version"].as_u64(), first["engine"].as_str()),
        (Some(1), Some("native"))
    );
    assert_eq!(first["unsupported"], json!([]));
    assert!(first["nodes"].as_u64() >= Some(3), "{first}");
    let (status, again) = put(&server, "hello", HELLO.to_owned()).await;
    assert_eq!((status, again["version"].as_u64()), (StatusCode::OK, Some(1)));
    let (status, second) = put(&server, "hello", HELLO.replace("Hello, ", "Goodbye, ")).await;
    assert_eq!(
        (status, second["version"].as_u64()),
        (StatusCode::CREATED, Some(2))
    );
    assert_ne!(first["digest"], second["digest"]);
    let (status, old) = server.get("/v1/flows/hello/versions/1").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(old["document"], serde_json::from_str::<Value>(HELLO).unwrap());
    assert_eq!(
        old["node_list"].as_array().map(Vec::len),
        first["nodes"].as_u64().map(|n| n as usize)
    );
    assert_eq!(server.get("/v1/flows/hello").await.1["version"], 2);
    assert_eq!(
        server.get("/v1/flows/hello/versions/3").await.0,
        StatusCode::NOT_FOUND
    );
    let (_, run) = server
        .post("/v1/runs", &json!({"flow": "hello@1", "input": "x"}))
        .await;
    assert_eq!(run["version"], 1);
}

#[tokio::test]
async fn a_new_version_is_used_at_once_and_a_deleted_flow_never_again() {
    let server = Server::with_flow().await;
    for version in 2..6 {
        let (_, run) = server
            .post("/v1/runs", &json!({"flow": "hello", "input": "x"}))
            .await;
        assert_eq!(run["version"], version - 1);
        put(
            &server,
            "hello",
            HELLO.replace("Hello, ", &format!("Hello {version}, ")),
        )
        .await;
    }
    let queued = server.run().await;
    assert_eq!(
        server
            .call(Method::DELETE, "/v1/flows/hello", &Value::Null)
            .await
            .0,
        StatusCode::NO_CONTENT
    );
    let (status, problem) = server
        .post("/v1/runs", &json!({"flow": "hello", "input": "x"}))
        .await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (422, Some("flow_not_found"))
    );
    assert_eq!(problem["errors"][0]["pointer"], "/flow");
    assert_eq!(server.get("/v1/flows").await.1["items"], json!([]));
    assert_eq!(server.state(queued).await, "queued");
    assert_eq!(
        put(&server, "hello", HELLO.to_owned()).await.1["version"],
        6,
        "numbers go on"
    );
}

#[tokio::test]
async fn lists_page_by_name() {
    let server = Server::start().await;
    for n in 0..5 {
        server.put_flow(&format!("flow-{n}")).await;
    }
    let mut names = Vec::new();
    let mut path = "/v1/flows?limit=2".to_owned();
    loop {
        let (_, page) = server.get(&path).await;
        names.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|f| f["name"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/flows?limit=2&cursor={cursor}");
    }
    assert_eq!(names, (0..5).map(|n| format!("flow-{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn bad_flows_are_refused_with_places_and_nothing_is_stored() {
    let server = Server::start().await;
    let hello: Value = serde_json::from_str(HELLO).unwrap();
    let mut cycle = hello.clone();
    let edges = cycle["data"]["edges"].as_array_mut().unwrap();
    let mut back = edges[0].clone();
    let (source, target) = (back["source"].clone(), back["target"].clone());
    back["source"] = target;
    back["target"] = source;
    edges.push(back);
    let mut nobody = hello.clone();
    nobody["data"]["edges"][0]["target"] = json!("Nobody-1");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = "x".repeat(50 << 20);
    for (what, text, code) in [
        ("empty", String::new(), "flow_invalid"),
        ("no JSON", "{".to_owned(), "flow_invalid"),
        ("not a flow", "{\"nodes\": 1}".to_owned(), "flow_invalid"),
        ("not an object", "[]".to_owned(), "flow_invalid"),
        ("cycle", cycle.to_string(), "flow_invalid"),
        ("edge to nobody", nobody.to_string(), "flow_invalid"),
        ("deep nesting", deep, "flow_invalid"),
    ] {
        let (status, problem) = put(&server, "bad", text).await;
        assert_eq!(
            (status.as_u16(), problem["code"].as_str()),
            (422, Some(code)),
            "{what}: {problem}"
        );
        assert!(
            !problem["errors"][0]["detail"]
                .as_str()
                .unwrap_or_default()
                .is_empty(),
            "{what}: {problem}"
        );
    }
    // The server may answer and close before it has read 50 MB.
    let request = server.request(Method::PUT, "/v1/flows/bad").body(huge);
    if let Ok(response) = request.send().await {
        assert_eq!(answer(response).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(server.get("/v1/flows").await.1["items"], json!([]));
    assert_eq!(server.get("/v1/audit").await.1["items"], json!([]));
}

/// A flow with a component of somebody's own.
pub(crate) fn with_own_component() -> Value {
    let mut flow: Value = serde_json::from_str(HELLO).unwrap();
    flow["data"]["nodes"][1]["data"]["type"] = json!("NeverHeardOf");
    flow["data"]["nodes"][1]["data"]["node"]["metadata"] = json!({});
    flow["data"]["nodes"][1]["data"]["node"]["template"]["code"] = json!({"value": "import os"});
    flow
}

#[tokio::test]
async fn a_flow_that_needs_python_is_stored_and_says_why() {
    let server = Server::start().await;
    let (status, stored) = put(&server, "own", with_own_component().to_string()).await;
    assert_eq!(status, StatusCode::CREATED, "{stored}");
    assert_eq!(stored["engine"], "python");
    let why = stored["unsupported"][0].as_str().unwrap();
    assert!(why.contains("NeverHeardOf has no native implementation"), "{why}");
    assert_eq!(server.get("/v1/flows/own").await.1["engine"], "python");
    let mut langflow = with_own_component();
    langflow["name"] = json!("Own again");
    langflow["id"] = json!("0f1ee700-0000-4000-8000-00000000000a");
    let (status, answer) = server.post("/api/v1/flows/", &langflow).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

/// A dispatcher that starts under load must not read and compile a large flow once for each request.
#[tokio::test]
async fn requests_that_ask_at_once_share_one_plan() {
    let first = Server::with_flow().await;
    let mut parts = Parts::new().await;
    parts.deps.store = first.store.clone();
    // Its caches are empty.
    let server = parts.start().await;
    let reads = async || {
        let answer = server.request(Method::GET, "/metrics").send().await.unwrap();
        let text = answer.text().await.unwrap();
        let count = "flowfleet_store_operation_seconds_count{operation=\"flow_document\"";
        let line = text.lines().find(|line| line.starts_with(count));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
    };
    let before = reads().await;
    let body = json!({"flow": "hello", "input": "x"});
    let answers = futures::future::join_all((0..50).map(|_| server.post("/v1/runs", &body))).await;
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::ACCEPTED));
    assert_eq!(reads().await - before, 1);
}

/// Editors on Windows write one; JSON does not know it.
#[tokio::test]
async fn a_flow_with_a_byte_order_mark_is_stored_and_shown() {
    let server = Server::start().await;
    let body = format!("\u{feff}{HELLO}");
    let put = server.request(Method::PUT, "/v1/flows/marked").body(body);
    let (status, _) = answer(put.send().await.unwrap()).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, shown) = server.get("/v1/flows/marked/versions/1").await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!(shown["document"], serde_json::from_str::<Value>(HELLO).unwrap());
}
