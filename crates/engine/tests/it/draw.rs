//! Draws flows: nodes in the form without code, or with a released component's code from a wheel.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Map, Value as Json, json};

/// A document in the making.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    pub(crate) document: Json,
}

impl Draw {
    pub(crate) fn new() -> Self {
        Self {
            document: json!({"id": "flow-1", "name": "drawn", "data": {"nodes": [], "edges": []}}),
        }
    }

    /// A node without code. The id's first part is the component.
    pub(crate) fn node(mut self, id: &str) -> Self {
        let component = id.split('-').next().unwrap();
        let (display_name, fields, outputs) = component_form(component);
        let template: Map<String, Json> = fields.as_object().unwrap().clone();
        self.push(
            id,
            component,
            &json!({"display_name": display_name, "template": template, "outputs": outputs}),
        );
        self
    }

    /// A node as the wheel's component index has it, code included.
    pub(crate) fn released(mut self, id: &str, component: &str) -> Self {
        let body = released(component);
        self.push(id, component, &body);
        self
    }

    fn push(&mut self, id: &str, component: &str, body: &Json) {
        let node =
            json!({"id": id, "type": "genericNode", "data": {"id": id, "type": component, "node": body}});
        self.document["data"]["nodes"].as_array_mut().unwrap().push(node);
    }

    pub(crate) fn body(&mut self, id: &str) -> &mut Json {
        let nodes = self.document["data"]["nodes"].as_array_mut().unwrap();
        &mut nodes.iter_mut().find(|node| node["id"] == id).unwrap()["data"]["node"]
    }

    pub(crate) fn set(mut self, id: &str, field: &str, value: impl Into<Json>) -> Self {
        self.body(id)["template"][field]["value"] = value.into();
        self
    }

    /// The node's output that was chosen in the editor: the only one that it shows.
    pub(crate) fn output(mut self, id: &str, name: &str) -> Self {
        self.body(id)["selected_output"] = name.into();
        self
    }

    /// What the fields of all nodes say that is no code.
    pub(crate) fn settings(&self) -> Json {
        let nodes = self.document["data"]["nodes"].as_array().unwrap();
        let of_node = |node: &Json| {
            let template = node["data"]["node"]["template"].as_object().unwrap();
            let said = template.iter().filter(|(name, field)| {
                *name != "code"
                    && field["show"] != false
                    && field["value"].is_string() | field["value"].is_array() | field["value"].is_boolean()
            });
            let said: Map<String, Json> = said
                .map(|(name, field)| (name.clone(), field["value"].clone()))
                .collect();
            (node["id"].as_str().unwrap().to_owned(), Json::Object(said))
        };
        let wanted = |(id, _): &(String, Json)| !id.starts_with("Chat");
        Json::Object(nodes.iter().map(of_node).filter(wanted).collect())
    }

    /// A field as a prompt's variable has it.
    pub(crate) fn variable(mut self, id: &str, name: &str, default: &str) -> Self {
        self.body(id)["template"][name] = text_field(default, true);
        self
    }

    /// An edge with the handles an editor would write.
    pub(crate) fn edge(mut self, source: &str, output: &str, target: &str, field: &str) -> Self {
        let outputs = self.body(source)["outputs"].as_array().unwrap().clone();
        let types = &outputs
            .iter()
            .find(|o| o["name"] == output)
            .unwrap_or_else(|| panic!("{source}.{output}"))["types"];
        let to = self.body(target)["template"][field].clone();
        assert!(to.is_object(), "{target} has no field {field}");
        let edge = json!({
            "source": source,
            "target": target,
            "data": {
                "sourceHandle": {"dataType": "x", "id": source, "name": output, "output_types": types},
                "targetHandle": {"fieldName": field, "id": target, "inputTypes": to["input_types"], "type": to["type"]},
            },
        });
        self.document["data"]["edges"].as_array_mut().unwrap().push(edge);
        self
    }

    /// An edge that goes back to an output, as the last one of a loop does.
    pub(crate) fn back(mut self, source: &str, output: &str, target: &str, name: &str) -> Self {
        let outputs = self.body(source)["outputs"].as_array().unwrap().clone();
        let types = &outputs
            .iter()
            .find(|o| o["name"] == output)
            .unwrap_or_else(|| panic!("{source}.{output}"))["types"];
        let edge = json!({
            "source": source,
            "target": target,
            "data": {
                "sourceHandle": {"dataType": "x", "id": source, "name": output, "output_types": types},
                "targetHandle": {"dataType": "x", "id": target, "name": name, "output_types": ["Data", "Message"]},
            },
        });
        self.document["data"]["edges"].as_array_mut().unwrap().push(edge);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.document).unwrap()
    }
}

fn text_field(value: &str, takes_edge: bool) -> Json {
    let types = if takes_edge { json!(["Message"]) } else { json!([]) };
    json!({"type": "str", "value": value, "show": true, "list": false, "required": false, "input_types": types})
}

