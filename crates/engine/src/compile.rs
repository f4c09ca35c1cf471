//! From a document to a plan: nodes, checked edges, an order, what runs, and whether it runs natively.
//!
//! # What runs
//! The start is an input component whose id contains `webhook`, else one whose id contains `chat`. What it reaches
//! runs, and everything that depends on; without a start, everything runs. A component that serves only as a tool
//! and that nobody uses does not run.

mod chat;
mod loops;
mod warnings;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::component::Kind;
use crate::components::{TOOLSET, data_operations, is_tool, needs_python};
use crate::document::{self, RawEdge, RawNode};
use crate::edge::{self, Back, Checked, Edge};
use crate::graph::{Graph, NodeIdx};
use crate::group;
use crate::node::{Node, native_outputs};
use crate::params;
use crate::plan::{CompileLimits, Plan, TOOLS, Talks, Unsupported};
use crate::problem::{FlowError, Problems, child, clip};

pub(crate) use loops::Body;
use warnings::warnings;

/// Names listed in one warning or problem.
const NAMES: usize = 20;

/// Compiles a Langflow export. Refuses with every problem it finds, up to [`crate::MAX_PROBLEMS`].
pub fn compile(document: &[u8], limits: &CompileLimits) -> Result<Plan, FlowError> {
    let mut problems = Problems::default();
    let plan = plan(document, limits, &mut problems);
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(FlowError {
            problems: problems.into_vec(),
        }),
    }
}

fn plan(document: &[u8], limits: &CompileLimits, problems: &mut Problems) -> Option<Plan> {
    let mut flow = document::parse(document, limits, problems)?;
    let aliases = group::flatten(&mut flow, limits.nodes, problems);
    if problems.full() || flow.nodes.len() > limits.nodes {
        return None;
    }
    let nodes = build_nodes(flow.nodes, problems);
    let by_id: HashMap<String, NodeIdx> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.info.id.clone(), index))
        .collect();
    let edges = build_edges(&flow.edges, &nodes, &by_id, problems);
    let (nodes, edges, backs) = sort(nodes, edges, problems)?;
    if !problems.is_empty() {
        return None;
    }
    let mut plan = Plan {
        name: flow.name,
        endpoint_name: flow.endpoint_name,
        flow_id: flow.id,
        unsupported: Vec::new(),
        warnings: Vec::new(),
        graph: connect(nodes.len(), &edges),
        incoming: vec![Vec::new(); nodes.len()],
        wanted: Vec::with_capacity(nodes.len()),
        included: Vec::new(),
        involved: Vec::new(),
        backs,
        bodies: BTreeMap::new(),
        params: Vec::with_capacity(nodes.len()),
        missing: BTreeMap::new(),
        by_id: nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.info.id.clone(), index))
            .collect(),
        by_display_name: by_display_name(&nodes),
        aliases,
        talks: Talks::Never,
        nodes,
        edges,
    };
    for (index, edge) in plan.edges.iter().enumerate() {
        plan.incoming[edge.target].push(index);
    }
    let start = start(&plan);
    plan.included = included(&plan, start);
    let refused = loops::settle(&mut plan, start);
    finish(&mut plan, start, &refused);
    chat::settle(&mut plan, start);
    Some(plan)
}

fn build_nodes(raw: Vec<RawNode>, problems: &mut Problems) -> Vec<Node> {
    let mut seen = HashSet::new();
    let mut nodes = Vec::with_capacity(raw.len());
    for (position, raw) in raw.into_iter().enumerate() {
        if seen.insert(raw.id.clone()) {
            nodes.push(Node::new(raw, position));
        } else {
            problems.push(
                child(&raw.pointer, "id"),
                Some(&raw.id),
                "another node has the same id",
            );
        }
    }
    nodes
}

