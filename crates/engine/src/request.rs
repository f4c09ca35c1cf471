//! What one run asks of a flow: input, tweaks, variables, and which outputs it wants back.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::problem::{self, Problem};

/// Which input components take the request's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    #[default]
    Chat,
    Text,
    Any,
}

/// Which components' results are the run's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    #[default]
    Chat,
    Text,
    Any,
    /// Every node that ran.
    Debug,
    /// Those that nothing follows: what Langflow's workflows answer with.
    Terminal,
}

/// One run's request. All fields have Langflow's defaults.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Text, an object (its `input_value`, or itself as JSON text), or null for none.
    pub input: Json,
    pub input_type: InputType,
    pub output_type: OutputType,
    /// Only this component's result, by id or display name.
    pub output_component: Option<String>,
    /// By node id or display name: objects of fields; scalars apply to every node that has such a field.
    pub tweaks: Json,
    pub session_id: Option<String>,
    /// Values for `load_from_db` fields and credentials; the environment is asked after them.
    pub variables: BTreeMap<String, String>,
    /// Set when the outputs are wanted as Langflow's API gives them: the id that messages name the flow by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub langflow_id: Option<String>,
    /// Set when the run is a workflow of Langflow's second API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Workflow>,
}

/// How a workflow of Langflow's second API was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    pub mode: WorkflowMode,
    /// Whether its events tell of each node, and not of the conversation only.
    pub graph_state: bool,
}

/// Who waits for a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowMode {
    Sync,
    Stream,
    Background,
}

impl WorkflowMode {
    pub const ALL: [Self; 3] = [Self::Sync, Self::Stream, Self::Background];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Stream => "stream",
            Self::Background => "background",
        }
    }
}

/// What a caller of Langflow's API asked beside input and tweaks. It travels with the run's input from the process that
/// took the call to the one that executes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LangflowCall {
    pub input_type: InputType,
    pub output_type: OutputType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_component: Option<String>,
    pub flow_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Workflow>,
}

impl Request {
    /// This request, made by way of Langflow's API.
    pub fn called_as(mut self, call: LangflowCall) -> Self {
        self.input_type = call.input_type;
        self.output_type = call.output_type;
        self.output_component = call.output_component;
        self.langflow_id = Some(call.flow_id);
        self.workflow = call.workflow;
        self
    }
}

/// A request that this flow refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestError {
    /// Stable: `TWEAKS_REFUSED`, `TWEAKS_INVALID`, `INPUT_INVALID`, `INPUT_CONFLICT`, `OUTPUT_UNKNOWN` or
    /// `FIELD_REQUIRED`.
    pub code: &'static str,
    /// Pointers are into the request.
    pub problems: Vec<Problem>,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        problem::display(&self.problems, f)
    }
}

impl std::error::Error for RequestError {}
