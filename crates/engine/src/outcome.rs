//! What a run returns: the values of its output nodes as plain JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::component::{NodeOutput, Usage};
use crate::graph::NodeIdx;
use crate::plan::Plan;
use crate::prepare::Prepared;
use crate::run::Outcome;
use crate::value::{Value, without_bytes};

/// Nodes that ran now, and nodes whose outputs an earlier attempt left.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) run: u32,
    pub(crate) reused: u32,
    /// Of the nodes that ran in loops, which are not among those that ended.
    pub(crate) usage: Usage,
}

pub(crate) fn collect(
    plan: &Plan,
    prepared: &Prepared,
    langflow: Option<Json>,
    ended: &[Option<Arc<NodeOutput>>],
    counts: Counts,
) -> Outcome {
    let value = |node: &NodeIdx| Some((*node, node_json(ended[*node].as_ref()?)));
    let values: Vec<(NodeIdx, Json)> = prepared.outputs.iter().filter_map(value).collect();
    let id = |node: NodeIdx| plan.nodes[node].info.id.clone();
    let outputs: BTreeMap<String, Json> = values
        .iter()
        .map(|(node, json)| (id(*node), json.clone()))
        .collect();
    let output = only(values.into_iter().map(|(_, json)| json).collect());
    let mut usage = counts.usage;
    ended.iter().flatten().for_each(|output| usage += output.usage);
    Outcome {
        output,
        outputs,
        langflow,
        usage,
        nodes_run: counts.run,
        nodes_reused: counts.reused,
        session_id: prepared.session_id.clone(),
    }
}

/// The only one, or all of them.
pub(crate) fn only(mut values: Vec<Json>) -> Json {
    match values.len() {
        0 => Json::Null,
        1 => values.remove(0),
        _ => Json::Array(values),
    }
}

/// A node's only value, or an object of its values by output name.
fn node_json(output: &NodeOutput) -> Json {
    let mut values = output.values.iter();
    match (values.next(), values.next()) {
        (None, _) => Json::Null,
        (Some((_, value)), None) => json(value),
        _ => Json::Object(
            output
                .values
                .iter()
                .map(|(name, value)| (name.clone(), json(value)))
                .collect(),
        ),
    }
}

fn json(value: &Value) -> Json {
    without_bytes(&written(value)).into_owned()
}

fn written(value: &Value) -> Json {
    match value {
        Value::Message(message) => Json::String(message.text.clone()),
        Value::Data(data) => Json::Object(data.clone()),
        Value::Table(rows) => Json::Array(
            rows.iter()
                .map(|row: &Map<_, _>| Json::Object(row.clone()))
                .collect(),
        ),
        Value::Json(json) => json.clone(),
    }
}
