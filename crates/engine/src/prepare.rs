//! One run's view of a plan: tweaks, input and session applied, and the parameters of each node when its turn comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::compile::Body;
use crate::component::{NodeCall, NodeError, NodeOutput, Param, Params};
use crate::graph::NodeIdx;
use crate::node::Field;
use crate::params;
use crate::plan::{EngineKind, Plan};
use crate::problem::{Problems, child};
use crate::request::{InputType, OutputType, Request, RequestError};
use crate::run::Environment;
use crate::tweak::{self, Overrides};
use crate::value::{Message, Value};
use crate::variables;

const INPUT_FIELD: &str = "input_value";
const SESSION_FIELD: &str = "session_id";

/// A request that the plan accepts.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) session_id: String,
    /// Nodes whose values are the run's output, in document order.
    pub(crate) outputs: Vec<NodeIdx>,
    pub(crate) input: Option<String>,
    receivers: Vec<NodeIdx>,
    overrides: Overrides,
    /// Parameters of the nodes that have overrides.
    params: BTreeMap<NodeIdx, Arc<BTreeMap<String, Param>>>,
}

impl Prepared {
    /// Refuses what the flow cannot take. `run_id` is the session of a flow that has no id.
    pub(crate) fn new(plan: &Plan, request: &Request, run_id: &str) -> Result<Self, RequestError> {
        let input = input_text(&request.input)?;
        let receivers = match &input {
            Some(_) => receivers(plan, request.input_type),
            None => Vec::new(),
        };
        refuse_conflict(plan, request, &receivers)?;
        let overrides = tweak::apply(plan, &request.tweaks)?;
        let outputs = outputs(plan, request)?;
        let params = overrides
            .iter()
            .map(|(node, fields)| (*node, Arc::new(overridden(plan, *node, fields))))
            .collect();
        let session = request
            .session_id
            .as_deref()
            .filter(|session| !session.is_empty());
        let session_id = session.or(plan.flow_id.as_deref()).unwrap_or(run_id).to_owned();
        let prepared = Self {
            session_id,
            outputs,
            input,
            receivers,
            overrides,
            params,
        };
        // What a Python component requires, Python knows best.
        if plan.engine() == EngineKind::Native {
            prepared.refuse_missing(plan)?;
        }
        Ok(prepared)
    }

    fn refuse_missing(&self, plan: &Plan) -> Result<(), RequestError> {
        let mut problems = Problems::default();
        let suspects: BTreeSet<NodeIdx> = plan.missing.keys().chain(self.params.keys()).copied().collect();
        for node in suspects.into_iter().filter(|node| plan.involved[*node]) {
            let (info, fields) = (&plan.nodes[node].info, self.fields(plan, node));
            for name in params::missing(plan, node, &fields, self.base(plan, node)) {
                if name == INPUT_FIELD && self.receivers.contains(&node) {
                    continue;
                }
                let label = fields
                    .get(&name)
                    .map_or(name.as_str(), |field| field.label(&name))
                    .to_owned();
                let pointer = child(&child("/tweaks", &info.id), &name);
                let detail = format!(
                    "the required field {name} ({label}) of {} is empty: set it in the flow or with a tweak",
                    info.display_name
                );
                problems.push(pointer, Some(&info.id), detail);
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(RequestError {
                code: "FIELD_REQUIRED",
                problems: problems.into_vec(),
            }),
        }
    }

    /// A node's fields with its overrides.
    pub(crate) fn fields(&self, plan: &Plan, node: NodeIdx) -> BTreeMap<String, Field> {
        let mut fields = plan.nodes[node].fields.clone();
        fields.extend(self.overrides.get(&node).cloned().unwrap_or_default());
        fields
    }

    fn field<'a>(&'a self, plan: &'a Plan, node: NodeIdx, name: &str) -> Option<&'a Field> {
        let changed = self.overrides.get(&node).and_then(|fields| fields.get(name));
        changed.or_else(|| plan.nodes[node].fields.get(name))
    }

    fn base<'a>(&'a self, plan: &'a Plan, node: NodeIdx) -> &'a Arc<BTreeMap<String, Param>> {
        self.params.get(&node).unwrap_or(&plan.params[node])
    }

    /// What a node is called with, given what ended before it. `ended` answers `None` for a skipped node. In a turn of a
    /// loop, of which `body` is the plan, the request's input is not given, and a session that the flow names stays.
    pub(crate) fn call<'o>(
        &self,
        plan: &Plan,
        node: NodeIdx,
        body: Option<&Body>,
        variables: &Environment,
        ended: &dyn Fn(NodeIdx) -> Option<&'o NodeOutput>,
    ) -> Result<NodeCall, NodeError> {
        let mut params = Params::over(self.base(plan, node));
        let receives = body.is_none() && self.receivers.contains(&node);
        self.load_variables(plan, node, receives, variables, &mut params)?;
        if let Some(input) = self.input.as_ref().filter(|_| receives) {
            params.insert(INPUT_FIELD, Param::Field(Json::String(input.clone())));
        }
        let named = |param: &Param| matches!(param, Param::Field(Json::String(named)) if !named.is_empty());
        let keeps = |param: &Param| body.is_some() && named(param);
        if params.get(SESSION_FIELD).is_some_and(|param| !keeps(param)) {
            params.insert(SESSION_FIELD, Param::Field(Json::String(self.session_id.clone())));
        }
        let tools = plan.tool_edges(node).filter(|edge| ended(edge.source).is_some());
        let tools = tools
            .map(|edge| self.call(plan, edge.source, body, variables, ended))
            .collect::<Result<_, _>>()?;
        self.feed(plan, node, &mut params, ended)?;
        let found = &plan.nodes[node];
        let kind = found.kind.as_ref().map_err(|reason| NodeError {
            code: "flow_unsupported",
            message: reason.clone(),
            retryable: false,
        })?;
        Ok(NodeCall {
            node: Arc::clone(&found.info),
            origin: Arc::clone(&found.origin),
            kind: *kind,
            params,
            wanted: Arc::clone(
                body.and_then(|body| body.wanted.get(&node))
                    .unwrap_or(&plan.wanted[node]),
            ),
            methods: Arc::clone(&found.methods),
            near_chat: found.near_chat,
            tools,
        })
    }

