//! What Langflow's server answers of a workflow: the whole of an ended one, or a job that goes on.

use std::collections::BTreeMap;

use flowfleet_core::RunId;
use flowfleet_engine::Plan;
use flowfleet_engine::langflow::Vertex;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// A workflow that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowExecution {
    pub flow_id: String,
    pub session_id: Option<String>,
    pub job_id: Uuid,
    /// `response`
    pub object: &'static str,
    pub created_timestamp: String,
    /// `completed`, `failed` or `cancelled`
    pub status: &'static str,
    pub output: WorkflowOutput,
    pub errors: Vec<WorkflowError>,
    pub warnings: Vec<String>,
    #[schema(value_type = Object)]
    pub inputs: Map<String, Value>,
    pub globals: BTreeMap<String, String>,
    /// By component id.
    #[schema(value_type = Object)]
    pub outputs: Map<String, Value>,
    #[schema(value_type = Option<Object>)]
    pub human_request: Option<Value>,
    pub has_errors: bool,
}

/// The text that answers, and why there is one or none.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct WorkflowOutput {
    /// `single`, `multiple`, `none`, `non_string` or `failed`
    pub reason: &'static str,
    pub text: Option<String>,
    /// The component that gave the text.
    pub source: Option<String>,
}

/// Why a workflow failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowError {
    pub error: String,
    pub code: &'static str,
    #[schema(value_type = Object)]
    pub details: Value,
}

/// A workflow that has not ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowJob {
    pub job_id: Uuid,
    pub flow_id: String,
    /// `job`
    pub object: &'static str,
    pub created_timestamp: String,
    /// `queued`, `in_progress` or `cancelled`
    pub status: &'static str,
    pub links: WorkflowLinks,
    pub errors: Vec<WorkflowError>,
    pub globals: BTreeMap<String, String>,
}

/// Where a job is asked about.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowLinks {
    pub status: String,
    pub events: String,
    pub stop: &'static str,
}

/// As Python writes times in UTC.
pub(super) fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

pub(super) fn job(run: RunId, flow_id: String, status: &'static str) -> WorkflowJob {
    WorkflowJob {
        job_id: run.0,
        flow_id,
        object: "job",
        created_timestamp: timestamp(Timestamp::now()),
        status,
        links: WorkflowLinks {
            status: format!("/api/v2/workflows?job_id={run}"),
            events: format!("/api/v2/workflows/{run}/events"),
            stop: "/api/v2/workflows/stop",
        },
        errors: Vec::new(),
        globals: BTreeMap::new(),
    }
}

/// What was asked, as the answer repeats it.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pub inputs: Map<String, Value>,
    pub globals: BTreeMap<String, String>,
    pub output_ids: Vec<String>,
}

/// A workflow that gave something; `outputs` are those of Langflow's first API.
pub(super) fn completed(
    run: RunId,
    flow_id: String,
    session_id: Option<String>,
    plan: &Plan,
    outputs: &Value,
    echo: Echo,
) -> WorkflowExecution {
    let given = by_component(outputs);
    let outputs: Map<String, Value> = plan
        .terminals()
        .into_iter()
        .map(|vertex| {
            let data = given.get(vertex.id.as_str()).copied();
            (vertex.id.clone(), component(&vertex, data, true))
        })
        .collect();
    WorkflowExecution {
        flow_id,
        session_id,
        job_id: run.0,
        object: "response",
        created_timestamp: timestamp(Timestamp::now()),
        status: "completed",
        output: resolved(&outputs, &echo.output_ids),
        errors: Vec::new(),
        warnings: Vec::new(),
        inputs: echo.inputs,
        globals: echo.globals,
        outputs,
        human_request: None,
        has_errors: false,
    }
}

