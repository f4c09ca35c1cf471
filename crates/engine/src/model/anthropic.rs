//! Anthropic's Messages: what is sent and what comes back.
//!
//! A conversation is told as langchain-anthropic tells it: what the user and tools say side by side is one message.

use serde_json::{Map, Value as Json, json};

use super::fault::Fault;
use super::openai::Dialect;
use super::stream::{self, Framing, Heard};
use super::{Chat, Reply, ToolCall, Turn};
use crate::component::Usage;

/// Of the protocol.
pub(super) const VERSION: &str = "2023-06-01";
/// Tokens of an answer where nobody says, for models that are not listed.
const LIMIT: i64 = 4096;
/// Tokens of an answer where nobody says, as langchain-anthropic 1.4.8 has them.
const LIMITS: [(&str, i64); 22] = [
    ("claude-3-5-haiku-20241022", 8192),
    ("claude-3-5-haiku-latest", 8192),
    ("claude-3-5-sonnet-20240620", 8192),
    ("claude-3-5-sonnet-20241022", 8192),
    ("claude-3-7-sonnet-20250219", 64_000),
    ("claude-fable-5", 128_000),
    ("claude-haiku-4-5", 64_000),
    ("claude-haiku-4-5-20251001", 64_000),
    ("claude-opus-4-0", 32_000),
    ("claude-opus-4-1", 32_000),
    ("claude-opus-4-1-20250805", 32_000),
    ("claude-opus-4-20250514", 32_000),
    ("claude-opus-4-5", 64_000),
    ("claude-opus-4-5-20251101", 64_000),
    ("claude-opus-4-6", 128_000),
    ("claude-opus-4-7", 128_000),
    ("claude-opus-4-8", 128_000),
    ("claude-sonnet-4-0", 64_000),
    ("claude-sonnet-4-20250514", 64_000),
    ("claude-sonnet-4-5", 64_000),
    ("claude-sonnet-4-5-20250929", 64_000),
    ("claude-sonnet-4-6", 64_000),
];

fn limit(model: &str) -> i64 {
    let known = LIMITS.iter().find(|(name, _)| *name == model);
    known.map_or(LIMIT, |(_, limit)| *limit)
}

pub(super) fn body(chat: &Chat, dialect: Dialect) -> String {
    let options = &chat.options;
    let (system, messages) = told(&chat.turns);
    let mut body = Map::new();
    body.insert("model".to_owned(), chat.model.clone().into());
    let limit = options.limit.unwrap_or_else(|| limit(&chat.model));
    body.insert("max_tokens".to_owned(), limit.into());
    body.insert("messages".to_owned(), messages.into());
    if let Some(system) = system {
        body.insert("system".to_owned(), system.into());
    }
    if let Some(temperature) = options.temperature.filter(|_| dialect.temperature) {
        body.insert("temperature".to_owned(), temperature.into());
    }
    let mut tools: Vec<Json> = Vec::new();
    for tool in &options.tools {
        tools.push(json!({
            "name": tool.name, "input_schema": tool.parameters, "description": tool.description,
        }));
    }
    let mut forced = options.must_call.as_ref();
    // There is no other way to ask for a shape.
    if let Some(shape) = &options.shape {
        let mut schema = inlined(&shape.schema, &shape.schema["$defs"]);
        let about = schema
            .as_object_mut()
            .and_then(|schema| schema.remove("description"));
        tools.push(json!({"name": shape.name, "input_schema": schema, "description": about}));
        forced = Some(&shape.name);
    }
    if !tools.is_empty() {
        body.insert("tools".to_owned(), tools.into());
    }
    if let Some(name) = forced {
        body.insert("tool_choice".to_owned(), json!({"type": "tool", "name": name}));
    }
    if dialect.stream {
        body.insert("stream".to_owned(), true.into());
    }
    Json::Object(body).to_string()
}

/// A schema without titles, and with what it refers to in its place.
fn inlined(schema: &Json, definitions: &Json) -> Json {
    let Json::Object(schema) = schema else {
        return schema.clone();
    };
    if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
        let name = name.rsplit('/').next().unwrap_or_default();
        return inlined(&definitions[name], &Json::Null);
    }
    let member = |(name, value): (&String, &Json)| {
        let value = match (name.as_str(), value) {
            ("title" | "$defs", _) => return None,
            ("properties", Json::Object(properties)) => properties
                .iter()
                .map(|(name, schema)| (name.clone(), inlined(schema, definitions)))
                .collect(),
            ("items", items) => inlined(items, definitions),
            (_, value) => value.clone(),
        };
        Some((name.clone(), value))
    };
    schema.iter().filter_map(member).collect()
}

