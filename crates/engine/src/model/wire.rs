//! The bodies of chat completions: what is sent and what comes back.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::fault::Fault;
use super::{Chat, Reply, ToolCall};
use crate::component::Usage;

/// What of the protocol is used. Servers that call themselves compatible know different parts of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub stream: bool,
    usage: bool,
    temperature: bool,
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
    let mut body = Map::new();
    body.insert("model".to_owned(), chat.model.clone().into());
    body.insert("messages".to_owned(), chat.messages.clone().into());
    for (name, value) in &chat.options {
        match name.as_str() {
            "temperature" if !dialect.temperature => {}
            "max_completion_tokens" if !dialect.max_completion_tokens => {
                body.insert("max_tokens".to_owned(), value.clone());
            }
            _ => {
                body.insert(name.clone(), value.clone());
            }
        }
    }
    body.insert("stream".to_owned(), dialect.stream.into());
    if dialect.stream && dialect.usage {
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    Json::Object(body).to_string()
}

/// A whole answer, or one piece of a streamed one.
#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    pub error: Option<Json>,
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
pub(super) struct ToolDelta {
    #[serde(default)]
    pub(super) index: Option<u64>,
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
    pub(super) fn add_to(self, call: &mut ToolCall) {
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
    pub(super) fn text(&self) -> String {
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
    pub(super) fn take_tool_calls(&mut self) -> Vec<ToolDelta> {
        let choices = self.choices.as_mut();
        let first = choices.and_then(|choices| choices.iter_mut().find(|choice| choice.index == 0));
        let delta = first.and_then(|choice| choice.delta.as_mut());
        delta
            .and_then(|delta| delta.tool_calls.take())
            .unwrap_or_default()
    }

    pub(super) fn finished(&self) -> bool {
        self.first().is_some_and(|choice| choice.finish_reason.is_some())
    }

    pub(super) fn usage(&self) -> Option<Usage> {
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
    let mut completion: Completion = serde_json::from_slice(bytes).map_err(|error| {
        Fault::broken(
            format!("sent an answer that is not a chat completion ({error})"),
            false,
        )
    })?;
    if let Some(error) = completion.error.as_ref().filter(|error| !error.is_null()) {
        return Err(Fault::in_stream(error, false));
    }
    if completion.first().is_none() {
        return Err(Fault::broken("sent an answer without choices", false));
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
    })
}