/// A workflow that gave nothing.
pub(super) fn failed(
    run: RunId,
    flow_id: String,
    status: &'static str,
    (message, kind): (String, String),
    echo: Echo,
) -> WorkflowExecution {
    let details = json!({"flow_id": flow_id, "error_type": kind});
    WorkflowExecution {
        flow_id,
        session_id: None,
        job_id: run.0,
        object: "response",
        created_timestamp: timestamp(Timestamp::now()),
        status,
        output: WorkflowOutput {
            reason: "failed",
            text: None,
            source: None,
        },
        errors: vec![WorkflowError {
            error: message,
            code: "EXECUTION_ERROR",
            details,
        }],
        warnings: Vec::new(),
        inputs: echo.inputs,
        globals: echo.globals,
        outputs: Map::new(),
        human_request: None,
        has_errors: true,
    }
}

/// What each component gave, out of the outputs of Langflow's first API.
pub(super) fn by_component(outputs: &Value) -> BTreeMap<&str, &Value> {
    let runs = outputs.as_array().into_iter().flatten();
    let components = runs.filter_map(|run| run["outputs"].as_array()).flatten();
    components
        .filter_map(|component| Some((component["component_id"].as_str()?, component)))
        .collect()
}

/// What one component gave: `data` has its outputs by name.
pub(super) fn component(vertex: &Vertex, data: Option<&Value>, valid: bool) -> Value {
    let kind = kind(vertex);
    let mut metadata = Map::new();
    metadata.insert("component_type".to_owned(), vertex.component.clone().into());
    let outputs = data.and_then(|data| data.get("outputs"));
    let is_data = matches!(kind.as_str(), "data" | "dataframe");
    let content = match outputs {
        Some(outputs) if vertex.is_output || is_data => simplified(outputs, &kind),
        Some(outputs) => {
            let file = outputs
                .pointer("/message/message")
                .filter(|path| path.is_string());
            if let (Some(path), "message", "SaveToFile") = (file, kind.as_str(), vertex.component.as_str()) {
                metadata.insert("file_path".to_owned(), path.clone());
            }
            Value::Null
        }
        None => Value::Null,
    };
    let status = if valid && kind != "error" {
        "completed"
    } else {
        "failed"
    };
    let name = match vertex.display_name.is_empty() {
        true => &vertex.component,
        false => &vertex.display_name,
    };
    json!({"type": kind, "status": status, "display_name": name, "content": content, "metadata": metadata})
}

/// The type of a component's output: of its first output, else its own name.
fn kind(vertex: &Vertex) -> String {
    let first = vertex.output_types.first().filter(|kind| !kind.is_empty());
    let kind = first.unwrap_or(&vertex.component).to_lowercase();
    if kind.is_empty() {
        return "unknown".to_owned();
    }
    kind
}

/// The value itself, out of the object it stands in; the object where it does not stand as expected.
fn simplified(outputs: &Value, kind: &str) -> Value {
    let found = |places: &[&str], text: bool| {
        let values = places.iter().filter_map(|place| outputs.pointer(place));
        let wanted = |value: &&Value| if text { value.is_string() } else { !value.is_null() };
        values.into_iter().find(wanted).cloned()
    };
    const TEXT: [&str; 6] = [
        "/message/message",
        "/text/message",
        "/message/text",
        "/message",
        "/text/text",
        "/text",
    ];
    let value = match kind {
        "message" | "text" => found(&TEXT, true),
        "data" => found(&["/result/message", "/results/message"], false),
        "dataframe" => found(
            &["/results/message", "/result/message", "/run_sql_query/message"],
            false,
        ),
        _ => None,
    };
    value.unwrap_or_else(|| outputs.clone())
}

