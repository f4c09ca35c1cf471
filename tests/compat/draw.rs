//! Draws flows of released components. Ends of edges are written `Node-id.output` and `Node-id.field`.

use serde_json::{Value as Json, json};

use crate::wheels;

/// Messages are kept only of flows whose ids are UUIDs.
pub(crate) const FLOW_ID: &str = "5f0c9e0c-2589-4754-ac61-8cf88df4a07e";

/// A flow in the making.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    pub(crate) flow: Json,
}

/// A component's name in the index, by the first part of a node's id.
pub(crate) fn component_of(id: &str) -> &str {
    match id.split('-').next().unwrap() {
        "Prompt" => "Prompt Template",
        "Parser" => "ParserComponent",
        "TypeConverter" => "TypeConverterComponent",
        "LanguageModel" => "LanguageModelComponent",
        "Calculator" => "CalculatorComponent",
        "BatchRun" => "BatchRunComponent",
        name => name,
    }
}

impl Draw {
    pub(crate) fn new() -> Self {
        Self {
            flow: json!({"id": FLOW_ID, "name": "drawn", "data": {"nodes": [], "edges": []}}),
        }
    }

    /// Nodes as the component index has them.
    pub(crate) fn nodes(mut self, ids: &[&str]) -> Self {
        for id in ids {
            let name = component_of(id);
            let mut body = wheels::component(name).clone();
            if body["template"].get("model").is_some_and(Json::is_object) {
                body["template"]["model"]["value"] = json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]);
            }
            let node =
                json!({"id": id, "type": "genericNode", "data": {"id": id, "type": name, "node": body}});
            self.flow["data"]["nodes"].as_array_mut().unwrap().push(node);
        }
        self
    }

    pub(crate) fn body(&mut self, id: &str) -> &mut Json {
        let nodes = self.flow["data"]["nodes"].as_array_mut().unwrap();
        let found = nodes.iter_mut().find(|node| node["id"] == id);
        &mut found.unwrap_or_else(|| panic!("no node {id}"))["data"]["node"]
    }

    /// A field's value: `Node-id.field`. What a prompt does not have yet becomes one of its variables.
    pub(crate) fn set(mut self, place: &str, value: impl Into<Json>) -> Self {
        self.field(place)["value"] = value.into();
        self
    }

    /// Anything else of a field.
    pub(crate) fn mark(mut self, place: &str, key: &str, value: impl Into<Json>) -> Self {
        self.field(place)[key] = value.into();
        self
    }

    fn field(&mut self, place: &str) -> &mut Json {
        let (id, name) = place.split_once('.').unwrap();
        let is_prompt = component_of(id) == "Prompt Template";
        let field = &mut self.body(id)["template"][name];
        if is_prompt && field.is_null() {
            *field = json!({"type": "str", "value": "", "show": true, "list": false, "required": false,
                "input_types": ["Message"], "name": name, "display_name": name});
        }
        assert!(field.is_object(), "{place} is no field");
        field
    }

    /// The node becomes a tool.
    pub(crate) fn tool(mut self, id: &str) -> Self {
        let body = self.body(id);
        body["tool_mode"] = true.into();
        body["outputs"] = json!([{"name": "component_as_tool", "types": ["Tool"], "method": "to_toolkit",
            "selected": "Tool", "value": "__UNDEFINED__", "tool_mode": true, "cache": true}]);
        self
    }

    /// An edge with the handles that an editor writes.
    pub(crate) fn edge(mut self, from: &str, to: &str) -> Self {
        let ((source, output), (target, name)) = (from.split_once('.').unwrap(), to.split_once('.').unwrap());
        let outputs = self.body(source)["outputs"].clone();
        let outputs = outputs.as_array().unwrap().iter();
        let found = outputs.into_iter().find(|found| found["name"] == output);
        let types = found.unwrap_or_else(|| panic!("no output {from}"))["types"].clone();
        let field = self.field(to).clone();
        let component = component_of(source);
        let edge = json!({
            "source": source,
            "target": target,
            "data": {
                "sourceHandle": {"dataType": component, "id": source, "name": output, "output_types": types},
                "targetHandle": {"fieldName": name, "id": target, "inputTypes": field["input_types"], "type": field["type"]},
            },
        });
        self.flow["data"]["edges"].as_array_mut().unwrap().push(edge);
        self
    }

    pub(crate) fn edges(self, edges: &[(&str, &str)]) -> Self {
        edges.iter().fold(self, |draw, (from, to)| draw.edge(from, to))
    }
}