fn build_edges(
    raw: &[RawEdge],
    nodes: &[Node],
    by_id: &HashMap<String, NodeIdx>,
    problems: &mut Problems,
) -> (Vec<Edge>, Vec<Back>) {
    let mut edges: Vec<Edge> = Vec::with_capacity(raw.len());
    let mut backs: Vec<Back> = Vec::new();
    let (mut seen, mut seen_back) = (HashSet::new(), HashSet::new());
    for raw in raw {
        let end = |id: &String, key: &str, problems: &mut Problems| {
            let found = by_id.get(id).copied();
            if found.is_none() {
                problems.push(
                    child(&raw.pointer, key),
                    Some(id),
                    format!("there is no node {id}"),
                );
            }
            found
        };
        let (source, target) = (
            end(&raw.source, "source", problems),
            end(&raw.target, "target", problems),
        );
        let (Some(source), Some(target)) = (source, target) else {
            continue;
        };
        // Exports repeat edges at times; they are one.
        match edge::check(raw, (source, &nodes[source]), (target, &nodes[target]), problems) {
            Some(Checked::Forward(edge)) if seen.insert(edge.clone()) => edges.push(edge),
            Some(Checked::Back(back)) if seen_back.insert(back.clone()) => backs.push(back),
            _ => {}
        }
    }
    (edges, backs)
}

fn connect(nodes: usize, edges: &[Edge]) -> Graph {
    let mut graph = Graph::new(nodes);
    for edge in edges {
        graph.connect(edge.source, &edge.output, edge.target);
    }
    graph
}

/// Renumbers nodes in a topological order, or names the nodes of a cycle.
fn sort(
    nodes: Vec<Node>,
    (mut edges, mut backs): (Vec<Edge>, Vec<Back>),
    problems: &mut Problems,
) -> Option<(Vec<Node>, Vec<Edge>, Vec<Back>)> {
    let order = match connect(nodes.len(), &edges).topological() {
        Ok(order) => order,
        Err(cycle) => {
            let names: Vec<&str> = cycle
                .iter()
                .take(NAMES)
                .map(|node| nodes[*node].info.id.as_str())
                .collect();
            let first = cycle.first().map(|node| &nodes[*node]);
            let pointer = first.map(|node| node.pointer.clone()).unwrap_or_default();
            let detail = format!(
                "a cycle; only a Loop may go back, to its item: {}",
                names.join(" -> ")
            );
            problems.push(pointer, first.map(|node| node.info.id.as_str()), detail);
            return None;
        }
    };
    let mut renumbered = vec![0; nodes.len()];
    for (new, old) in order.iter().enumerate() {
        renumbered[*old] = new;
    }
    for edge in &mut edges {
        (edge.source, edge.target) = (renumbered[edge.source], renumbered[edge.target]);
    }
    for back in &mut backs {
        (back.source, back.target) = (renumbered[back.source], renumbered[back.target]);
    }
    let mut nodes: Vec<(usize, Node)> = nodes
        .into_iter()
        .enumerate()
        .map(|(i, n)| (renumbered[i], n))
        .collect();
    nodes.sort_by_key(|(new, _)| *new);
    let nodes = nodes.into_iter().map(|(_, node)| node).collect();
    Some((nodes, edges, backs))
}

fn by_display_name(nodes: &[Node]) -> HashMap<String, NodeIdx> {
    let mut order: Vec<NodeIdx> = (0..nodes.len()).collect();
    order.sort_by_key(|index| nodes[*index].position);
    order
        .into_iter()
        .map(|index| (nodes[index].info.display_name.clone(), index))
        .collect()
}

/// The start: the first input component, in document order, whose id has the word.
pub(crate) fn start(plan: &Plan) -> Option<NodeIdx> {
    let mut inputs: Vec<NodeIdx> = (0..plan.nodes.len())
        .filter(|n| plan.nodes[*n].is_input)
        .collect();
    inputs.sort_by_key(|index| plan.nodes[*index].position);
    let has = |index: &NodeIdx, word: &str| plan.nodes[*index].info.id.to_lowercase().contains(word);
    ["webhook", "chat"]
        .iter()
        .find_map(|word| inputs.iter().copied().find(|index| has(index, word)))
}

fn included(plan: &Plan, start: Option<NodeIdx>) -> Vec<bool> {
    let mut included = match start {
        Some(start) => {
            let mut graph = plan.graph.clone();
            for back in &plan.backs {
                graph.connect(back.source, "", back.target);
            }
            let reached = graph.reachable([start]);
            graph.ancestors((0..plan.nodes.len()).filter(|node| reached[*node]))
        }
        None => vec![true; plan.nodes.len()],
    };
    for (index, node) in plan.nodes.iter().enumerate() {
        if node.tool_mode && plan.graph.outgoing(index).is_empty() && start != Some(index) {
            included[index] = false;
        }
    }
    included
}

