//! The body of `POST /api/v2/workflows`, checked without I/O as Langflow's server checks it: every field that is wrong is
//! named, fields that are not known are refused.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use flowfleet_core::FlowId;
use flowfleet_engine::{Workflow, WorkflowMode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Refusal;
use super::refusal::Wrong;
use crate::submit::parse::{MAX_SESSION, MAX_VARIABLES};

/// The one wire protocol of streams here: Langflow's own events.
pub(super) const PROTOCOL: &str = "langflow";
/// Langflow's bounds.
const MAX_KEY: usize = 255;
const MAX_GLOBAL_NAME: usize = 256;
const MAX_GLOBAL: usize = 64 << 10;
/// Output ids in one request.
const MAX_OUTPUTS: usize = 1_000;

/// Fields that Langflow's canvas sends, and that cannot be done here.
const CANVAS: [&str; 4] = ["data", "files", "start_component_id", "stop_component_id"];

/// What is asked of a flow. Fields that are not known are refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowRun {
    /// The id of the flow.
    pub flow_id: uuid::Uuid,
    pub input_value: Option<String>,
    /// Values for fields of nodes, by node id or display name.
    #[schema(value_type = Option<Object>)]
    pub tweaks: Option<Value>,
    /// The flow's id when absent.
    pub session_id: Option<String>,
    /// `sync` waits for the answer, `stream` tells the run as it goes, `background` answers with a job; `sync` when
    /// absent.
    #[schema(pattern = "^(sync|stream|background)$")]
    pub mode: Option<String>,
    /// Only `langflow`.
    #[schema(pattern = "^langflow$")]
    pub stream_protocol: Option<String>,
    /// False: events tell of the conversation only, not of each node.
    pub expose_graph_state: Option<bool>,
    /// With `sync`: outputs that the answer is to be found among.
    pub output_ids: Option<Vec<String>>,
    /// Variables of the run. They go over those in headers.
    pub globals: Option<BTreeMap<String, String>>,
    /// With `background`: the same key answers with the same job.
    #[schema(max_length = 255)]
    pub idempotency_key: Option<String>,
    /// Cannot be given here.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    /// Cannot be given here.
    pub files: Option<Vec<String>>,
    /// Cannot be given here.
    pub start_component_id: Option<String>,
    /// Cannot be given here.
    pub stop_component_id: Option<String>,
}

/// A body that is well-formed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub flow: FlowId,
    /// As the body spells it.
    pub flow_id: String,
    pub input: String,
    pub tweaks: Map<String, Value>,
    pub session_id: Option<String>,
    pub workflow: Workflow,
    pub output_ids: Vec<String>,
    pub globals: BTreeMap<String, String>,
    pub idempotency_key: Option<String>,
}

/// Parses a body.
pub(crate) fn parse(bytes: &[u8]) -> Result<Asked, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::fields(vec![Wrong::missing(&["body"])]));
    }
    let document: Value = serde_json::from_slice(bytes).map_err(|error| {
        let before = bytes
            .split(|byte| *byte == b'\n')
            .take(error.line().saturating_sub(1));
        let at = before.map(|line| line.len() + 1).sum::<usize>() + error.column();
        Refusal::fields(vec![Wrong::no_json(at)])
    })?;
    let Value::Object(body) = document else {
        let detail = "Input should be a valid dictionary or object to extract fields from";
        return Err(Refusal::fields(vec![Wrong::new(
            "model_attributes_type",
            &["body"],
            detail,
        )]));
    };
    Reader {
        body,
        wrong: Vec::new(),
    }
    .read()
}

/// Takes fields out of a body and notes what is wrong with them.
struct Reader {
    body: Map<String, Value>,
    wrong: Vec<Wrong>,
}