fn field(kind: &str, value: impl Into<Json>, input_types: &[&str], required: bool) -> Json {
    let value: Json = value.into();
    json!({"type": kind, "value": value, "show": true, "required": required, "input_types": input_types})
}

fn output(name: &str) -> Json {
    json!({"name": name, "types": ["Message"]})
}

fn component_form(component: &str) -> (&'static str, Json, Json) {
    let any = ["Data", "JSON", "DataFrame", "Table", "Message"];
    match component {
        "ChatInput" => (
            "Chat Input",
            json!({
                "input_value": text_field("", false), "session_id": text_field("", true),
                "sender": text_field("User", false), "sender_name": text_field("User", true),
            }),
            json!([output("message")]),
        ),
        "ChatOutput" => (
            "Chat Output",
            json!({
                "input_value": field("str", json!(""), &any, true), "session_id": text_field("", true),
                "sender": text_field("Machine", false), "sender_name": text_field("AI", true),
                "data_template": text_field("{text}", true), "clean_data": field("bool", json!(true), &[], false),
            }),
            json!([output("message")]),
        ),
        "TextInput" => (
            "Text Input",
            json!({"input_value": text_field("", true)}),
            json!([output("text")]),
        ),
        "TextOutput" => (
            "Text Output",
            json!({"input_value": text_field("", true)}),
            json!([output("text")]),
        ),
        "Prompt" => (
            "Prompt Template",
            json!({
                "template": field("prompt", json!(""), &[], false),
                "use_double_brackets": field("bool", json!(false), &[], false),
            }),
            json!([output("prompt")]),
        ),
        "LanguageModelComponent" => (
            "Language Model",
            json!({
                "model": field("model", json!([{"name": "mock-1", "provider": "OpenAI"}]), &["LanguageModel"], true),
                "api_key": json!({"type": "str", "value": "", "show": true, "password": true, "load_from_db": false}),
                "input_value": text_field("", true), "system_message": text_field("", true),
                "stream": field("bool", json!(false), &[], false),
                "temperature": field("slider", json!(0.1), &[], false),
                "max_tokens": field("int", json!(0), &[], false),
            }),
            json!([output("text_output"), {"name": "model_output", "types": ["LanguageModel"]}]),
        ),
        "OpenAIModel" => (
            "OpenAI",
            json!({
                "model_name": text_field("mock-1", false), "openai_api_base": text_field("", false),
                "api_key": json!({"type": "str", "value": "sk-test", "show": true, "password": true, "load_from_db": false}),
                "input_value": text_field("", true), "system_message": text_field("", true),
                "stream": field("bool", json!(false), &[], false), "max_retries": field("int", json!(0), &[], false),
            }),
            json!([output("text_output"), {"name": "model_output", "types": ["LanguageModel"]}]),
        ),
        "ParserComponent" => (
            "Parser",
            json!({
                "input_data": field("other", json!(""), &["DataFrame", "Table", "Data", "JSON", "Message"], true),
                "mode": field("tab", json!("Parser"), &[], false),
                "pattern": field("str", json!("{text}"), &["Message"], true),
                "sep": text_field("\n", true),
            }),
            json!([output("parsed_text")]),
        ),
        "ConditionalRouter" => (
            "If-Else",
            json!({
                "input_text": field("str", json!(""), &["Message"], true),
                "match_text": field("str", json!(""), &["Message"], true),
                "operator": text_field("equals", false), "case_sensitive": field("bool", json!(true), &[], false),
                "true_case_message": text_field("", true), "false_case_message": text_field("", true),
                "max_iterations": field("int", json!(10), &[], false), "default_route": text_field("false_result", false),
            }),
            json!([output("true_result"), output("false_result")]),
        ),
        other => panic!("no form for {other}"),
    }
}

/// Where `tests/wheels.sh` unpacks wheels.
pub(crate) fn wheels() -> PathBuf {
    let cache = || {
        let home = std::env::var("HOME").unwrap();
        std::env::var("XDG_CACHE_HOME").map_or_else(|_| PathBuf::from(home).join(".cache"), PathBuf::from)
    };
    std::env::var("FLOWFLEET_TEST_WHEELS").map_or_else(|_| cache().join("flowfleet/wheels"), PathBuf::from)
}

pub(crate) fn read_wheel(path: &str) -> Vec<u8> {
    let path = wheels().join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run tests/wheels.sh", path.display()))
}

static INDEX: LazyLock<Json> = LazyLock::new(|| {
    serde_json::from_slice(&read_wheel("lfx-1.13.0/lfx/_assets/component_index.json")).unwrap()
});

/// A component of the wheel, as the editor would put it on the canvas.
fn released(component: &str) -> Json {
    let categories = INDEX["entries"].as_array().unwrap();
    let found = categories.iter().find_map(|category| category[1].get(component));
    found
        .unwrap_or_else(|| panic!("no component {component}"))
        .clone()
}
