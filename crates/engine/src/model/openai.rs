//! The bodies of chat completions: what is sent and what comes back.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::fault::Fault;
use super::stream::{self, Framing, Heard};
use super::{Chat, Reply, ToolCall, Turn};
use crate::component::Usage;

/// What of the protocol is used. Servers that call themselves compatible know different parts of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub stream: bool,
    usage: bool,
    pub temperature: bool,
    max_completion_tokens: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            stream: true,
            usage: true,
            temperature: true,
            max_completion_tokens: true,
        }
    }
}

impl Dialect {
    pub(super) fn of(chat: &Chat) -> Self {
        Self {
            stream: chat.stream,
            usage: chat.endpoint.provider.asks_for_usage(),
            ..Self::default()
        }
    }

    /// Without the parameter a server refused; none if it is not one we can do without, or is already left out.
    pub(super) fn without(self, parameter: &str) -> Option<Self> {
        let simpler = match parameter {
            "stream" => Self {
                stream: false,
                ..self
            },
            "stream_options" | "stream_options.include_usage" => Self { usage: false, ..self },
            "temperature" => Self {
                temperature: false,
                ..self
            },
            "max_completion_tokens" => Self {
                max_completion_tokens: false,
                ..self
            },
            _ => self,
        };
        (simpler != self).then_some(simpler)
    }
}

pub(super) fn body(chat: &Chat, dialect: Dialect) -> String {
    let options = &chat.options;
    let mut body = Map::new();
    body.insert("model".to_owned(), chat.model.clone().into());
    let turns = chat.turns.iter().map(|turn| message(turn, &chat.model));
    body.insert("messages".to_owned(), turns.collect());
    if let Some(temperature) = options.temperature.filter(|_| dialect.temperature) {
        body.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(limit) = options.limit {
        body.insert("max_completion_tokens".to_owned(), limit.into());
    }
    if !options.tools.is_empty() {
        let tool = |tool: &super::ToolSpec| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        };
        body.insert("tools".to_owned(), options.tools.iter().map(tool).collect());
    }
    if let Some(name) = &options.must_call {
        let choice = json!({"type": "function", "function": {"name": name}});
        body.insert("tool_choice".to_owned(), choice);
    }
    if let Some(shape) = &options.shape {
        let format = json!({"type": "json_schema", "json_schema": {
            "schema": shape.strict, "name": shape.name, "strict": true,
        }});
        body.insert("response_format".to_owned(), format);
    }
    for (name, value) in &options.more {
        body.insert(name.clone(), value.clone());
    }
    if !dialect.temperature {
        body.remove("temperature");
    }
    if !dialect.max_completion_tokens
        && let Some(limit) = body.remove("max_completion_tokens")
    {
        body.insert("max_tokens".to_owned(), limit);
    }
    body.insert("stream".to_owned(), dialect.stream.into());
    if dialect.stream && dialect.usage {
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    Json::Object(body).to_string()
}

fn message(turn: &Turn, model: &str) -> Json {
    match turn {
        Turn::System(text) => json!({"role": system_role(model), "content": text}),
        Turn::User(text) => json!({"role": "user", "content": text}),
        Turn::Assistant { text, calls, .. } if calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        Turn::Assistant { text, calls, .. } => {
            let call = |call: &ToolCall| {
                json!({"type": "function", "id": call.id,
                    "function": {"name": call.name, "arguments": call.arguments}})
            };
            let calls: Vec<Json> = calls.iter().map(call).collect();
            let text = Some(text).filter(|text| !text.is_empty());
            json!({"role": "assistant", "content": text, "tool_calls": calls})
        }
        Turn::Tool { id, content, .. } => json!({"role": "tool", "content": content, "tool_call_id": id}),
    }
}

/// The o series calls its system messages otherwise.
fn system_role(model: &str) -> &'static str {
    let is_o_series = model
        .strip_prefix('o')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if is_o_series { "developer" } else { "system" }
}

/// A whole answer, or one piece of a streamed one.
#[derive(Debug, Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default, alias = "message")]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<Json>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolDelta>>,
}

