//! Flows for tests: one starter flow from Langflow's wheel, others written here in the form without code.

use anyhow::Context;
use serde_json::{Value, json};

use crate::services;

/// Langflow's starter flow, its model filled in as a user would in the editor.
pub fn basic_prompting() -> anyhow::Result<Value> {
    let path = services::wheels()
        .join("langflow_base-1.13.0/langflow/initial_setup/starter_projects/Basic Prompting.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} is missing: tests/wheels.sh fetches it", path.display()))?;
    let mut flow: Value = serde_json::from_str(&text)?;
    for node in flow["data"]["nodes"].as_array_mut().context("nodes")? {
        let template = &mut node["data"]["node"]["template"];
        if template.get("model").is_some() {
            template["model"]["value"] = json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]);
        }
    }
    Ok(flow)
}

fn field(value: &Value, input_types: &[&str]) -> Value {
    json!({"type": "str", "value": value, "list": false, "required": false, "show": true, "input_types": input_types})
}

fn node(id: &str, component: &str, template: &Value, output: &str) -> Value {
    json!({
        "id": id,
        "type": "genericNode",
        "data": {"id": id, "type": component, "node": {
            "display_name": component,
            "template": template,
            "outputs": [{"name": output, "types": ["Message"]}],
        }},
    })
}

fn edge(source: (&str, &str, &str), target: (&str, &str)) -> Value {
    let (source_id, component, output) = source;
    let (target_id, input) = target;
    json!({
        "id": format!("{source_id}.{output}-{target_id}.{input}"),
        "source": source_id,
        "target": target_id,
        "data": {
            "sourceHandle": {"dataType": component, "id": source_id, "name": output, "output_types": ["Message"]},
            "targetHandle": {"fieldName": input, "id": target_id, "inputTypes": ["Message"], "type": "str"},
        },
    })
}

fn flow(name: &str, nodes: &[Value], edges: &[Value]) -> Value {
    json!({"name": name, "data": {"nodes": nodes, "edges": edges, "viewport": {"x": 0, "y": 0, "zoom": 1}}})
}

fn chat_input() -> Value {
    node(
        "ChatInput-1",
        "ChatInput",
        &json!({"input_value": field(&json!(""), &[])}),
        "message",
    )
}

fn chat_output() -> Value {
    node(
        "ChatOutput-1",
        "ChatOutput",
        &json!({"input_value": field(&json!(""), &["Message", "Data"])}),
        "message",
    )
}

/// What goes in comes out.
pub fn passthrough() -> Value {
    let edges = [edge(
        ("ChatInput-1", "ChatInput", "message"),
        ("ChatOutput-1", "input_value"),
    )];
    flow("passthrough", &[chat_input(), chat_output()], &edges)
}

/// ChatInput, then `length` models one after another, then ChatOutput.
pub fn chain_of_models(length: usize) -> Value {
    const MODEL: &str = "LanguageModelComponent";
    let (mut nodes, mut edges) = (vec![chat_input()], Vec::new());
    let mut last = ("ChatInput-1".to_owned(), "ChatInput", "message");
    for n in 1..=length {
        let id = format!("{MODEL}-{n}");
        let template = json!({
            "input_value": field(&json!(""), &["Message"]),
            "system_message": field(&json!(""), &["Message"]),
            "model": {"type": "model", "value": [{"name": "gpt-4o-mini", "provider": "OpenAI"}], "show": true, "list": false},
            "stream": {"type": "bool", "value": false, "show": true},
        });
        nodes.push(node(&id, MODEL, &template, "text_output"));
        edges.push(edge((&last.0, last.1, last.2), (&id, "input_value")));
        last = (id, MODEL, "text_output");
    }
    nodes.push(chat_output());
    edges.push(edge((&last.0, last.1, last.2), ("ChatOutput-1", "input_value")));
    flow("chain of models", &nodes, &edges)
}

/// Adds an edge from the last model of a chain to the first: a cycle.
pub fn connect_back(chain: &mut Value) {
    const MODEL: &str = "LanguageModelComponent";
    let back = edge(
        (&format!("{MODEL}-2"), MODEL, "text_output"),
        (&format!("{MODEL}-1"), "system_message"),
    );
    if let Some(edges) = chain["data"]["edges"].as_array_mut() {
        edges.push(back);
    }
}
