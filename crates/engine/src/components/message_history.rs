//! Message History: reads earlier messages of a conversation, or keeps one.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::conversation::{self, keep, recall, row};
use super::{from_node, params, prompt, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput};
use crate::memory::{Recall, Remembered};
use crate::template::{Access, MAX_RENDERED_BYTES, TemplateError, render};
use crate::value::{Message, Value};

pub(super) const TEXT: &str = "messages_text";
pub(super) const TABLE: &str = "dataframe";
const STORED: &str = "stored_messages";
const OUTPUTS: [&str; 3] = [TEXT, TABLE, STORED];

pub(crate) const fn outputs() -> &'static [&'static str] {
    &OUTPUTS
}

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    if ctx.run.memory.is_none() {
        return Err(NodeError::permanent(
            "memory_unavailable",
            format!("{}: nothing here keeps conversations", call.node.display_name),
        ));
    }
    let mut output = NodeOutput::default();
    // Nobody may be connected to it: then the node's mode says what it does.
    if wants(call, STORED) && (call.wanted.len() == 1 || params::text(call, "mode", "")? == "Store") {
        let message = store(call, ctx).await?;
        output.values.insert(STORED.to_owned(), Value::Message(message));
    }
    if !wants(call, TEXT) && !wants(call, TABLE) {
        return Ok(output);
    }
    let said = retrieve(call, ctx).await?;
    if wants(call, TEXT) {
        let message = from_node(call, Message::of(text(call, &said)?), None);
        output.values.insert(TEXT.to_owned(), Value::Message(message));
    }
    if wants(call, TABLE) {
        let rows = said.iter().map(row).collect();
        output.values.insert(TABLE.to_owned(), Value::Table(rows));
    }
    Ok(output)
}

/// The session of the node, which is the run's unless nobody says.
fn session(call: &NodeCall, ctx: &NodeContext) -> Result<String, NodeError> {
    let session = params::text(call, "session_id", "")?;
    Ok(if session.is_empty() {
        ctx.session_id.clone()
    } else {
        session
    })
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The newest messages, in the order that is asked for.
async fn retrieve(call: &NodeCall, ctx: &NodeContext) -> Result<Vec<Remembered>, NodeError> {
    let sender = params::text(call, "sender_type", "Machine and User")?;
    let limit = if call.params.contains_key("n_messages") {
        params::integer(call, "n_messages")
    } else {
        Some(100)
    };
    let wanted = Recall {
        session_id: Some(session(call, ctx)?),
        context_id: filled(params::text(call, "context_id", "")?),
        sender: filled(sender).filter(|sender| sender != "Machine and User"),
        sender_name: filled(params::text(call, "sender_name", "")?),
        limit: conversation::limit(limit),
    };
    let mut said = recall(call, ctx, &wanted).await?;
    if params::text(call, "order", "Ascending")? != "Descending" {
        said.reverse();
    }
    Ok(said)
}

/// One line a message.
fn text(call: &NodeCall, said: &[Remembered]) -> Result<String, NodeError> {
    let template = params::text(call, "template", "{sender_name}: {text}")?;
    let mut lines = Vec::with_capacity(said.len());
    let mut bytes = 0;
    for said in said {
        let row = row(said);
        let known = |name: &str| Some(field(&row, name));
        let line = render(&template, Access::Items, &known).map_err(|error| prompt::explain(call, &error))?;
        bytes += line.len() + 1;
        if bytes > MAX_RENDERED_BYTES {
            return Err(prompt::explain(call, &TemplateError::TooLong));
        }
        lines.push(line);
    }
    Ok(lines.join("\n"))
}

/// What a template calls a field: empty text where there is none.
fn field(row: &Map<String, Json>, name: &str) -> Json {
    if name == "data" {
        return Json::Object(row.clone());
    }
    let none = || Json::String(String::new());
    row.get(name).cloned().unwrap_or_else(none)
}

/// Keeps the message that is given, as a new one: only its text counts.
async fn store(call: &NodeCall, ctx: &NodeContext) -> Result<Message, NodeError> {
    let or = |name: &str, default: &str| -> Result<String, NodeError> {
        Ok(filled(params::text(call, name, "")?).unwrap_or_else(|| default.to_owned()))
    };
    let mut message = Message::of(params::text(call, "message", "")?);
    message.session_id = Some(session(call, ctx)?);
    message.sender = Some(or("sender", "Machine")?);
    message.sender_name = Some(or("sender_name", "AI")?);
    let context = params::text(call, "context_id", "")?;
    if !context.is_empty() {
        Arc::make_mut(&mut message.extra).insert("context_id".to_owned(), context.into());
    }
    keep(call, ctx, &mut message, &call.node.id).await?;
    Ok(from_node(call, message, None))
}
