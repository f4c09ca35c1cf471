//! The bodies of Anthropic's Messages: a question in the words of the others, and the answer as events or whole.

use serde_json::{Value, json};

use crate::answer::{Answer, Reading};

/// The question, as OpenAI's protocol would ask it.
pub(crate) fn read(body: &Value) -> Reading {
    let mut messages = Vec::new();
    if let Some(system) = body.get("system") {
        messages.push(json!({"role": "system", "content": system}));
    }
    for message in body["messages"].as_array().into_iter().flatten() {
        let results = message["content"].as_array().into_iter().flatten();
        let mut results = results.filter(|block| block["type"] == "tool_result").peekable();
        if results.peek().is_none() {
            messages.push(message.clone());
        }
        messages.extend(results.map(|result| json!({"role": "tool", "content": result["content"]})));
    }
    let forced = &body["tool_choice"]["name"];
    json!({
        "model": body["model"],
        "messages": messages,
        "max_tokens": body["max_tokens"],
        "stream": body["stream"].as_bool().unwrap_or_default(),
        "tools": body["tools"].as_array().cloned().unwrap_or_default(),
        "tool_choice": {"function": {"name": forced}},
    })
}

fn event(data: &Value) -> String {
    format!(
        "event: {}\ndata: {data}\n\n",
        data["type"].as_str().unwrap_or_default()
    )
}

fn message(answer: &Answer, content: &[Value], reason: Option<&str>, output_tokens: u64) -> Value {
    json!({
        "id": answer.id, "type": "message", "role": "assistant", "model": answer.model, "content": content,
        "stop_reason": reason, "stop_sequence": null,
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": output_tokens},
    })
}

fn reason(answer: &Answer) -> &'static str {
    match (answer.cut, answer.calls.is_empty()) {
        (true, _) => "max_tokens",
        (false, true) => "end_turn",
        (false, false) => "tool_use",
    }
}

fn calls(answer: &Answer) -> impl Iterator<Item = Value> {
    let calls = answer.calls.iter().enumerate();
    calls.map(|(index, call)| {
        json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": call.name, "input": call.arguments})
    })
}

pub(crate) fn whole(answer: &Answer) -> Value {
    let text = answer.tokens.concat();
    let text = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
    let content: Vec<Value> = text.into_iter().chain(calls(answer)).collect();
    message(answer, &content, Some(reason(answer)), answer.output_tokens())
}

pub(crate) fn opening(answer: &Answer) -> String {
    let mut opening = event(&json!({"type": "message_start", "message": message(answer, &[], None, 1)}));
    if !answer.tokens.is_empty() {
        let block = json!({"type": "text", "text": ""});
        opening.push_str(&event(
            &json!({"type": "content_block_start", "index": 0, "content_block": block}),
        ));
    }
    opening
}

pub(crate) fn token(answer: &Answer, index: usize) -> String {
    let delta = json!({"type": "text_delta", "text": answer.tokens.get(index)});
    event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}))
}

pub(crate) fn closing(answer: &Answer) -> String {
    let mut end = String::new();
    let mut index = 0;
    if !answer.tokens.is_empty() {
        end.push_str(&event(&json!({"type": "content_block_stop", "index": 0})));
        index = 1;
    }
    for mut call in calls(answer) {
        let arguments = std::mem::replace(&mut call["input"], json!({})).to_string();
        let block = json!({"type": "content_block_start", "index": index, "content_block": call});
        let delta = json!({"type": "input_json_delta", "partial_json": arguments});
        end.push_str(&event(&block));
        end.push_str(&event(
            &json!({"type": "content_block_delta", "index": index, "delta": delta}),
        ));
        end.push_str(&event(&json!({"type": "content_block_stop", "index": index})));
        index += 1;
    }
    end.push_str(&event(&json!({
        "type": "message_delta",
        "delta": {"stop_reason": reason(answer), "stop_sequence": null},
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens()},
    })));
    end.push_str(&event(&json!({"type": "message_stop"})));
    end
}
