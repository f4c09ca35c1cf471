//! Ollama's chat: what is sent and what comes back, an object a line.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::fault::Fault;
use super::stream::{self, Framing, Heard};
use super::{Chat, Reply, ToolCall, ToolSpec, Turn};
use crate::component::Usage;

/// Always streamed, as langchain-ollama does; members without a value are left out, as its client does.
pub(super) fn body(chat: &Chat) -> String {
    let mut options = chat.options.more.clone();
    if let Some(temperature) = chat.options.temperature {
        options.insert("temperature".to_owned(), temperature.into());
    }
    let mut body = json!({
        "model": chat.model,
        "messages": chat.turns.iter().map(message).collect::<Json>(),
        "tools": chat.options.tools.iter().map(tool).collect::<Json>(),
        "stream": true,
        "options": options,
    });
    if let Some(shape) = &chat.options.shape {
        body["format"] = shape.schema.clone();
    }
    body.to_string()
}

fn message(turn: &Turn) -> Json {
    let mut calls = Vec::new();
    let (role, text) = match turn {
        Turn::System(text) => ("system", text),
        Turn::User(text) => ("user", text),
        Turn::Tool { content, .. } => ("tool", content),
        Turn::Assistant {
            text, calls: made, ..
        } => {
            let call = |call: &ToolCall| json!({"function": {"name": call.name, "arguments": call.object()}});
            calls.extend(made.iter().map(call));
            ("assistant", text)
        }
    };
    let mut message = json!({"role": role});
    if !text.is_empty() {
        message["content"] = text.clone().into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

/// Its client knows only some words of JSON schema, and drops the others.
fn tool(tool: &ToolSpec) -> Json {
    let known = |schema: &Json, words: &[&str]| -> Map<String, Json> {
        let members = schema.as_object().into_iter().flatten();
        let members = members.filter(|(name, value)| words.contains(&name.as_str()) && !value.is_null());
        members
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let mut parameters = known(&tool.parameters, &["type", "$defs", "items", "required"]);
    if let Some(properties) = tool.parameters.get("properties").and_then(Json::as_object) {
        let property = |(name, schema): (&String, &Json)| {
            let schema = known(schema, &["type", "items", "description", "enum"]);
            (name.clone(), Json::Object(schema))
        };
        parameters.insert("properties".to_owned(), properties.iter().map(property).collect());
    }
    json!({"type": "function", "function": {
        "name": tool.name, "description": tool.description, "parameters": parameters,
    }})
}

#[derive(Debug, Deserialize)]
struct Piece {
    #[serde(default)]
    message: Option<Said>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Called>>,
}

#[derive(Debug, Deserialize)]
struct Called {
    function: Function,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Json,
}

impl Function {
    /// Some models write objects and lists as text, and their own name as an argument.
    fn arguments(&self) -> String {
        let Json::Object(arguments) = &self.arguments else {
            return match &self.arguments {
                Json::String(text) => text.clone(),
                Json::Null => String::new(),
                other => other.to_string(),
            };
        };
        let meant = |(name, value): (&String, &Json)| {
            if name == "functionName" && value == self.name.as_str() {
                return None;
            }
            let written = value
                .as_str()
                .and_then(|text| serde_json::from_str::<Json>(text).ok());
            let written = written.filter(|value| value.is_object() || value.is_array());
            Some((name.clone(), written.unwrap_or_else(|| value.clone())))
        };
        arguments.iter().filter_map(meant).collect::<Json>().to_string()
    }
}

/// A streamed answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    reply: Reply,
    finished: bool,
}

impl stream::Answer for Answer {
    const FRAMING: Framing = Framing::Lines;

    fn take(&mut self, data: &str, heard: Heard<'_>) -> Result<bool, Fault> {
        let piece: Piece = serde_json::from_str(data)
            .map_err(|error| Fault::broken(format!("sent a line that is no piece of a chat ({error})")))?;
        if let Some(error) = piece.error.filter(|error| !error.is_null()) {
            return Err(Fault::in_stream(&error));
        }
        let said = piece.message;
        let text = said
            .as_ref()
            .and_then(|said| said.content.as_deref())
            .unwrap_or_default();
        // Says only that the model is in memory now.
        if piece.done && piece.done_reason.as_deref() == Some("load") && text.trim().is_empty() {
            return Ok(false);
        }
        if !text.is_empty() {
            heard(text);
            self.reply.text.push_str(text);
        }
        for called in said.and_then(|said| said.tool_calls).unwrap_or_default() {
            self.reply.tool_calls.push(ToolCall {
                // Calls have no ids here; within a run they need some.
                id: uuid::Uuid::now_v7().to_string(),
                arguments: called.function.arguments(),
                name: called.function.name,
            });
        }
        if piece.done {
            self.finished = true;
            self.reply.usage = Usage {
                input_tokens: piece.prompt_eval_count.unwrap_or(0),
                output_tokens: piece.eval_count.unwrap_or(0),
            };
        }
        Ok(self.finished)
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    fn reply(self) -> Reply {
        self.reply
    }
}