impl Reader {
    fn read(mut self) -> Result<Asked, Refusal> {
        let flow_id = match self.body.contains_key("flow_id") {
            true => self.text("flow_id", usize::MAX, false),
            false => {
                self.wrong.push(Wrong::missing(&["body", "flow_id"]));
                None
            }
        };
        let input = match self.body.contains_key("input_value") {
            true => self.text("input_value", usize::MAX, false),
            false => None,
        };
        let tweaks = self.tweaks();
        let session_id = self.text("session_id", MAX_SESSION, true);
        let mode = self.mode();
        let protocol = match self.body.contains_key("stream_protocol") {
            true => self.text("stream_protocol", usize::MAX, false),
            false => None,
        };
        let graph_state = self.flag("expose_graph_state");
        let canvas: Vec<&str> = CANVAS.into_iter().filter(|field| self.given(field)).collect();
        let output_ids = self.texts("output_ids");
        let globals = self.globals();
        let idempotency_key = self.text("idempotency_key", MAX_KEY, true);
        for name in self.body.keys() {
            let detail = "Extra inputs are not permitted";
            self.wrong
                .push(Wrong::new("extra_forbidden", &["body", name], detail));
        }
        if session_id
            .as_ref()
            .is_some_and(|session| session.chars().any(char::is_control))
        {
            let detail = "Value error, control characters are not allowed";
            self.wrong
                .push(Wrong::new("value_error", &["body", "session_id"], detail));
        }
        let flow_id = flow_id.unwrap_or_default();
        let flow = flow_id.parse::<FlowId>();
        if flow.is_err() && self.wrong.is_empty() {
            self.wrong.push(Wrong::no_uuid(&["body"], "flow_id"));
        }
        let (Ok(flow), true) = (flow, self.wrong.is_empty()) else {
            return Err(Refusal::fields(self.wrong));
        };
        let asked = Asked {
            flow,
            flow_id,
            input: input.unwrap_or_default(),
            tweaks,
            session_id: session_id.filter(|session| !session.is_empty()),
            workflow: Workflow {
                mode,
                graph_state: graph_state.unwrap_or(true),
            },
            output_ids,
            globals,
            idempotency_key: idempotency_key.filter(|key| !key.is_empty()),
        };
        asked.check(protocol.as_deref().unwrap_or(PROTOCOL), &canvas)
    }

    fn note(&mut self, kind: &str, place: &[&str], detail: impl Into<String>) {
        let place: Vec<&str> = std::iter::once("body").chain(place.iter().copied()).collect();
        self.wrong.push(Wrong::new(kind, &place, detail));
    }

    /// Whether a field says something; it is spent then.
    fn given(&mut self, name: &str) -> bool {
        match self.body.remove(name) {
            None | Some(Value::Null) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        }
    }

