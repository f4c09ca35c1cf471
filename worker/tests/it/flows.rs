//! Flows in Langflow's export format, in the form without code.

use serde_json::{Value, json};

const MODEL: &str = "LanguageModelComponent";

fn field(input_types: &[&str]) -> Value {
    json!({
        "type": "str", "value": "", "list": false, "required": false, "show": true, "input_types": input_types,
    })
}

fn node(id: &str, component: &str, template: &Value, output: &str) -> Value {
    json!({
        "id": id,
        "type": "genericNode",
        "data": { "id": id, "type": component, "node": {
            "display_name": component,
            "template": template,
            "outputs": [{ "name": output, "types": ["Message"] }],
        }},
    })
}

fn edge(from: (&str, &str, &str), to: (&str, &str)) -> Value {
    let (source, component, output) = from;
    let (target, input) = to;
    json!({
        "id": format!("{source}-{target}"),
        "source": source,
        "target": target,
        "data": {
            "sourceHandle": {
                "dataType": component, "id": source, "name": output, "output_types": ["Message"],
            },
            "targetHandle": { "fieldName": input, "id": target, "inputTypes": ["Message"], "type": "str" },
        },
    })
}

/// ChatInput, `models` models one after another, ChatOutput. A model's answer is `echo: ` and its question.
pub(crate) fn chain(models: usize) -> Value {
    let mut nodes = vec![node(
        "ChatInput-1",
        "ChatInput",
        &json!({ "input_value": field(&[]) }),
        "message",
    )];
    let mut edges = Vec::new();
    let mut last = ("ChatInput-1".to_owned(), "ChatInput", "message");
    for n in 1..=models {
        let id = format!("{MODEL}-{n}");
        let template = json!({
            "input_value": field(&["Message"]),
            "system_message": field(&["Message"]),
            "model": {
                "type": "model", "value": [{ "name": "gpt-4o-mini", "provider": "OpenAI" }], "show": true,
            },
            "stream": { "type": "bool", "value": true, "show": true },
        });
        nodes.push(node(&id, MODEL, &template, "text_output"));
        edges.push(edge((&last.0, last.1, last.2), (&id, "input_value")));
        last = (id, MODEL, "text_output");
    }
    let template = json!({ "input_value": field(&["Message", "Data"]) });
    nodes.push(node("ChatOutput-1", "ChatOutput", &template, "message"));
    edges.push(edge((&last.0, last.1, last.2), ("ChatOutput-1", "input_value")));
    json!({ "name": format!("chain of {models}"), "data": { "nodes": nodes, "edges": edges } })
}

/// What [`chain`] answers.
pub(crate) fn answer(models: usize, input: &str) -> String {
    format!("{}{input}", "echo: ".repeat(models))
}