/// What one side says before the other does.
enum Content {
    Text(String),
    Blocks(Vec<Json>),
}

impl Content {
    fn into_blocks(self) -> Vec<Json> {
        match self {
            Self::Text(text) => vec![json!({"type": "text", "text": text})],
            Self::Blocks(blocks) => blocks,
        }
    }

    /// As it is sent; blocks of nothing but white space are not taken.
    fn into_json(self) -> Json {
        match self {
            Self::Text(text) => text.into(),
            Self::Blocks(blocks) => blocks.into_iter().filter(|block| !is_blank(block)).collect(),
        }
    }
}

fn is_blank(block: &Json) -> bool {
    block["type"] == "text" && block["text"].as_str().is_none_or(|text| text.trim().is_empty())
}

/// The instructions, and the messages.
fn told(turns: &[Turn]) -> (Option<String>, Vec<Json>) {
    let mut system = None;
    let mut merged: Vec<(&str, Content)> = Vec::new();
    for turn in turns {
        let content = match turn {
            Turn::System(text) => {
                system.get_or_insert_with(|| text.clone());
                continue;
            }
            Turn::Assistant { text, calls, blocks } => {
                merged.push(("assistant", assistant(text, calls, blocks)));
                continue;
            }
            Turn::User(text) => Content::Text(text.clone()),
            Turn::Tool { id, content, failed } => Content::Blocks(vec![json!({
                "type": "tool_result", "content": content, "tool_use_id": id, "is_error": failed,
            })]),
        };
        match merged.pop() {
            Some(("user", before)) => {
                let mut blocks = before.into_blocks();
                blocks.extend(content.into_blocks());
                merged.push(("user", Content::Blocks(blocks)));
            }
            before => {
                merged.extend(before);
                merged.push(("user", content));
            }
        }
    }
    let count = merged.len();
    let mut messages = Vec::with_capacity(count);
    for (place, (role, content)) in merged.into_iter().enumerate() {
        let is_last = place + 1 == count;
        let mut content = content.into_json();
        if role == "assistant" {
            let is_empty = match &content {
                Json::String(text) => text.is_empty(),
                content => content.as_array().is_none_or(Vec::is_empty),
            };
            if is_last {
                trim_end(&mut content);
            } else if is_empty {
                continue;
            }
        }
        messages.push(json!({"role": role, "content": content}));
    }
    (system, messages)
}

/// The model goes on where its last message ends, so that must not be white space.
fn trim_end(content: &mut Json) {
    let text = match content {
        Json::Array(blocks) => blocks.last_mut().and_then(|block| block.get_mut("text")),
        text => Some(text),
    };
    if let Some(Json::String(text)) = text {
        text.truncate(text.trim_end().len());
    }
}

fn assistant(text: &str, calls: &[ToolCall], blocks: &[Json]) -> Content {
    if calls.is_empty() && blocks.is_empty() {
        return Content::Text(text.to_owned());
    }
    let call = |call: &ToolCall| json!({"type": "tool_use", "name": call.name, "input": call.object(), "id": call.id});
    if blocks.is_empty() {
        let text = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
        return Content::Blocks(text.into_iter().chain(calls.iter().map(call)).collect());
    }
    let again = |block: &Json| match block["type"].as_str() {
        Some("tool_use") => calls.iter().find(|call| block["id"] == call.id).map(call),
        _ => Some(block.clone()),
    };
    Content::Blocks(blocks.iter().filter_map(again).collect())
}

fn usage(usage: &Json, before: Usage) -> Usage {
    let count = |name: &str| usage.get(name).and_then(Json::as_u64);
    let ephemeral = ["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"].map(|name| {
        let counts = usage.get("cache_creation");
        counts
            .and_then(|counts| counts.get(name))
            .and_then(Json::as_u64)
            .unwrap_or(0)
    });
    let created = match ephemeral.iter().sum() {
        0 => count("cache_creation_input_tokens").unwrap_or(0),
        sum => sum,
    };
    let read = count("cache_read_input_tokens").unwrap_or(0);
    Usage {
        // The end of a stream may say nothing of what was put in.
        input_tokens: count("input_tokens").map_or(before.input_tokens, |input| input + read + created),
        output_tokens: count("output_tokens").unwrap_or(before.output_tokens),
    }
}