    fn load_variables(
        &self,
        plan: &Plan,
        node: NodeIdx,
        receives: bool,
        variables: &Environment,
        params: &mut Params,
    ) -> Result<(), NodeError> {
        let overrides = self.overrides.get(&node);
        for (name, field) in &plan.nodes[node].fields {
            let field = overrides.and_then(|fields| fields.get(name)).unwrap_or(field);
            if !field.load_from_db {
                continue;
            }
            // A connected model brings its own credentials.
            if plan.is_fed(node, name) || (field.secret && plan.is_fed(node, "model")) {
                continue;
            }
            if name == INPUT_FIELD && receives {
                continue;
            }
            let Some(Param::Field(Json::String(variable))) = params.get(name) else {
                continue;
            };
            if variable.is_empty() {
                continue;
            }
            let Some(value) = variables(variable) else {
                let advice = if variables::is_setting(variable) {
                    "which no flow can read: it is a setting of the fleet; choose another name"
                } else {
                    "which is not set: pass it with the request's variables or set it in the worker's environment"
                };
                let message = format!("the field {name} takes the variable {variable}, {advice}");
                return Err(NodeError {
                    code: "variable_missing",
                    message,
                    retryable: false,
                });
            };
            params.insert(name.as_str(), Param::Field(Json::String(value)));
        }
        Ok(())
    }

    /// Values of edges go over those of fields. From a branch that was not taken, a list gets nothing, and a single
    /// field its template's own value.
    fn feed<'o>(
        &self,
        plan: &Plan,
        node: NodeIdx,
        params: &mut Params,
        ended: &dyn Fn(NodeIdx) -> Option<&'o NodeOutput>,
    ) -> Result<(), NodeError> {
        let mut fed: BTreeMap<&str, Param> = BTreeMap::new();
        for edge in plan.incoming[node].iter().map(|edge| &plan.edges[*edge]) {
            let field = self.field(plan, node, &edge.field);
            let value = match ended(edge.source) {
                Some(output) => Some(value_of(output, plan, edge.source, &edge.output)?),
                None => None,
            };
            if field.is_some_and(|field| field.list) {
                let entry = fed.entry(&edge.field).or_insert_with(|| Param::Edges(Vec::new()));
                if let (Param::Edges(values), Some(value)) = (entry, value) {
                    values.push(value);
                }
            } else if let Some(value) = value {
                fed.insert(&edge.field, Param::Edge(value));
            } else if !fed.contains_key(edge.field.as_str()) {
                let default = field.map(|field| field.value.clone()).unwrap_or_default();
                fed.insert(&edge.field, Param::Field(default));
            }
        }
        for (name, param) in fed {
            match param {
                Param::Field(Json::Null) => params.remove(name),
                param => params.insert(name, param),
            }
        }
        Ok(())
    }
}