    fn text(&mut self, name: &str, most: usize, nullable: bool) -> Option<String> {
        match self.body.remove(name) {
            None => None,
            Some(Value::Null) if nullable => None,
            Some(Value::String(text)) if text.chars().count() <= most => Some(text),
            Some(Value::String(_)) => {
                let detail = format!("String should have at most {most} characters");
                self.note("string_too_long", &[name], detail);
                None
            }
            Some(_) => {
                self.note("string_type", &[name], "Input should be a valid string");
                None
            }
        }
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        match self.body.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(flag),
            Some(_) => {
                self.note("bool_type", &[name], "Input should be a valid boolean");
                None
            }
        }
    }

    fn mode(&mut self) -> WorkflowMode {
        let Some(said) = self.body.remove("mode") else {
            return WorkflowMode::Sync;
        };
        let found = WorkflowMode::ALL.into_iter().find(|mode| said == mode.as_str());
        found.unwrap_or_else(|| {
            let detail = "Input should be 'sync', 'stream' or 'background'";
            let wrong = Wrong::new("enum", &["body", "mode"], detail);
            self.wrong
                .push(wrong.expected("'sync', 'stream' or 'background'"));
            WorkflowMode::Sync
        })
    }

    fn tweaks(&mut self) -> Map<String, Value> {
        self.object("tweaks")
    }

    fn object(&mut self, name: &str) -> Map<String, Value> {
        match self.body.remove(name) {
            None => Map::new(),
            Some(Value::Object(object)) => object,
            Some(_) => {
                self.note("dict_type", &[name], "Input should be a valid dictionary");
                Map::new()
            }
        }
    }

    fn texts(&mut self, name: &str) -> Vec<String> {
        let items = match self.body.remove(name) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) if items.len() <= MAX_OUTPUTS => items,
            Some(Value::Array(_)) => {
                let detail = format!("List should have at most {MAX_OUTPUTS} items");
                self.note("too_long", &[name], detail);
                return Vec::new();
            }
            Some(_) => {
                self.note("list_type", &[name], "Input should be a valid list");
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                _ => {
                    let place = [name, &index.to_string()];
                    self.note("string_type", &place, "Input should be a valid string");
                }
            }
        }
        texts
    }

    fn globals(&mut self) -> BTreeMap<String, String> {
        let mut globals = BTreeMap::new();
        for (name, value) in self.object("globals") {
            if name.is_empty() || name.chars().count() > MAX_GLOBAL_NAME {
                let detail = format!("the name must have 1 to {MAX_GLOBAL_NAME} characters");
                self.note("string_too_long", &["globals", "[key]"], detail);
                continue;
            }
            match value {
                Value::String(text) if text.len() <= MAX_GLOBAL => drop(globals.insert(name, text)),
                Value::String(_) => {
                    let detail = format!("String should have at most {MAX_GLOBAL} characters");
                    self.note("string_too_long", &["globals", &name], detail);
                }
                _ => self.note(
                    "string_type",
                    &["globals", &name],
                    "Input should be a valid string",
                ),
            }
        }
        if globals.len() > MAX_VARIABLES {
            let detail = format!("Dictionary should have at most {MAX_VARIABLES} items");
            self.note("too_long", &["globals"], detail);
        }
        globals
    }
}

