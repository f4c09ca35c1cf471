//! Chat Output: whatever it is given as a message of the machine.

use std::sync::Arc;

use serde_json::Value as Json;

use super::conversation::{blocks_with_text, keep};
use super::convert::to_text;
use super::{params, properties, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput, Param};
use crate::value::{Message, Value};

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let clean = params::boolean(call, "clean_data", true);
    let (text, given) = match call.params.get("input_value") {
        None | Some(Param::Field(Json::Null) | Param::Edge(Value::Json(Json::Null))) => {
            return Err(NodeError::permanent(
                "field_required",
                format!(
                    "field input_value of {} has no value: connect it to another node",
                    call.node.display_name
                ),
            ));
        }
        Some(Param::Field(value)) => (to_text(&Value::Json(value.clone()), clean)?, None),
        Some(Param::Edge(value)) => (to_text(value, clean)?, Some(value)),
        Some(Param::Edges(values)) => {
            let texts: Result<Vec<String>, NodeError> =
                values.iter().map(|value| to_text(value, clean)).collect();
            // A list is joined into a message of its own, whatever its first entry was.
            (texts?.join("\n"), None)
        }
    };
    let mut message = carried(given);
    if ctx.run.memory.is_some() && given.is_some_and(|given| matches!(given, Value::Message(_))) {
        blocks_with_text(&mut message, &text);
    }
    message.text = text;
    message.sender = Some(params::text(call, "sender", "Machine")?);
    message.sender_name = Some(params::text(call, "sender_name", "AI")?);
    let session = params::text(call, "session_id", "")?;
    message.session_id = [
        Some(session),
        message.session_id.take(),
        Some(ctx.session_id.clone()),
    ]
    .into_iter()
    .flatten()
    .find(|session| !session.is_empty());
    let context = params::text(call, "context_id", "")?;
    let extra = Arc::make_mut(&mut message.extra);
    if context.is_empty() {
        extra.shift_remove("context_id");
    } else {
        extra.insert("context_id".to_owned(), context.into());
    }
    extra.insert("flow_id".to_owned(), ctx.flow_id.clone().into());
    if params::boolean(call, "should_store_message", true) {
        let voice = voice(call, &message).to_owned();
        keep(call, ctx, &mut message, &voice).await?;
    }
    let mut output = NodeOutput::default();
    if wants(call, "message") {
        output
            .values
            .insert("message".to_owned(), Value::Message(message));
    }
    Ok(output)
}

/// Who is heard in the message: the node that made it, as long as no other chat output says the same.
fn voice<'m>(call: &'m NodeCall, message: &'m Message) -> &'m str {
    let properties = message.extra.get("properties");
    let maker = properties.and_then(|properties| properties["source"]["id"].as_str());
    maker
        .filter(|_| !call.near_chat.one_of_many)
        .unwrap_or(&call.node.id)
}

/// What of the given message stays: everything, but of a chat input that is connected directly only its origin.
fn carried(given: Option<&Value>) -> Message {
    let Some(Value::Message(message)) = given else {
        return Message::default();
    };
    let source = message
        .extra
        .get("properties")
        .and_then(|properties| properties.get("source"));
    let id = source
        .and_then(|source| source.get("id"))
        .and_then(Json::as_str)
        .unwrap_or_default();
    if id.split('-').next() != Some("ChatInput") {
        return message.clone();
    }
    let mut fresh = Message::default();
    if let Some(source) = source {
        properties(&mut fresh).insert("source".to_owned(), source.clone());
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, context, edge, field};
    use super::*;
    use crate::component::Kind;
    use serde_json::json;

    async fn message_of(params: &[(&str, Param)]) -> Result<Message, NodeError> {
        let (ctx, _) = context(&[]);
        let given = call(Kind::ChatOutput, params);
        run(&given, &ctx)
            .await
            .map(|output| match &output.values["message"] {
                Value::Message(message) => message.clone(),
                other => panic!("{other:?}"),
            })
    }

    #[tokio::test]
    async fn any_value_becomes_a_message_of_the_machine() {
        let object = |value: Json| value.as_object().cloned().unwrap();
        let cases = [
            (edge(Message::of("hi\n\n\n\n x")), "hi\n\n\n\n x"),
            (field("a\n\n\n\nb"), "a\n\nb"),
            (
                edge(Value::Data(object(json!({"a": 1})))),
                "```json\n{\n  \"a\": 1\n}\n```",
            ),
            (
                edge(Value::Table(vec![object(json!({"a": 1}))])),
                "|   a |\n|----:|\n|   1 |",
            ),
            (
                Param::Edges(vec![Message::of("x").into(), Value::Json(json!("y"))]),
                "x\ny",
            ),
        ];
        for (param, expected) in cases {
            let message = message_of(&[("input_value", param.clone())]).await.unwrap();
            assert_eq!(message.text, expected, "{param:?}");
            assert_eq!(message.sender.as_deref(), Some("Machine"));
            assert_eq!(message.sender_name.as_deref(), Some("AI"));
            assert_eq!(message.session_id.as_deref(), Some("session"));
            assert_eq!(message.extra.get("flow_id"), Some(&json!("flow")));
        }
        assert_eq!(message_of(&[]).await.unwrap_err().code, "field_required");
    }

    #[tokio::test]
    async fn the_session_is_pinned_then_the_messages_then_the_runs() {
        let mut given = Message::of("x");
        given.session_id = Some("theirs".to_owned());
        let message = message_of(&[("input_value", edge(given.clone()))]).await.unwrap();
        assert_eq!(message.session_id.as_deref(), Some("theirs"));
        let message = message_of(&[("input_value", edge(given)), ("session_id", field("pinned"))])
            .await
            .unwrap();
        assert_eq!(message.session_id.as_deref(), Some("pinned"));
    }

    #[tokio::test]
    async fn files_stay_unless_they_come_straight_from_the_chat_input() {
        for (node, files) in [("ChatInput-x", 0), ("Router-x", 1)] {
            let mut given = Message::of("x");
            given.files = vec!["a.png".to_owned()];
            Arc::make_mut(&mut given.extra).insert("properties".to_owned(), json!({"source": {"id": node}}));
            let message = message_of(&[("input_value", edge(given))]).await.unwrap();
            assert_eq!(message.files.len(), files, "{node}");
            assert_eq!(message.extra["properties"]["source"]["id"], node);
        }
    }
}
