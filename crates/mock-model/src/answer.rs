//! What is asked and what is answered: the bodies of OpenAI's protocol, which the others are translated to.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::calls::{Call, calls, object_in};
use crate::{chat, messages};

/// A body of another protocol in the words of this one.
pub(crate) type Reading = Value;

/// The protocols that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
    Ollama,
}

impl Protocol {
    pub(crate) fn read(self, body: &[u8]) -> serde_json::Result<Request> {
        let body: Value = serde_json::from_slice(body)?;
        serde_json::from_value(match self {
            Self::OpenAi => body,
            Self::Anthropic => messages::read(&body),
            Self::Ollama => chat::read(&body),
        })
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "text/event-stream",
            Self::Ollama => "application/x-ndjson",
        }
    }
}

/// The part of a request the server looks at. Everything else is accepted.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    tool_choice: Value,
    #[serde(default)]
    response_format: Value,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// One answer, cut into tokens.
#[derive(Debug)]
pub(crate) struct Answer {
    protocol: Protocol,
    pub id: String,
    pub model: String,
    pub question: String,
    pub tokens: Vec<String>,
    pub calls: Vec<Call>,
    pub input_tokens: u64,
    pub cut: bool,
    usage: bool,
}

impl Answer {
    /// The answer to a request, or why there is none.
    pub(crate) fn to(request: Request, number: u64, protocol: Protocol) -> Result<Self, &'static str> {
        if request.model.is_empty() {
            return Err("you must provide a model parameter");
        }
        if request.messages.is_empty() {
            return Err("messages must have at least one entry");
        }
        let asked = request
            .messages
            .iter()
            .rposition(|message| message.role == "user");
        let question = asked.map(|place| text(&request.messages[place].content));
        let question = question.unwrap_or_default();
        let mut said = format!("echo: {question}");
        let since = &request.messages[asked.map_or(0, |place| place + 1)..];
        let forced = request.tool_choice["function"]["name"].as_str();
        let object = object_in(&question);
        let mut calls = match (request.tools.is_empty(), forced.zip(object.clone())) {
            (true, _) => Vec::new(),
            (false, Some((name, arguments))) => vec![Call {
                name: name.to_owned(),
                arguments,
            }],
            (false, None) => calls(&question),
        };
        if let Some(object) = object.filter(|_| request.response_format["type"] == "json_schema") {
            said = Value::Object(object).to_string();
        }
        for told in since.iter().filter(|message| message.role == "tool") {
            said.push('\n');
            said.push_str(&text(&told.content));
            calls.clear();
        }
        let mut tokens = match calls.is_empty() {
            true => tokens(&said),
            false => Vec::new(),
        };
        let limit = request.max_completion_tokens.or(request.max_tokens);
        let limit = limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX);
        let cut = tokens.len() > limit;
        tokens.truncate(limit);
        let input_tokens = request
            .messages
            .iter()
            .map(|message| words(&text(&message.content)))
            .sum();
        Ok(Self {
            id: match protocol {
                Protocol::Anthropic => format!("msg_mock_{number}"),
                Protocol::OpenAi | Protocol::Ollama => format!("chatcmpl-mock-{number}"),
            },
            protocol,
            model: request.model,
            question,
            tokens,
            calls,
            input_tokens,
            cut,
            usage: request
                .stream_options
                .is_some_and(|options| options.include_usage),
        })
    }

    /// The content type of the answer if it is streamed.
    pub(crate) fn streamed_as(&self) -> &'static str {
        self.protocol.content_type()
    }

    pub(crate) fn output_tokens(&self) -> u64 {
        self.tokens.len() as u64
    }

    fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens(),
            "total_tokens": self.input_tokens + self.output_tokens(),
        })
    }

    fn reason(&self) -> &'static str {
        match (self.cut, self.calls.is_empty()) {
            (true, _) => "length",
            (false, true) => "stop",
            (false, false) => "tool_calls",
        }
    }

    fn tool_calls(&self) -> Option<Value> {
        let call = |(index, call): (usize, &Call)| {
            let arguments = Value::Object(call.arguments.clone()).to_string();
            json!({"index": index, "id": format!("call_{index}"), "type": "function",
                "function": {"name": call.name, "arguments": arguments}})
        };
        (!self.calls.is_empty()).then(|| self.calls.iter().enumerate().map(call).collect())
    }

    /// The answer in one piece.
    pub(crate) fn whole(&self) -> Value {
        match self.protocol {
            Protocol::OpenAi => {}
            Protocol::Anthropic => return messages::whole(self),
            Protocol::Ollama => return chat::whole(self),
        }
        let mut message = json!({"role": "assistant", "content": self.tokens.concat()});
        if let Some(calls) = self.tool_calls() {
            message["tool_calls"] = calls;
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": 0,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": message,
                "finish_reason": self.reason(),
            }],
            "usage": self.usage(),
        })
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>) -> String {
        let chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        });
        format!("data: {chunk}\n\n")
    }

    /// Before the first token.
    pub(crate) fn opening(&self) -> String {
        match self.protocol {
            Protocol::OpenAi => self.chunk(&json!({"role": "assistant", "content": ""}), None),
            Protocol::Anthropic => messages::opening(self),
            Protocol::Ollama => String::new(),
        }
    }

    pub(crate) fn token(&self, index: usize) -> String {
        match self.protocol {
            Protocol::OpenAi => self.chunk(&json!({"content": self.tokens.get(index)}), None),
            Protocol::Anthropic => messages::token(self, index),
            Protocol::Ollama => chat::token(self, index),
        }
    }

    /// After the last token.
    pub(crate) fn closing(&self) -> String {
        match self.protocol {
            Protocol::OpenAi => {}
            Protocol::Anthropic => return messages::closing(self),
            Protocol::Ollama => return chat::closing(self),
        }
        let mut end = String::new();
        if let Some(calls) = self.tool_calls() {
            end.push_str(&self.chunk(&json!({"tool_calls": calls}), None));
        }
        end.push_str(&self.chunk(&json!({}), Some(self.reason())));
        if self.usage {
            let usage = json!({
                "id": self.id,
                "object": "chat.completion.chunk",
                "created": 0,
                "model": self.model,
                "choices": [],
                "usage": self.usage(),
            });
            end.push_str(&format!("data: {usage}\n\n"));
        }
        end.push_str("data: [DONE]\n\n");
        end
    }
}