/// Everything that follows from nodes, edges and what runs.
fn finish(plan: &mut Plan, start: Option<NodeIdx>, refused_loops: &BTreeMap<NodeIdx, String>) {
    let mut used_otherwise = vec![false; plan.nodes.len()];
    for edge in &plan.edges {
        let is_agents = edge.field == TOOLS
            && plan.nodes[edge.target]
                .kind
                .as_ref()
                .is_ok_and(|kind| kind.is_agent());
        used_otherwise[edge.source] |= !is_agents;
    }
    for (index, used_otherwise) in used_otherwise.into_iter().enumerate() {
        let node = &plan.nodes[index];
        let used: BTreeSet<&str> = plan
            .graph
            .outgoing(index)
            .iter()
            .map(|out| out.output.as_str())
            .collect();
        let native: &[&str] = match node.kind {
            Ok(_) if node.tool_mode => &[TOOLSET],
            Ok(kind) => native_outputs(kind),
            Err(_) => &[],
        };
        let all = node.outputs.iter().map(|output| output.name.as_str());
        let wanted: Vec<String> = match used.is_empty() {
            true => all
                .filter(|name| native.contains(name))
                .map(str::to_owned)
                .collect(),
            false => all
                .filter(|name| used.contains(name))
                .map(str::to_owned)
                .collect(),
        };
        let refused = || {
            let fed = |field: &str| plan.is_fed(index, field);
            refused_loops
                .get(&index)
                .cloned()
                .or_else(|| crowded(plan, index))
                .or_else(|| refusal(node, &wanted, native, used_otherwise, &fed))
        };
        if let Some(reason) = plan.involved[index].then(refused).flatten() {
            plan.unsupported.push(Unsupported {
                node: node.info.id.clone(),
                display_name: node.info.display_name.clone(),
                component: node.info.component.clone(),
                reason,
            });
        }
        plan.wanted.push(wanted.into());
        let params = params::from_fields(&node.fields);
        plan.params.push(Arc::new(params));
    }
    // What a tool lacks, the model says.
    let asked = |index: &NodeIdx| plan.involved[*index] && !plan.nodes[*index].tool_mode;
    for index in (0..plan.nodes.len()).filter(asked).collect::<Vec<_>>() {
        let missing = params::missing(plan, index, &plan.nodes[index].fields, &plan.params[index]);
        if !missing.is_empty() {
            plan.missing.insert(index, missing);
        }
    }
    plan.warnings = warnings(plan, start);
}

/// Langflow refuses several edges where the node's operation takes one, even if only one of them gives something.
fn crowded(plan: &Plan, index: NodeIdx) -> Option<String> {
    let node = &plan.nodes[index];
    let edges = plan.incoming[index].iter().map(|edge| &plan.edges[*edge]);
    let count = edges.filter(|edge| edge.field == data_operations::INPUT).count();
    (node.kind == Ok(Kind::DataOperations) && count > 1 && data_operations::takes_one(&node.fields)).then(
        || {
            let name = &node.info.display_name;
            format!("{name}: several inputs for an operation of one, which needs the Python engine")
        },
    )
}

/// Why a node that runs cannot run natively.
fn refusal(
    node: &Node,
    wanted: &[String],
    native: &[&str],
    used_otherwise: bool,
    fed: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let kind = match &node.kind {
        Ok(kind) => *kind,
        Err(reason) => return Some(clip(reason.clone())),
    };
    let name = &node.info.display_name;
    if let Some(what) = needs_python(kind, &node.fields) {
        return Some(clip(format!("{name}: {what}, which needs the Python engine")));
    }
    if node.tool_mode {
        if !is_tool(kind) {
            return Some(format!("{name}: used as a tool, which needs the Python engine"));
        }
        let actions = node
            .fields
            .get("tools_metadata")
            .and_then(|field| field.value.as_array());
        if actions.into_iter().flatten().any(needs_approval) {
            return Some(format!(
                "{name}: a tool that asks for approval needs the Python engine"
            ));
        }
        if used_otherwise {
            return Some(format!(
                "{name}: only an Agent can use a tool without the Python engine"
            ));
        }
    }
    if let Some(reason) = chat::refusal(kind, node, fed) {
        return Some(reason);
    }
    let output = wanted.iter().find(|output| !native.contains(&output.as_str()))?;
    Some(clip(format!(
        "{name}: the output {output} is an object that only exists in Python"
    )))
}

fn needs_approval(action: &Json) -> bool {
    action["approval_actions"]
        .as_array()
        .is_some_and(|actions| !actions.is_empty())
}