/// An answer that came in one piece.
pub(super) fn whole(bytes: &[u8]) -> Result<Reply, Fault> {
    let message: Json = serde_json::from_slice(bytes)
        .map_err(|error| Fault::broken(format!("sent an answer that is no message ({error})")))?;
    if let Some(error) = message.get("error").filter(|error| !error.is_null()) {
        return Err(Fault::in_stream(error));
    }
    let Some(content) = message.get("content").and_then(Json::as_array) else {
        return Err(Fault::broken("sent an answer without content"));
    };
    let mut answer = Answer::default();
    for block in content {
        answer.begin(block, &|_| {});
    }
    answer.reply.usage = usage(&message["usage"], Usage::default());
    Ok(stream::Answer::reply(answer))
}

/// The shape that was asked for is in a call.
pub(super) fn shaped(chat: &Chat, mut reply: Reply) -> Reply {
    if let Some(shape) = &chat.options.shape {
        let mut calls = reply.tool_calls.drain(..);
        if let Some(call) = calls.find(|call| call.name == shape.name) {
            reply.text = call.arguments;
        }
    }
    reply
}

/// A streamed answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    reply: Reply,
    finished: bool,
}

impl stream::Answer for Answer {
    const FRAMING: Framing = Framing::Events;

    fn take(&mut self, data: &str, heard: Heard<'_>) -> Result<bool, Fault> {
        let event: Json = serde_json::from_str(data)
            .map_err(|error| Fault::broken(format!("sent a piece that is no event ({error})")))?;
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => self.count(&event["message"]["usage"]),
            "content_block_start" => self.begin(&event["content_block"], heard),
            "content_block_delta" => self.grow(&event["delta"], heard),
            "message_delta" => {
                self.count(&event["usage"]);
                self.finished |= event["delta"]["stop_reason"].is_string();
            }
            "message_stop" => {
                self.finished = true;
                return Ok(true);
            }
            "error" => return Err(Fault::in_stream(&event["error"])),
            _ => {}
        }
        Ok(false)
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    fn reply(mut self) -> Reply {
        // A turn of text alone is told again as text.
        if self.reply.blocks.iter().all(|block| block["type"] == "text") {
            self.reply.blocks.clear();
        }
        self.reply
    }
}

impl Answer {
    fn count(&mut self, counted: &Json) {
        self.reply.usage = usage(counted, self.reply.usage);
    }

    /// Blocks come one after the other.
    fn begin(&mut self, block: &Json, heard: Heard<'_>) {
        let member = |name: &str| block.get(name).and_then(Json::as_str).unwrap_or_default();
        match member("type") {
            "text" => {
                self.reply.blocks.push(json!({"type": "text", "text": ""}));
                self.say(member("text"), heard);
            }
            "tool_use" => {
                let id = member("id").to_owned();
                self.reply.blocks.push(json!({"type": "tool_use", "id": id}));
                let input = block.get("input").and_then(Json::as_object);
                let input = input.filter(|input| !input.is_empty());
                self.reply.tool_calls.push(ToolCall {
                    id,
                    name: member("name").to_owned(),
                    arguments: input.map(|input| json!(input).to_string()).unwrap_or_default(),
                });
            }
            _ if block.is_object() => self.reply.blocks.push(block.clone()),
            _ => {}
        }
    }

    fn grow(&mut self, delta: &Json, heard: Heard<'_>) {
        let member = |name: &str| delta.get(name).and_then(Json::as_str).unwrap_or_default();
        match member("type") {
            "text_delta" => self.say(member("text"), heard),
            "input_json_delta" => {
                if let Some(call) = self.reply.tool_calls.last_mut() {
                    call.arguments.push_str(member("partial_json"));
                }
            }
            "thinking_delta" => self.append("thinking", member("thinking")),
            "signature_delta" => self.append("signature", member("signature")),
            _ => {}
        }
    }

    fn say(&mut self, text: &str, heard: Heard<'_>) {
        if !text.is_empty() {
            heard(text);
            self.reply.text.push_str(text);
            self.append("text", text);
        }
    }

    /// Adds to a member of the block that grows.
    fn append(&mut self, name: &str, text: &str) {
        let Some(Json::Object(block)) = self.reply.blocks.last_mut() else {
            return;
        };
        match block.get_mut(name) {
            Some(Json::String(said)) => said.push_str(text),
            _ => {
                block.insert(name.to_owned(), text.into());
            }
        }
    }
}
