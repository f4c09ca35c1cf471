//! The `outputs` of an answer: for the one input of a run, what each wanted component gave.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::message::{Made, written};
use crate::component::{Kind, NodeOutput};
use crate::graph::NodeIdx;
use crate::plan::Plan;
use crate::prepare::Prepared;
use crate::value::{Message, Value, without_bytes};

/// Components on a branch that was not taken gave nothing and are left out.
pub(crate) fn outputs(
    plan: &Plan,
    prepared: &Prepared,
    ended: &[Option<Arc<NodeOutput>>],
    made: &Made<'_>,
) -> Json {
    let inputs = match &prepared.input {
        Some(text) => json!({"input_value": text}),
        None => json!({}),
    };
    let given = |node: &NodeIdx| Some(component(plan, *node, ended[*node].as_deref()?, made));
    let outputs: Vec<Json> = prepared.outputs.iter().filter_map(given).collect();
    json!([{"inputs": inputs, "outputs": outputs}])
}

/// What a node gave, in the parts that answers and events are made of.
pub(super) struct Part {
    pub is_chat: bool,
    pub results: Map<String, Json>,
    pub outputs: Map<String, Json>,
    pub artifacts: Map<String, Json>,
    pub usage: Option<Json>,
}

pub(super) fn parts(plan: &Plan, node: NodeIdx, output: &NodeOutput, made: &Made<'_>) -> Part {
    let found = &plan.nodes[node];
    let is_chat = matches!(found.kind, Ok(kind) if kind == Kind::ChatInput || kind.is_chat_output());
    let usage = (!found.is_output && !output.usage.is_zero()).then(|| {
        json!({
            "input_tokens": output.usage.input_tokens,
            "output_tokens": output.usage.output_tokens,
            "total_tokens": output.usage.input_tokens + output.usage.output_tokens,
        })
    });
    let mut part = Part {
        is_chat,
        results: Map::new(),
        outputs: Map::new(),
        artifacts: Map::new(),
        usage,
    };
    for (name, value) in &output.values {
        let whole = result(value, &found.info.id, made);
        part.results.insert(name.clone(), whole);
        part.outputs.insert(name.clone(), shown(value));
        match value {
            Value::Message(message) if is_chat => part.artifacts = chat(message),
            value => drop(part.artifacts.insert(name.clone(), artifact(value))),
        }
    }
    part
}

fn component(plan: &Plan, node: NodeIdx, output: &NodeOutput, made: &Made<'_>) -> Json {
    let found = &plan.nodes[node];
    let part = parts(plan, node, output, made);
    let message = |value: &Value| match value {
        Value::Message(message) if part.is_chat => Some(told(message, &found.info.id, made)),
        _ => None,
    };
    let messages: Vec<Json> = output.values.values().filter_map(message).collect();
    let logs: Map<String, Json> = output
        .values
        .keys()
        .map(|name| (name.clone(), json!([])))
        .collect();
    json!({
        "results": part.results,
        "artifacts": part.artifacts,
        "outputs": part.outputs,
        "logs": logs,
        "messages": messages,
        "timedelta": null,
        "duration": null,
        "component_display_name": found.info.display_name,
        "component_id": found.info.id,
        "used_frozen_result": false,
        "token_usage": part.usage,
    })
}

/// A value as a whole.
fn result(value: &Value, node: &str, made: &Made<'_>) -> Json {
    match value {
        Value::Message(message) => written(message, node, made),
        Value::Data(data) => {
            let data = Json::Object(data.clone());
            json!({"text_key": "text", "data": without_bytes(&data), "default_value": ""})
        }
        Value::Table(rows) => without_bytes(&json!(rows)).into_owned(),
        Value::Json(value) => value.clone(),
    }
}

/// A value as it is shown to people, and what kind of thing that is.
fn shown(value: &Value) -> Json {
    let (message, kind) = plain(value);
    json!({"message": message, "type": kind})
}

fn artifact(value: &Value) -> Json {
    let (raw, kind) = plain(value);
    let repr = match &raw {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    json!({"repr": repr, "raw": raw, "type": kind})
}

fn plain(value: &Value) -> (Json, &'static str) {
    match value {
        Value::Message(message) => (message.text.clone().into(), "text"),
        Value::Data(data) => (without_bytes(&Json::Object(data.clone())).into_owned(), "object"),
        Value::Table(rows) => (without_bytes(&json!(rows)).into_owned(), "array"),
        Value::Json(value) => match value {
            Json::String(_) => (value.clone(), "text"),
            Json::Array(_) => (value.clone(), "array"),
            Json::Object(_) => (value.clone(), "object"),
            _ => ("".into(), "unknown"),
        },
    }
}

/// What a chat component shows of its message.
fn chat(message: &Message) -> Map<String, Json> {
    let fields = [
        ("message", paragraphs(message).into()),
        ("sender", message.sender.clone().into()),
        ("sender_name", message.sender_name.clone().into()),
        ("files", files(message)),
        ("type", "object".into()),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn told(message: &Message, node: &str, made: &Made<'_>) -> Json {
    json!({
        "message": paragraphs(message),
        "sender": message.sender,
        "sender_name": message.sender_name,
        "session_id": message.session_id.as_deref().unwrap_or(made.session_id),
        "stream_url": null,
        "component_id": node,
        "files": files(message),
        "type": "text",
    })
}

/// The machine's lines are paragraphs in Markdown.
fn paragraphs(message: &Message) -> String {
    if message.sender.as_deref() != Some("Machine") {
        return message.text.clone();
    }
    message.text.replace("\n\n", "\n").replace('\n', "\n\n")
}

fn files(message: &Message) -> Json {
    let file = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
        json!({"path": path, "name": name, "type": kind})
    };
    message.files.iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_machine_are_paragraphs() {
        let message = |sender: &str| Message {
            text: "a\nb\n\nc".to_owned(),
            sender: Some(sender.to_owned()),
            ..Message::default()
        };
        assert_eq!(paragraphs(&message("Machine")), "a\n\nb\n\nc");
        assert_eq!(paragraphs(&message("User")), "a\nb\n\nc");
    }

    #[test]
    fn values_are_shown_by_their_kind() {
        let row = json!({"a": 1}).as_object().cloned().unwrap();
        for (value, expected) in [
            (
                Value::Message(Message::of("x")),
                json!({"message": "x", "type": "text"}),
            ),
            (
                Value::Data(row.clone()),
                json!({"message": {"a": 1}, "type": "object"}),
            ),
            (
                Value::Table(vec![row]),
                json!({"message": [{"a": 1}], "type": "array"}),
            ),
            (Value::Json(Json::Null), json!({"message": "", "type": "unknown"})),
            (Value::Json("t".into()), json!({"message": "t", "type": "text"})),
        ] {
            assert_eq!(shown(&value), expected);
        }
    }

    #[test]
    fn files_are_named() {
        let mut message = Message::of("x");
        message.files = vec!["s/a.png".to_owned(), "b".to_owned()];
        assert_eq!(
            files(&message),
            json!([{"path": "s/a.png", "name": "a.png", "type": "png"}, {"path": "b", "name": "b", "type": ""}])
        );
    }
}
