//! What was said in sessions, through Langflow's API.

use flowfleet_core::chat::{ChatMessage, Remember};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Server;

fn message(session: &str, sender: &str, text: &str) -> ChatMessage {
    ChatMessage {
        id: uuid::Uuid::new_v4(),
        session_id: session.to_owned(),
        sender: sender.to_owned(),
        sender_name: if sender == "User" { "User" } else { "AI" }.to_owned(),
        context_id: String::new(),
        text: text.to_owned(),
        files: vec!["a.png".to_owned()],
        properties: json!({"source": {"id": "Agent-1", "display_name": "Agent", "source": "gpt"}}),
        content_blocks: json!([
            {"type": "tool_use", "contents": [], "name": "add", "header": {"title": "Executed **add**"}},
            {"type": "text", "contents": [], "text": text},
        ]),
        category: "message".to_owned(),
        flow_id: String::new(),
        node: "ChatOutput-1".to_owned(),
    }
}

fn texts(answer: &Value) -> String {
    let texts = answer.as_array().unwrap().iter();
    texts.map(|message| message["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn sessions_are_read_and_forgotten() {
    let server = Server::with_flow().await;
    let run = server.run().await;
    let lease = server.claim(run).await.lease;
    for (session, sender, text) in [
        ("a", "User", "1"),
        ("a", "Machine", "2"),
        ("b", "User", "3"),
        ("a", "User", "0"),
    ] {
        let message = message(session, sender, text);
        let kept = server.store.remember(&[Remember { lease, message }], 100).await;
        assert_eq!(kept.unwrap(), [true]);
    }
    for (query, expected) in [
        ("", "1230"),
        ("?session_id=a", "120"),
        ("?session_id=a&order=desc", "021"),
        ("?session_id=a&sender=Machine", "2"),
        ("?sender_name=User&limit=2", "30"),
        ("?limit=2&offset=1", "23"),
        ("?order_by=text", "0123"),
        ("?order_by=text&order=DESC&limit=0", "3210"),
        ("?flow_id=00000000-0000-4000-8000-000000000000", ""),
    ] {
        let (status, answer) = server.get(&format!("/api/v1/monitor/messages{query}")).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(texts(&answer), expected, "{query}");
    }
    let (_, flow) = server.get("/v1/flows/hello").await;
    let of_flow = format!(
        "/api/v1/monitor/messages?flow_id={}",
        flow["id"].as_str().unwrap()
    );
    let (_, answer) = server.get(&of_flow).await;
    let first = &answer[1];
    assert_eq!(first["files"], r#"["a.png"]"#);
    assert_eq!(first["properties"]["source"]["id"], "Agent-1");
    assert_eq!(first["properties"]["state"], "complete");
    assert_eq!(first["content_blocks"][0]["title"], "Agent Steps");
    assert_eq!(
        first["content_blocks"][0]["contents"][0],
        json!({"type": "tool_use", "name": "add", "header": {"title": "Executed **add**"}})
    );
    assert!(first["timestamp"].as_str().unwrap().ends_with(" UTC"));
    for bad in [
        "?order=up",
        "?order_by=id",
        "?limit=-1",
        "?flow_id=x",
        "?nonsense=1",
    ] {
        let (status, _) = server.get(&format!("/api/v1/monitor/messages{bad}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let sessions = "/api/v1/monitor/messages/sessions";
    assert_eq!(server.get(sessions).await.1, json!(["a", "b"]));
    assert_eq!(
        server.get(&format!("{sessions}?limit=1&offset=1")).await.1,
        json!(["b"])
    );
    for _ in 0..2 {
        let path = "/api/v1/monitor/messages/session/a";
        let (status, _) = server.call(Method::DELETE, path, &Value::Null).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert_eq!(server.get(sessions).await.1, json!(["b"]));
    let (_, audit) = server.get("/v1/audit").await;
    assert_eq!(audit["items"][0]["action"], "session.forget");
}
