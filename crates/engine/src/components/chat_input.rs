//! Chat Input: the request's text as a message from the user.

use std::sync::Arc;

use super::conversation::keep;
use super::{params, single};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput};
use crate::value::{Message, paths};

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let session = params::text(call, "session_id", "")?;
    let mut message = Message {
        text: params::text(call, "input_value", "")?,
        sender: Some(params::text(call, "sender", "User")?),
        sender_name: Some(params::text(call, "sender_name", "User")?),
        session_id: Some(if session.is_empty() {
            ctx.session_id.clone()
        } else {
            session
        }),
        files: params::json(call, "files").map(paths).unwrap_or_default(),
        ..Message::default()
    };
    let context = params::text(call, "context_id", "")?;
    if !context.is_empty() {
        Arc::make_mut(&mut message.extra).insert("context_id".to_owned(), context.into());
    }
    if params::boolean(call, "should_store_message", true) {
        keep(call, ctx, &mut message, &call.node.id).await?;
    }
    Ok(single(call, "message", message))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, context, field};
    use super::*;
    use crate::component::Kind;
    use crate::value::Value;
    use serde_json::json;

    #[tokio::test]
    async fn the_request_becomes_a_message_of_the_user() {
        let (ctx, _) = context(&[]);
        let call = call(
            Kind::ChatInput,
            &[
                ("input_value", field("hi")),
                ("files", field(json!(["a.png", "", null, {"path": "b"}]))),
            ],
        );
        let output = run(&call, &ctx).await.unwrap();
        let Some(Value::Message(message)) = output.values.get("message") else {
            panic!()
        };
        assert_eq!(message.text, "hi");
        assert_eq!(message.sender.as_deref(), Some("User"));
        assert_eq!(message.sender_name.as_deref(), Some("User"));
        assert_eq!(message.session_id.as_deref(), Some("session"));
        assert_eq!(message.files, ["a.png", "b"]);
    }

    #[tokio::test]
    async fn a_pinned_session_and_sender_are_kept() {
        let (ctx, _) = context(&[]);
        let params = [
            ("session_id", field("mine")),
            ("sender", field("Machine")),
            ("context_id", field("c")),
        ];
        let output = run(&call(Kind::ChatInput, &params), &ctx).await.unwrap();
        let Some(Value::Message(message)) = output.values.get("message") else {
            panic!()
        };
        assert_eq!(message.text, "");
        assert_eq!(message.session_id.as_deref(), Some("mine"));
        assert_eq!(message.sender.as_deref(), Some("Machine"));
        assert_eq!(message.extra.get("context_id"), Some(&json!("c")));
    }

    #[tokio::test]
    async fn input_that_is_no_text_is_refused() {
        let (ctx, _) = context(&[]);
        let call = call(Kind::ChatInput, &[("input_value", field(5))]);
        let error = run(&call, &ctx).await.unwrap_err();
        assert_eq!(error.code, "field_invalid");
        assert!(error.message.contains("input_value"), "{error}");
    }
}