/// The text of a message: a string, or the text blocks of a list.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks
            .iter()
            .filter_map(|block| block.get("text").and_then(Value::as_str))
            .collect(),
        _ => String::new(),
    }
}

/// A word with the white space before it is a token: joined, they are the text again.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        let starts = in_word && c.is_whitespace();
        match tokens.last_mut() {
            Some(token) if !starts => token.push(c),
            _ => tokens.push(c.to_string()),
        }
        in_word = !c.is_whitespace();
    }
    tokens
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_joined_are_the_text() {
        for text in ["", "a", "echo: a  b\n c ", " lead", "日本 語", "\n\n"] {
            assert_eq!(tokens(text).concat(), text);
        }
        assert_eq!(tokens("echo: hi there"), ["echo:", " hi", " there"]);
    }

    fn answer(request: Value) -> Result<Answer, &'static str> {
        Answer::to(serde_json::from_value(request).unwrap(), 1, Protocol::OpenAi)
    }

    #[test]
    fn the_last_user_message_is_echoed() {
        let request = json!({"model": "m", "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "first"},
            {"role": "user", "content": [{"type": "text", "text": "last "}, {"type": "text", "text": "one"}]},
            {"role": "assistant", "content": null},
        ]});
        let whole = answer(request).unwrap().whole();
        assert_eq!(whole["choices"][0]["message"]["content"], "echo: last one");
        assert_eq!(
            whole["usage"],
            json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8})
        );
    }

    #[test]
    fn tools_are_asked_for_once() {
        let mut request = json!({"model": "m", "tools": [{"type": "function"}], "messages": [
            {"role": "user", "content": "how much? [call sum {\"e\": \"1+1\"}]"},
        ]});
        let whole = answer(request.clone()).unwrap().whole();
        let choice = &whole["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["content"]),
            (&json!("tool_calls"), &json!(""))
        );
        let function = &choice["message"]["tool_calls"][0]["function"];
        assert_eq!(*function, json!({"name": "sum", "arguments": r#"{"e":"1+1"}"#}));
        let streamed = answer(request.clone()).unwrap().closing();
        assert!(
            streamed.contains(r#""tool_calls":[{"#) && streamed.contains("\"finish_reason\":\"tool_calls\"")
        );
        let messages = request["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": []}));
        messages.push(json!({"role": "tool", "content": "2", "tool_call_id": "call_0"}));
        let whole = answer(request.clone()).unwrap().whole();
        let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(text, "echo: how much? [call sum {\"e\": \"1+1\"}]\n2");
        request["tools"] = json!([]);
        request["messages"].as_array_mut().unwrap().truncate(1);
        assert_eq!(
            answer(request).unwrap().whole()["choices"][0]["finish_reason"],
            "stop"
        );
    }

    #[test]
    fn a_limit_cuts_the_answer() {
        let request = json!({"model": "m", "messages": [{"role": "user", "content": "a b c"}], "max_completion_tokens": 2});
        let whole = answer(request).unwrap().whole();
        assert_eq!(whole["choices"][0]["message"]["content"], "echo: a");
        assert_eq!(whole["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn requests_without_model_or_messages_are_refused() {
        assert!(answer(json!({"model": "", "messages": [{"role": "user"}]})).is_err());
        assert!(answer(json!({"model": "m", "messages": []})).is_err());
    }
}