/// The one text among the outputs, or why there is none to choose.
fn resolved(outputs: &Map<String, Value>, wanted: &[String]) -> WorkflowOutput {
    let none = |reason| WorkflowOutput {
        reason,
        text: None,
        source: None,
    };
    let considered = || {
        let chosen = |id: &String| wanted.is_empty() || wanted.contains(id);
        let texts = outputs.iter().filter(move |(id, _)| chosen(id));
        texts.filter(|(_, output)| matches!(output["type"].as_str(), Some("message" | "text")))
    };
    let mut texts = considered().filter_map(|(id, output)| Some((id, output["content"].as_str()?)));
    match (texts.next(), texts.next()) {
        (Some((id, text)), None) => WorkflowOutput {
            reason: "single",
            text: Some(text.to_owned()),
            source: Some(id.clone()),
        },
        (Some(_), Some(_)) => none("multiple"),
        (None, _) if considered().next().is_some() => none("non_string"),
        (None, _) => none("none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(id: &str, kind: &str, is_output: bool) -> Vertex {
        Vertex {
            id: id.to_owned(),
            display_name: "Shown".to_owned(),
            component: id.split('-').next().unwrap_or_default().to_owned(),
            is_output,
            is_terminal: true,
            output_types: vec![kind.to_owned()],
            output: "out".to_owned(),
        }
    }

    #[test]
    fn components_show_what_langflow_shows() {
        for (id, kind, is_output, outputs, content) in [
            (
                "ChatOutput-1",
                "Message",
                true,
                json!({"message": {"message": "hi", "type": "text"}}),
                json!("hi"),
            ),
            (
                "TextOutput-1",
                "Message",
                true,
                json!({"text": {"message": "hi"}}),
                json!("hi"),
            ),
            (
                "X-1",
                "Message",
                true,
                json!({"other": {"message": 1}}),
                json!({"other": {"message": 1}}),
            ),
            (
                "X-1",
                "Message",
                false,
                json!({"message": {"message": "hi"}}),
                json!(null),
            ),
            (
                "X-1",
                "Data",
                false,
                json!({"result": {"message": {"a": 1}}}),
                json!({"a": 1}),
            ),
            (
                "X-1",
                "JSON",
                false,
                json!({"result": {"message": {"a": 1}}}),
                json!(null),
            ),
        ] {
            let said = component(
                &vertex(id, kind, is_output),
                Some(&json!({"outputs": outputs})),
                true,
            );
            assert_eq!(said["content"], content, "{id} {kind}");
            assert_eq!(said["status"], "completed");
        }
        let saved = json!({"outputs": {"message": {"message": "/tmp/x"}}});
        let said = component(&vertex("SaveToFile-1", "Message", false), Some(&saved), false);
        assert_eq!(said["metadata"]["file_path"], "/tmp/x");
        assert_eq!(said["status"], "failed");
        assert_eq!(component(&vertex("A-1", "", false), None, true)["type"], "a");
    }

    #[test]
    fn the_answer_is_the_only_text() {
        let text = |content: Value| json!({"type": "message", "content": content});
        let of = |outputs: &[(&str, Value)], wanted: &[&str]| {
            let outputs = outputs
                .iter()
                .map(|(id, o)| ((*id).to_owned(), o.clone()))
                .collect();
            let wanted: Vec<String> = wanted.iter().map(|id| (*id).to_owned()).collect();
            resolved(&outputs, &wanted)
        };
        let both = [("a", text(json!("A"))), ("b", text(json!("")))];
        assert_eq!(of(&both, &[]).reason, "multiple");
        let one = of(&both, &["b"]);
        assert_eq!(
            (one.reason, one.text.as_deref(), one.source.as_deref()),
            ("single", Some(""), Some("b"))
        );
        assert_eq!(of(&[("a", text(Value::Null))], &[]).reason, "non_string");
        assert_eq!(
            of(&[("a", json!({"type": "data", "content": "x"}))], &[]).reason,
            "none"
        );
    }

    #[test]
    fn times_are_written_as_python_does() {
        let at = "2026-11-21T08:13:02.1Z".parse().unwrap();
        assert_eq!(timestamp(at), "2026-11-21T08:13:02.100000+00:00");
    }
}