impl Asked {
    /// Refuses what the mode, or this server, cannot do: in Langflow's order.
    fn check(self, protocol: &str, canvas: &[&str]) -> Result<Self, Refusal> {
        const STATUS: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
        if protocol != PROTOCOL {
            let message = format!("Unknown stream_protocol '{protocol:.100}'.");
            let refusal = Refusal::new(
                STATUS,
                "Unknown stream_protocol",
                "UNKNOWN_STREAM_PROTOCOL",
                message,
            );
            return Err(refusal.with("available", vec![PROTOCOL]));
        }
        if !canvas.is_empty() {
            let message = format!(
                "this server does not support these v2 fields: {}. Store the flow as it is to run, and send tweaks",
                canvas.join(", ")
            );
            let refusal = Refusal::new(
                STATUS,
                "Unsupported request fields",
                "LFX_SERVE_UNSUPPORTED_FIELDS",
                message,
            );
            return Err(refusal.with("fields", canvas.to_vec()));
        }
        if self.workflow.mode != WorkflowMode::Sync && !self.output_ids.is_empty() {
            let message = format!(
                "mode='{}' does not support request fields: output_ids, which choose the answer of mode='sync'.",
                self.workflow.mode.as_str()
            );
            let refusal = Refusal::new(
                STATUS,
                "Unsupported request fields for mode",
                "MODE_UNSUPPORTED_FIELDS",
                message,
            );
            return Err(refusal.with("fields", vec!["output_ids"]));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "00385b0b-2dd1-472c-9c03-70ad54c85f1e";

    fn refused(body: &Value) -> Value {
        let refusal = parse(body.to_string().as_bytes()).unwrap_err();
        assert_eq!(refusal.status, 422);
        refusal.detail
    }

    #[test]
    fn a_flow_is_all_that_is_needed() {
        let asked = parse(json!({"flow_id": ID}).to_string().as_bytes()).unwrap();
        assert_eq!((asked.flow_id.as_str(), asked.input.as_str()), (ID, ""));
        assert_eq!(asked.workflow.mode, WorkflowMode::Sync);
        assert!(asked.workflow.graph_state);
        let full = json!({"flow_id": ID, "input_value": "x", "tweaks": {"A": {"b": 1}}, "session_id": "", "files": [],
            "mode": "background", "stream_protocol": "langflow", "expose_graph_state": false, "output_ids": null,
            "globals": {"A": "b"}, "idempotency_key": "k", "data": null, "start_component_id": null});
        let asked = parse(full.to_string().as_bytes()).unwrap();
        assert_eq!((asked.session_id, asked.workflow.graph_state), (None, false));
        assert_eq!(asked.globals, BTreeMap::from([("A".to_owned(), "b".to_owned())]));
        assert_eq!(asked.idempotency_key.as_deref(), Some("k"));
    }

    /// As Langflow 1.13's server was seen to answer.
    #[test]
    fn each_field_that_is_wrong_is_named() {
        for (body, expected) in [
            (
                json!({"flow_id": ID, "colour": 1, "input_value": 3}),
                json!([
                    {"type": "string_type", "loc": ["body", "input_value"], "msg": "Input should be a valid string"},
                    {"type": "extra_forbidden", "loc": ["body", "colour"], "msg": "Extra inputs are not permitted"},
                ]),
            ),
            (
                json!({"flow_id": "nope"}),
                json!([{"type": "value_error", "loc": ["body"], "msg": "Value error, Invalid flow_id, must be a UUID"}]),
            ),
            (
                json!({}),
                json!([{"type": "missing", "loc": ["body", "flow_id"], "msg": "Field required"}]),
            ),
        ] {
            assert_eq!(refused(&body), expected, "{body}");
        }
        for (body, place) in [
            (json!({"flow_id": ID, "mode": "walk"}), json!(["body", "mode"])),
            (json!({"flow_id": ID, "mode": null}), json!(["body", "mode"])),
            (
                json!({"flow_id": ID, "globals": {"A": 1}}),
                json!(["body", "globals", "A"]),
            ),
            (json!({"flow_id": ID, "tweaks": []}), json!(["body", "tweaks"])),
            (
                json!({"flow_id": ID, "output_ids": ["a", 1]}),
                json!(["body", "output_ids", "1"]),
            ),
            (
                json!({"flow_id": ID, "session_id": "a\u{0}"}),
                json!(["body", "session_id"]),
            ),
            (
                json!({"flow_id": ID, "expose_graph_state": "yes"}),
                json!(["body", "expose_graph_state"]),
            ),
            (
                json!({"flow_id": ID, "idempotency_key": "k".repeat(256)}),
                json!(["body", "idempotency_key"]),
            ),
            (json!([]), json!(["body"])),
        ] {
            assert_eq!(refused(&body)[0]["loc"], place, "{body}");
        }
        assert_eq!(
            parse(b"").unwrap_err().detail,
            json!([{"type": "missing", "loc": ["body"], "msg": "Field required"}])
        );
        assert_eq!(
            parse(b"{").unwrap_err().detail,
            json!([{"type": "json_invalid", "loc": ["body", 1], "msg": "JSON decode error"}])
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_code() {
        for (body, code, field) in [
            (
                json!({"flow_id": ID, "stream_protocol": "agui"}),
                "UNKNOWN_STREAM_PROTOCOL",
                "available",
            ),
            (
                json!({"flow_id": ID, "files": ["a"]}),
                "LFX_SERVE_UNSUPPORTED_FIELDS",
                "fields",
            ),
            (
                json!({"flow_id": ID, "mode": "stream", "output_ids": ["a"]}),
                "MODE_UNSUPPORTED_FIELDS",
                "fields",
            ),
        ] {
            let detail = refused(&body);
            assert_eq!(detail["code"], code, "{body}");
            assert!(
                detail[field].is_array() && detail["message"].is_string(),
                "{detail}"
            );
        }
    }
}