/// The value of an output. One that was stopped, and still leads to a node that runs, is an empty message.
fn value_of(output: &NodeOutput, plan: &Plan, node: NodeIdx, name: &str) -> Result<Value, NodeError> {
    if let Some(value) = output.values.get(name) {
        return Ok(value.clone());
    }
    if output.stopped.iter().any(|stopped| stopped == name) {
        return Ok(Value::Message(Message::default()));
    }
    let message = format!("{} gave no value for its output {name}", plan.nodes[node].info.id);
    Err(NodeError {
        code: "engine_output_missing",
        message,
        retryable: false,
    })
}

fn overridden(plan: &Plan, node: NodeIdx, fields: &BTreeMap<String, Field>) -> BTreeMap<String, Param> {
    let mut params = BTreeMap::clone(&plan.params[node]);
    for (name, field) in fields {
        match params::resolve(name, field) {
            Some(value) => drop(params.insert(name.clone(), Param::Field(value))),
            None => drop(params.remove(name)),
        }
    }
    params
}

/// The input as text; `None` leaves the flow's own.
fn input_text(input: &Json) -> Result<Option<String>, RequestError> {
    let text = match input {
        Json::Null => return Ok(None),
        Json::String(text) => text.clone(),
        Json::Object(object) => match object.get(INPUT_FIELD) {
            Some(Json::String(text)) => text.clone(),
            Some(Json::Null) => return Ok(None),
            Some(value) => value.to_string(),
            None => input.to_string(),
        },
        _ => {
            let mut problems = Problems::default();
            problems.push("/input", None, "must be text or an object");
            return Err(RequestError {
                code: "INPUT_INVALID",
                problems: problems.into_vec(),
            });
        }
    };
    Ok(Some(text))
}

/// The nodes that take the request's input, unless an edge feeds them.
fn receivers(plan: &Plan, wanted: InputType) -> Vec<NodeIdx> {
    let takes = |node: NodeIdx| {
        let found = &plan.nodes[node];
        let matches = match wanted {
            InputType::Any => true,
            InputType::Chat => found.info.component == "ChatInput",
            InputType::Text => found.info.component == "TextInput",
        };
        found.is_input && matches && !plan.is_fed(node, INPUT_FIELD)
    };
    (0..plan.nodes.len()).filter(|node| takes(*node)).collect()
}

/// An input and a tweak of the same field contradict each other.
fn refuse_conflict(plan: &Plan, request: &Request, receivers: &[NodeIdx]) -> Result<(), RequestError> {
    if request.input_type == InputType::Any {
        return Ok(());
    }
    let mut problems = Problems::default();
    for (key, fields) in request.tweaks.as_object().into_iter().flatten() {
        let Some(node) = plan.find(key).filter(|node| receivers.contains(node)) else {
            continue;
        };
        if fields.get(INPUT_FIELD).is_some_and(|value| !value.is_null()) {
            let pointer = child(&child("/tweaks", key), INPUT_FIELD);
            problems.push(
                pointer,
                Some(&plan.nodes[node].info.id),
                "the request's input already sets this field",
            );
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(RequestError {
            code: "INPUT_CONFLICT",
            problems: problems.into_vec(),
        }),
    }
}

/// Which nodes' values are the output: the component asked for, else output components whose id has the type's name,
/// else all output components.
fn outputs(plan: &Plan, request: &Request) -> Result<Vec<NodeIdx>, RequestError> {
    let mut order: Vec<NodeIdx> = (0..plan.nodes.len()).collect();
    order.sort_by_key(|node| plan.nodes[*node].position);
    if let Some(wanted) = request
        .output_component
        .as_deref()
        .filter(|wanted| !wanted.is_empty())
    {
        let info = |node: &NodeIdx| &plan.nodes[*node].info;
        order.retain(|node| info(node).id == wanted || info(node).display_name == wanted);
        if order.is_empty() {
            let mut problems = Problems::default();
            problems.push(
                "/output_component",
                None,
                format!("the flow has no node {wanted}"),
            );
            return Err(RequestError {
                code: "OUTPUT_UNKNOWN",
                problems: problems.into_vec(),
            });
        }
        return Ok(order);
    }
    let word = match request.output_type {
        OutputType::Debug => return Ok(order),
        OutputType::Terminal => {
            order.retain(|node| plan.is_terminal(*node));
            return Ok(order);
        }
        OutputType::Any => "",
        OutputType::Chat => "chat",
        OutputType::Text => "text",
    };
    order.retain(|node| plan.nodes[*node].is_output);
    let of_type = |node: &NodeIdx| plan.nodes[*node].info.id.to_lowercase().contains(word);
    let typed: Vec<NodeIdx> = order.iter().copied().filter(of_type).collect();
    Ok(if typed.is_empty() { order } else { typed })
}
