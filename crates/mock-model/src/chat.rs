//! The bodies of Ollama's chat: a question in the words of the others, and the answer an object a line.

use serde_json::{Value, json};

use crate::answer::{Answer, Reading};

/// The question, as OpenAI's protocol would ask it.
pub(crate) fn read(body: &Value) -> Reading {
    json!({
        "model": body["model"],
        "messages": body["messages"],
        "max_tokens": body["options"]["num_predict"],
        "stream": body["stream"].as_bool().unwrap_or(true),
        "tools": body["tools"].as_array().cloned().unwrap_or_default(),
        // The one that is told of is meant if the question has an object for it: nothing can be forced here.
        "response_format": {"type": if body["format"].is_object() { "json_schema" } else { "text" }},
    })
}

fn line(answer: &Answer, message: &Value, done: bool) -> Value {
    let mut line = json!({
        "model": answer.model, "created_at": "1970-01-01T00:00:00Z", "message": message, "done": done,
    });
    if done {
        line["done_reason"] = if answer.cut { "length" } else { "stop" }.into();
        line["prompt_eval_count"] = answer.input_tokens.into();
        line["eval_count"] = answer.output_tokens().into();
    }
    line
}

fn said(answer: &Answer, text: &str) -> Value {
    let mut message = json!({"role": "assistant", "content": text});
    if !answer.calls.is_empty() {
        let call =
            |call: &crate::calls::Call| json!({"function": {"name": call.name, "arguments": call.arguments}});
        message["tool_calls"] = answer.calls.iter().map(call).collect();
    }
    message
}

pub(crate) fn whole(answer: &Answer) -> Value {
    line(answer, &said(answer, &answer.tokens.concat()), true)
}

pub(crate) fn token(answer: &Answer, index: usize) -> String {
    let message = json!({"role": "assistant", "content": answer.tokens.get(index)});
    format!("{}\n", line(answer, &message, false))
}

pub(crate) fn closing(answer: &Answer) -> String {
    let mut end = String::new();
    if !answer.calls.is_empty() {
        end.push_str(&format!("{}\n", line(answer, &said(answer, ""), false)));
    }
    let message = json!({"role": "assistant", "content": ""});
    end.push_str(&format!("{}\n", line(answer, &message, true)));
    end
}