/// A tool call, or a piece of one: pieces have the same index, and the first one has the id and the name.
#[derive(Debug, Deserialize)]
struct ToolDelta {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Debug, Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

impl ToolDelta {
    fn add_to(self, call: &mut ToolCall) {
        if let Some(id) = self.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        let Some(function) = self.function else { return };
        call.name.push_str(&function.name.unwrap_or_default());
        call.arguments.push_str(&function.arguments.unwrap_or_default());
    }
}

#[derive(Debug, Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

impl Completion {
    /// The first choice's text; content may come in blocks, of which those that are no text are left out.
    fn text(&self) -> String {
        let content = self
            .first()
            .and_then(|choice| choice.delta.as_ref())
            .and_then(|delta| delta.content.as_ref());
        match content {
            Some(Json::String(text)) => text.clone(),
            Some(Json::Array(blocks)) => blocks
                .iter()
                .filter_map(|block| {
                    block
                        .as_str()
                        .or_else(|| block.get("text").and_then(Json::as_str))
                })
                .collect(),
            _ => String::new(),
        }
    }

    /// The first choice's tool calls.
    fn take_tool_calls(&mut self) -> Vec<ToolDelta> {
        let choices = self.choices.as_mut();
        let first = choices.and_then(|choices| choices.iter_mut().find(|choice| choice.index == 0));
        let delta = first.and_then(|choice| choice.delta.as_mut());
        delta
            .and_then(|delta| delta.tool_calls.take())
            .unwrap_or_default()
    }

    fn finished(&self) -> bool {
        self.first().is_some_and(|choice| choice.finish_reason.is_some())
    }

    fn usage(&self) -> Option<Usage> {
        self.usage.as_ref().map(|usage| Usage {
            input_tokens: usage.prompt_tokens.unwrap_or(0),
            output_tokens: usage.completion_tokens.unwrap_or(0),
        })
    }

    fn first(&self) -> Option<&Choice> {
        self.choices.as_ref()?.iter().find(|choice| choice.index == 0)
    }
}

/// An answer that came in one piece.
pub(super) fn whole(bytes: &[u8]) -> Result<Reply, Fault> {
    let mut completion: Completion = serde_json::from_slice(bytes)
        .map_err(|error| Fault::broken(format!("sent an answer that is not a chat completion ({error})")))?;
    if let Some(error) = completion.error.as_ref().filter(|error| !error.is_null()) {
        return Err(Fault::in_stream(error));
    }
    if completion.first().is_none() {
        return Err(Fault::broken("sent an answer without choices"));
    }
    let whole_call = |delta: ToolDelta| {
        let mut call = ToolCall::default();
        delta.add_to(&mut call);
        call
    };
    Ok(Reply {
        tool_calls: completion.take_tool_calls().into_iter().map(whole_call).collect(),
        text: completion.text(),
        usage: completion.usage().unwrap_or_default(),
        blocks: Vec::new(),
    })
}

/// A streamed answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    reply: Reply,
    /// The index of the tool call that grows last.
    growing: Option<u64>,
    finished: bool,
}

impl stream::Answer for Answer {
    const FRAMING: Framing = Framing::Events;

    fn take(&mut self, data: &str, heard: Heard<'_>) -> Result<bool, Fault> {
        if data == "[DONE]" {
            return Ok(true);
        }
        let mut piece: Completion = serde_json::from_str(data).map_err(|error| {
            Fault::broken(format!("sent a piece that is not a chat completion ({error})"))
        })?;
        if let Some(error) = piece.error.as_ref().filter(|error| !error.is_null()) {
            return Err(Fault::in_stream(error));
        }
        let text = piece.text();
        if !text.is_empty() {
            heard(&text);
            self.reply.text.push_str(&text);
        }
        for delta in piece.take_tool_calls() {
            self.take_tool_call(delta);
        }
        self.finished |= piece.finished();
        if let Some(usage) = piece.usage() {
            self.reply.usage = usage;
        }
        Ok(false)
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    fn reply(self) -> Reply {
        self.reply
    }
}

impl Answer {
    /// Calls come one after the other; one without an index belongs to the last.
    fn take_tool_call(&mut self, delta: ToolDelta) {
        let calls = &mut self.reply.tool_calls;
        if calls.is_empty() || delta.index.is_some_and(|index| self.growing != Some(index)) {
            calls.push(ToolCall::default());
        }
        self.growing = delta.index.or(self.growing);
        if let Some(call) = calls.last_mut() {
            delta.add_to(call);
        }
    }
}
