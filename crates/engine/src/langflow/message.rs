//! A message as Langflow writes it: the same fields twice, bare and under `data`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use uuid::Builder;

use crate::value::Message;

/// Who makes the messages of a run, and when.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    pub run_id: &'a str,
    pub flow_id: &'a str,
    pub session_id: &'a str,
    pub at: Timestamp,
}

/// A node whose tokens are shown as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streaming {
    pub node: String,
    pub display_name: String,
    pub icon: Option<String>,
}

/// The id of the message that `node` made as `sender`: one a run, whoever asks.
pub fn message_id(run_id: &str, sender: &str, node: &str) -> String {
    let mut hash = Sha256::new();
    for part in [run_id, sender, node] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// What the user said, as it is announced when a run streams.
pub fn user_message(text: &str, node: &str, made: &Made<'_>) -> Json {
    let message = Message {
        text: text.to_owned(),
        sender: Some("User".to_owned()),
        sender_name: Some("User".to_owned()),
        ..Message::default()
    };
    announced(written(&message, node, made))
}

/// A message of which only tokens are known yet.
pub fn streaming(from: &Streaming, made: &Made<'_>) -> Json {
    let mut message = Message {
        sender: Some("Machine".to_owned()),
        sender_name: Some("AI".to_owned()),
        ..Message::default()
    };
    let properties = json!({
        "source": {"id": from.node, "display_name": from.display_name, "source": ""},
        "icon": from.icon,
        "state": "partial",
    });
    std::sync::Arc::make_mut(&mut message.extra).insert("properties".to_owned(), properties);
    announced(written(&message, &from.node, made))
}

/// A message as it is announced while a run streams: its id stands also beside its text.
pub fn announced(mut message: Json) -> Json {
    message["id"] = message["data"]["id"].clone();
    message
}

/// A message that `node` gave.
pub(super) fn written(message: &Message, node: &str, made: &Made<'_>) -> Json {
    let extra = |name: &str| message.extra.get(name).cloned();
    let properties = all_properties(message.extra.get("properties"));
    let sender = message.sender.as_deref().unwrap_or_default();
    // A chat output passes on the message of the model it is connected to, and streams as that one.
    let maker = properties["source"]["id"].as_str().unwrap_or(node);
    let session_id = message.session_id.as_deref().unwrap_or(made.session_id);
    let mut said = Map::new();
    let mut say = |name: &str, value: Json| said.insert(name.to_owned(), value);
    say("timestamp", timestamp(made.at).into());
    say("sender", message.sender.clone().into());
    say("sender_name", message.sender_name.clone().into());
    say("session_id", session_id.into());
    say(
        "context_id",
        extra("context_id").unwrap_or_else(|| String::new().into()),
    );
    say("text", message.text.clone().into());
    say("files", message.files.clone().into());
    say("error", false.into());
    say("edit", false.into());
    say("properties", properties.clone());
    say("category", "message".into());
    say("content_blocks", json!([]));
    say("session_metadata", json!({"graph_run_id": made.run_id}));
    // One that was kept has its id already.
    let id = extra("id").unwrap_or_else(|| message_id(made.run_id, sender, maker).into());
    let common = said.clone();
    said.insert("id".to_owned(), id);
    said.insert("flow_id".to_owned(), made.flow_id.into());
    said.insert("run_id".to_owned(), made.run_id.into());
    said.insert("duration".to_owned(), Json::Null);
    let mut message = Map::new();
    message.insert("text_key".to_owned(), "text".into());
    message.insert("data".to_owned(), Json::Object(said));
    message.insert("default_value".to_owned(), "".into());
    message.extend(common);
    message.insert("flow_id".to_owned(), made.flow_id.into());
    message.insert("run_id".to_owned(), made.run_id.into());
    message.insert("duration".to_owned(), Json::Null);
    Json::Object(message)
}

/// All properties that Langflow's messages have, with those that are known.
pub(crate) fn all_properties(known: Option<&Json>) -> Json {
    let mut all = json!({
        "text_color": null,
        "background_color": null,
        "edited": false,
        "source": {"id": null, "display_name": null, "source": null},
        "icon": null,
        "allow_markdown": false,
        "positive_feedback": null,
        "state": "complete",
        "targets": [],
        "usage": null,
        "build_duration": null,
    });
    if let (Some(all), Some(known)) = (all.as_object_mut(), known.and_then(Json::as_object)) {
        let known: BTreeMap<&String, &Json> = known.iter().collect();
        for (name, value) in all.iter_mut() {
            if let Some(known) = known.get(name) {
                *value = (*known).clone();
            }
        }
    }
    all
}

/// As Langflow writes times, in UTC.
pub(crate) fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S.%6f UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Made<'static> {
        Made {
            run_id: "r",
            flow_id: "f",
            session_id: "s",
            at: "2026-11-21T08:13:02.191694Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_announcement_says_everything_twice_and_its_id() {
        let said = user_message("hi", "ChatInput-1", &made());
        assert_eq!(said["timestamp"], "2026-11-21 08:13:02.191694 UTC");
        assert_eq!(said["id"], said["data"]["id"]);
        for (name, value) in said.as_object().unwrap() {
            if !["text_key", "data", "default_value"].contains(&name.as_str()) {
                assert_eq!(&said["data"][name], value, "{name}");
            }
        }
        assert_eq!(
            (&said["session_id"], &said["flow_id"], &said["run_id"]),
            (&json!("s"), &json!("f"), &json!("r"))
        );
    }

    #[test]
    fn a_partial_message_has_the_id_of_the_one_it_becomes() {
        let from = Streaming {
            node: "LanguageModelComponent-1".to_owned(),
            display_name: "Language Model".to_owned(),
            icon: Some("brain-circuit".to_owned()),
        };
        let partial = streaming(&from, &made());
        assert_eq!(partial["properties"]["state"], "partial");
        let mut message = Message {
            sender: Some("Machine".to_owned()),
            ..Message::default()
        };
        let source = json!({"source": {"id": from.node, "source": "gpt-4o-mini"}});
        std::sync::Arc::make_mut(&mut message.extra).insert("properties".to_owned(), source);
        let whole = written(&message, "ChatOutput-1", &made());
        assert_eq!(whole["data"]["id"], partial["id"]);
        assert_eq!(whole["properties"]["state"], "complete");
        assert_ne!(
            message_id("r", "User", "a"),
            message_id("r", "Machine", "a"),
            "a chat without a model"
        );
        assert_ne!(message_id("a", "b", "c"), message_id("ab", "", "c"));
    }
}
