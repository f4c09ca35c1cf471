//! The server as its clients see it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use flowfleet_mock_model::{Config, Handle, spawn};
use serde_json::{Value, json};

fn ask(message: &str, stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": message}]})
}

async fn post(server: &Handle, body: &Value) -> reqwest::Response {
    let url = format!("{}/chat/completions", server.base_url());
    reqwest::Client::new()
        .post(url)
        .body(body.to_string())
        .send()
        .await
        .unwrap()
}

async fn get(server: &Handle, path: &str) -> Value {
    let text = reqwest::get(format!("http://{}{path}", server.addr()))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

fn pieces(stream: &str) -> Vec<Value> {
    let data = stream
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn answers_whole_and_streamed_are_the_same() {
    let server = spawn(Config::default()).await.unwrap();
    let whole: Value =
        serde_json::from_str(&post(&server, &ask("hi there", false)).await.text().await.unwrap()).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "echo: hi there");
    let response = post(&server, &ask("hi there", true)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
    let pieces = pieces(&text);
    let streamed: String = pieces
        .iter()
        .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(streamed, "echo: hi there");
    assert_eq!(pieces.last().unwrap()["usage"], whole["usage"]);
    assert_eq!(server.counts(), [("hi there".to_owned(), 2)].into());
    assert_eq!((server.requests(), server.answered()), (2, 2));
}

#[tokio::test]
async fn tokens_come_at_their_pace() {
    let server = spawn(Config {
        latency_ms: 50,
        tokens_per_s: 20.0,
        ..Config::default()
    })
    .await
    .unwrap();
    let start = Instant::now();
    let text = post(&server, &ask("a b c", true)).await.text().await.unwrap();
    // Four tokens: the first after the latency, the others 50 ms apart.
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
    let streamed: String = pieces(&text)
        .iter()
        .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(streamed, "echo: a b c");
}

#[tokio::test]
async fn fails_when_told_to() {
    let config = Config {
        fail_every: 2,
        fail_status: 503,
        retry_after_s: Some(7),
        ..Config::default()
    };
    let server = spawn(config).await.unwrap();
    assert_eq!(post(&server, &ask("a", false)).await.status(), 200);
    let failed = post(&server, &ask("a", false)).await;
    assert_eq!(
        (
            failed.status().as_u16(),
            failed.headers()["retry-after"].to_str().unwrap()
        ),
        (503, "7")
    );
    let stats = get(&server, "/stats").await;
    assert_eq!(
        (&stats["requests"], &stats["failed"], &stats["counts"]["a"]),
        (&json!(2), &json!(1), &json!(1))
    );
    server.reset();
    assert_eq!(get(&server, "/stats").await["requests"], 0);
}

#[tokio::test]
async fn bad_requests_and_keys_are_refused() {
    let server = spawn(Config {
        api_key: Some("k".to_owned()),
        ..Config::default()
    })
    .await
    .unwrap();
    assert_eq!(post(&server, &ask("a", false)).await.status(), 401);
    let open = spawn(Config::default()).await.unwrap();
    for body in [
        json!({}),
        json!({"model": "m"}),
        json!({"model": "m", "messages": []}),
        json!([]),
    ] {
        let response = post(&open, &body).await;
        assert_eq!(response.status(), 400, "{body}");
        let error: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(error["error"]["message"].is_string());
    }
    assert_eq!(get(&open, "/v1/models").await["data"][0]["id"], "mock-1");
    assert_eq!(get(&open, "/health").await["status"], "ok");
    assert_eq!(get(&open, "/nothing").await["error"]["code"], "not_found");
}

#[tokio::test]
async fn a_thousand_wait_side_by_side() {
    let server = spawn(Config {
        latency_ms: 1_000,
        ..Config::default()
    })
    .await
    .unwrap();
    let client = reqwest::Client::new();
    let url = format!("{}/chat/completions", server.base_url());
    let start = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let request = client.post(&url).body(ask(&format!("m{n}"), true).to_string());
        waiting.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
    }
    while let Some(text) = waiting.join_next().await {
        assert!(text.unwrap().contains("[DONE]"));
    }
    // One after the other it would take a quarter of an hour.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(server.counts().len(), 1_000);
}

#[tokio::test]
async fn shutdown_stops_listening_at_once() {
    let server = spawn(Config {
        latency_ms: 60_000,
        ..Config::default()
    })
    .await
    .unwrap();
    let request = {
        let url = format!("{}/chat/completions", server.base_url());
        tokio::spawn(
            reqwest::Client::new()
                .post(url)
                .body(ask("a", true).to_string())
                .send(),
        )
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.requests() == 0 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let addr = server.addr();
    drop(server);
    let deadline = Instant::now() + Duration::from_secs(10);
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        assert!(Instant::now() < deadline, "still listening");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    request.abort();
}

async fn post_to(server: &Handle, path: &str, key: &str, body: &Value) -> (u16, String) {
    let response = reqwest::Client::new()
        .post(format!("{}{path}", server.root_url()))
        .header("x-api-key", key)
        .bearer_auth(key)
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn messages_are_answered_as_anthropic_does() {
    let server = spawn(Config {
        api_key: Some("k".to_owned()),
        ..Config::default()
    })
    .await
    .unwrap();
    let question = r#"{"n": 1} [call add {"e": "1"}]"#;
    let mut body = json!({"model": "m", "max_tokens": 9, "system": "s", "messages": [{"role": "user", "content": "hi there"}]});
    let (status, text) = post_to(&server, "/v1/messages", "wrong", &body).await;
    let refused: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &refused["type"]), (401, &json!("error")));
    let (_, text) = post_to(&server, "/v1/messages", "k", &body).await;
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        whole["content"],
        json!([{"type": "text", "text": "echo: hi there"}])
    );
    assert_eq!(
        (&whole["stop_reason"], &whole["usage"]),
        (
            &json!("end_turn"),
            &json!({"input_tokens": 3, "output_tokens": 3})
        )
    );
    body["stream"] = true.into();
    let (_, text) = post_to(&server, "/v1/messages", "k", &body).await;
    let events = text
        .split("\n\n")
        .filter_map(|event| event.split_once("\ndata: "));
    let events: Vec<Value> = events
        .map(|(_, data)| serde_json::from_str(data).unwrap())
        .collect();
    let streamed: String = events
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str())
        .collect();
    assert_eq!(streamed, "echo: hi there");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    body["stream"] = false.into();
    body["messages"][0]["content"] = question.into();
    body["tools"] = json!([{"name": "add"}]);
    for (choice, name, input) in [
        (json!(null), "add", json!({"e": "1"})),
        (json!({"type": "tool", "name": "x"}), "x", json!({"n": 1})),
    ] {
        body["tool_choice"] = choice;
        let (_, text) = post_to(&server, "/v1/messages", "k", &body).await;
        let whole: Value = serde_json::from_str(&text).unwrap();
        let call = json!([{"type": "tool_use", "id": "toolu_0", "name": name, "input": input}]);
        assert_eq!(
            (&whole["content"], &whole["stop_reason"]),
            (&call, &json!("tool_use"))
        );
    }
}

#[tokio::test]
async fn chats_are_answered_as_ollama_does() {
    let server = spawn(Config::default()).await.unwrap();
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi there"}]});
    let (_, text) = post_to(&server, "/api/chat", "", &body).await;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let streamed: String = lines
        .iter()
        .filter_map(|line| line["message"]["content"].as_str())
        .collect();
    assert_eq!(streamed, "echo: hi there");
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["done"], &last["prompt_eval_count"], &last["eval_count"]),
        (&json!(true), &json!(2), &json!(3))
    );
    body["stream"] = false.into();
    body["tools"] = json!([{"type": "function", "function": {"name": "add"}}]);
    body["messages"][0]["content"] = r#"[call add {"e": "1"}]"#.into();
    let (_, text) = post_to(&server, "/api/chat", "", &body).await;
    let whole: Value = serde_json::from_str(&text).unwrap();
    let call = json!([{"function": {"name": "add", "arguments": {"e": "1"}}}]);
    assert_eq!(
        (&whole["message"]["tool_calls"], &whole["done"]),
        (&call, &json!(true))
    );
    let (status, text) = post_to(&server, "/api/chat", "", &json!({"model": "m", "messages": []})).await;
    assert_eq!((status, text.contains("\"error\":\"")), (400, true));
}
