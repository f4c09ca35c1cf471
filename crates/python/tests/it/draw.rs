//! Flows with components of the tests' own, between the real chat components.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::rig::cache;

/// A starter flow of the released wheel, its models chosen.
pub(crate) fn starter(name: &str) -> Json {
    let path = wheels().join(format!(
        "langflow_base-1.13.0/langflow/initial_setup/starter_projects/{name}.json"
    ));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut flow: Json = serde_json::from_str(&text).unwrap();
    for node in flow["data"]["nodes"].as_array_mut().unwrap() {
        let template = &mut node["data"]["node"]["template"];
        if template.get("model").is_some_and(Json::is_object) {
            template["model"]["value"] = json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]);
        }
    }
    flow["id"] = "c1cb7b3c-2589-4754-ac61-8cf88df4a07e".into();
    flow
}

/// Where `tests/wheels.sh` unpacks them.
fn wheels() -> PathBuf {
    std::env::var_os("FLOWFLEET_TEST_WHEELS").map_or_else(|| cache().join("flowfleet/wheels"), PathBuf::from)
}

/// The node of a component in a flow.
pub(crate) fn node<'a>(flow: &'a mut Json, component: &str) -> &'a mut Json {
    let nodes = flow["data"]["nodes"].as_array_mut().unwrap();
    nodes
        .iter_mut()
        .find(|node| node["data"]["type"] == component)
        .unwrap()
}

/// Chat input, a component whose `work` has this body and returns text, chat output. Indent the body by two.
pub(crate) fn custom(body: &str) -> Json {
    let body = body.replace('\n', "\n      ");
    let code = format!(
        "from lfx.custom import Component
from lfx.io import MessageTextInput, Output
from lfx.schema.message import Message
import asyncio, ctypes, json, os, sys, time

class Custom(Component):
  display_name = 'Custom'
  inputs = [MessageTextInput(name='text', display_name='Text'), MessageTextInput(name='word', display_name='Word', value='plain')]
  outputs = [Output(name='out', display_name='Out', method='work')]
  async def work(self) -> Message:
      text = self.text
      {body}
      return Message(text=str(text))
"
    );
    let field = |name: &str, value: &str| {
        json!({"name": name, "display_name": name, "type": "str", "_input_type": "MessageTextInput", "value": value,
            "input_types": ["Message"], "show": true, "list": false, "required": false, "load_from_db": false})
    };
    let custom = json!({"id": "Custom-1", "type": "genericNode", "position": {"x": 0, "y": 0},
        "data": {"id": "Custom-1", "type": "Custom", "node": {
            "display_name": "Custom", "base_classes": ["Message"], "tool_mode": false, "frozen": false,
            "template": {"_type": "Component", "code": {"type": "code", "value": code, "show": true, "name": "code"},
                "text": field("text", ""), "word": field("word", "plain")},
            "outputs": [{"name": "out", "display_name": "Out", "method": "work", "types": ["Message"],
                "selected": "Message", "value": "__UNDEFINED__", "cache": true}],
            "metadata": {}}}});
    let mut basic = starter("Basic Prompting");
    let mut pick = |component: &str| node(&mut basic, component).clone();
    let (input, output) = (pick("ChatInput"), pick("ChatOutput"));
    let id = |node: &Json| node["id"].as_str().unwrap().to_owned();
    let edges = [
        edge((&id(&input), "ChatInput", "message"), ("Custom-1", "text")),
        edge(("Custom-1", "Custom", "out"), (&id(&output), "input_value")),
    ];
    json!({"name": "Custom", "id": "5f0c9e0c-2589-4754-ac61-8cf88df4a07e",
        "data": {"nodes": [input, custom, output], "edges": edges, "viewport": {"x": 0, "y": 0, "zoom": 1}}})
}

fn edge(from: (&str, &str, &str), to: (&str, &str)) -> Json {
    let source = json!({"dataType": from.1, "id": from.0, "name": from.2, "output_types": ["Message"]});
    let target =
        json!({"fieldName": to.1, "id": to.0, "inputTypes": ["Data", "DataFrame", "Message"], "type": "str"});
    let text = |handle: &Json| handle.to_string().replace('"', "œ");
    json!({"id": format!("{}-{}", from.0, to.0), "source": from.0, "target": to.0,
        "sourceHandle": text(&source), "targetHandle": text(&target),
        "data": {"sourceHandle": source, "targetHandle": target}})
}
