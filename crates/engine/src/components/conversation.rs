//! How components take part in a conversation: what is kept of a message, and what a model is told of earlier ones.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::component::{NodeCall, NodeContext, NodeError};
use crate::langflow::{all_properties, message_id, timestamp};
use crate::memory::{MOST, MemoryError, Recall, Remembered};
use crate::value::Message;

const ID: &str = "id";

/// The id of a message that was kept.
pub(super) fn id_of(message: &Message) -> Option<&str> {
    message.extra.get(ID).and_then(Json::as_str)
}

/// Keeps a message, if the run is part of a conversation and the message belongs to a session. One that was kept
/// before is replaced by what it is now; else `voice` is the node that is heard in it.
pub(super) async fn keep(
    call: &NodeCall,
    ctx: &NodeContext,
    message: &mut Message,
    voice: &str,
) -> Result<(), NodeError> {
    let Some(memory) = &ctx.run.memory else {
        return Ok(());
    };
    if message.session_id.as_deref().is_none_or(str::is_empty) {
        return Ok(());
    }
    for (who, name) in [(&message.sender, "sender"), (&message.sender_name, "sender_name")] {
        if who.as_deref().is_none_or(str::is_empty) {
            return Err(NodeError::permanent(
                "field_required",
                format!(
                    "field {name} of {} is empty: a message that is remembered needs one",
                    call.node.display_name
                ),
            ));
        }
    }
    if id_of(message).is_none() {
        let sender = message.sender.as_deref().unwrap_or_default();
        let voice = format!("{voice}{}", ctx.run.place);
        let voice = ctx.run.voices.next(sender, &voice);
        let id = message_id(&ctx.run.run_id, sender, &voice);
        Arc::make_mut(&mut message.extra).insert(ID.to_owned(), id.into());
    }
    let remembered = Remembered {
        id: id_of(message).unwrap_or_default().to_owned(),
        node: call.node.id.clone(),
        flow_id: ctx.run.flow_id.clone(),
        run_id: ctx.run.run_id.clone(),
        at: (ctx.run.clock)(),
        message: message.clone(),
    };
    memory
        .remember(remembered)
        .await
        .map_err(|error| failed(call, &error))
}

/// Earlier messages, newest first; none when the run is not part of a conversation.
pub(super) async fn recall(
    call: &NodeCall,
    ctx: &NodeContext,
    wanted: &Recall,
) -> Result<Vec<Remembered>, NodeError> {
    match &ctx.run.memory {
        Some(memory) if wanted.limit > 0 => memory.recall(wanted).await.map_err(|error| failed(call, &error)),
        _ => Ok(Vec::new()),
    }
}

/// Makes a text the last of a message's blocks, in place of the texts it had.
pub(super) fn blocks_with_text(message: &mut Message, text: &str) {
    let extra = Arc::make_mut(&mut message.extra);
    let known = extra.shift_remove("content_blocks");
    let mut blocks = match known {
        Some(Json::Array(blocks)) => blocks,
        _ => Vec::new(),
    };
    blocks.retain(|block| block["type"] != "text");
    if !text.is_empty() {
        blocks.push(json!({"type": "text", "header": {}, "contents": [], "text": text}));
    }
    extra.insert("content_blocks".to_owned(), blocks.into());
}

/// How many messages a field asks for: none at 0, and as many as there may be without a number.
pub(super) fn limit(wanted: Option<i64>) -> usize {
    match wanted {
        None => MOST,
        Some(wanted) => usize::try_from(wanted).map_or(MOST, |wanted| wanted.min(MOST)),
    }
}

fn failed(call: &NodeCall, error: &MemoryError) -> NodeError {
    NodeError {
        code: "memory_unavailable",
        message: format!(
            "{}: the messages of this conversation cannot be reached: {error}",
            call.node.display_name
        ),
        retryable: error.retryable,
    }
}

/// A message with everything Langflow's has, as a row of a table.
pub(super) fn row(said: &Remembered) -> Map<String, Json> {
    let message = &said.message;
    let extra = |name: &str| message.extra.get(name).cloned();
    let none = || Json::String(String::new());
    let fields = [
        (ID, said.id.clone().into()),
        ("timestamp", timestamp(said.at).into()),
        ("sender", message.sender.clone().into()),
        ("sender_name", message.sender_name.clone().into()),
        (
            "session_id",
            message.session_id.clone().unwrap_or_default().into(),
        ),
        ("context_id", extra("context_id").unwrap_or_else(none)),
        ("text", message.text.clone().into()),
        ("files", message.files.clone().into()),
        ("error", false.into()),
        ("edit", false.into()),
        ("properties", all_properties(message.extra.get("properties"))),
        ("category", "message".into()),
        (
            "content_blocks",
            extra("content_blocks").unwrap_or_else(|| json!([])),
        ),
        ("session_metadata", Json::Null),
        ("flow_id", said.flow_id.clone().into()),
        ("run_id", said.run_id.clone().into()),
        ("duration", Json::Null),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
