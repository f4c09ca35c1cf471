//! What a loop runs: the nodes of its body, found as Langflow finds them, or why the loop needs Python.
//!
//! The body is what the item reaches, up to the node that goes back, and all that those nodes depend on. It runs once
//! for each item, with nodes of its own each time; what the body depends on runs in each turn, too. Outside of the turns
//! nothing that the item reaches runs.
//!
//! Left to Python is what Langflow does not settle by the shape of the flow alone: bodies that share nodes with what comes
//! after the loop, with another loop's item, or with the chat input, which has no input in a turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::component::Kind;
use crate::components::looping::{DONE, ITEM};
use crate::graph::NodeIdx;
use crate::node::native_outputs;
use crate::plan::Plan;

/// Loops of one flow: each is looked at beside every other.
const MOST_LOOPS: usize = 32;

/// Stands between a node's id and its turn.
const MARK: char = '#';

/// What a loop runs in each turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    /// Which nodes, but for those that only a loop inside runs.
    pub(crate) runs: Vec<bool>,
    /// Names of the outputs that are wanted of them.
    pub(crate) wanted: BTreeMap<NodeIdx, Arc<[String]>>,
    /// The node whose first output is the result of a turn, with the name of that output. A loop that nothing goes
    /// back to has no turns.
    pub(crate) end: Option<(NodeIdx, String)>,
}

/// What a loop's item leads to, and what that depends on.
struct Shape {
    /// Nodes that the item reaches.
    reached: Vec<bool>,
    /// Those up to the end of a turn, and what they depend on.
    body: Vec<bool>,
}

/// Finds the bodies of all loops and takes them out of what runs outside of loops. Returns the loops that need Python, and
/// why.
pub(super) fn settle(plan: &mut Plan, start: Option<NodeIdx>) -> BTreeMap<NodeIdx, String> {
    let is_loop = |node: &NodeIdx| plan.included[*node] && plan.nodes[*node].kind == Ok(Kind::Loop);
    let loops: Vec<NodeIdx> = (0..plan.nodes.len()).filter(is_loop).collect();
    let (mut shapes, mut refused) = (BTreeMap::new(), BTreeMap::new());
    if loops.len() > MOST_LOOPS {
        plan.involved = plan.included.clone();
        let reason = format!("more than {MOST_LOOPS} loops in a flow need the Python engine");
        return loops.into_iter().map(|node| (node, reason.clone())).collect();
    }
    for node in loops {
        let shape = shape(plan, node);
        match refusal(plan, node, &shape) {
            Some(reason) => {
                let name = &plan.nodes[node].info.display_name;
                refused.insert(node, format!("{name}: {reason}, which needs the Python engine"));
            }
            None => drop(shapes.insert(node, shape)),
        }
    }
    let cut = |runs: &mut Vec<bool>, inside: &[&Shape]| {
        for node in (0..runs.len()).rev() {
            let reached = inside.iter().any(|shape| shape.reached[node]);
            // What only bodies depend on runs there.
            let serves = inside.iter().any(|shape| shape.body[node])
                && Some(node) != start
                && !plan.nodes[node].is_output
                && {
                    let mut next = plan.graph.successors(node).iter().peekable();
                    next.peek().is_some() && next.all(|next| !runs[*next])
                };
            runs[node] &= !reached && !serves;
        }
    };
    let mut bodies = BTreeMap::new();
    for (node, shape) in &shapes {
        let mut runs = shape.body.clone();
        let inside: Vec<&Shape> = shapes
            .iter()
            .filter(|(inner, _)| *inner != node && shape.body[**inner])
            .map(|(_, shape)| shape)
            .collect();
        cut(&mut runs, &inside);
        let end = plan.backs.iter().find(|back| back.target == *node);
        let end = end.and_then(|back| {
            let first = plan.nodes[back.source].outputs.first()?;
            Some((back.source, first.name.clone()))
        });
        let wanted = wanted(plan, &shape.body);
        bodies.insert(*node, Body { runs, wanted, end });
    }
    let mut included = plan.included.clone();
    cut(&mut included, &shapes.values().collect::<Vec<_>>());
    let involved =
        |(node, included): (usize, &bool)| *included || bodies.values().any(|body| body.runs[node]);
    plan.involved = included.iter().enumerate().map(involved).collect();
    (plan.included, plan.bodies) = (included, bodies);
    refused
}

fn shape(plan: &Plan, node: NodeIdx) -> Shape {
    let outgoing = plan.graph.outgoing(node).iter();
    let first: Vec<NodeIdx> = outgoing
        .filter(|out| out.output == ITEM)
        .map(|out| out.target)
        .collect();
    let reached = plan.graph.reachable(first.iter().copied());
    let mut body = vec![false; plan.nodes.len()];
    let Some(end) = plan.backs.iter().find(|back| back.target == node) else {
        return Shape { reached, body };
    };
    let mut waiting = first;
    while let Some(next) = waiting.pop() {
        if !std::mem::replace(&mut body[next], true) && next != end.source {
            waiting.extend(plan.graph.successors(next));
        }
    }
    let mut waiting: Vec<NodeIdx> = (0..body.len()).filter(|node| body[*node]).collect();
    while let Some(next) = waiting.pop() {
        for before in plan.graph.predecessors(next) {
            if *before != node && !std::mem::replace(&mut body[*before], true) {
                waiting.push(*before);
            }
        }
    }
    Shape { reached, body }
}

/// The outputs that are wanted in a body: those that an edge inside takes, or all.
fn wanted(plan: &Plan, body: &[bool]) -> BTreeMap<NodeIdx, Arc<[String]>> {
    let of = |node: NodeIdx| -> Arc<[String]> {
        let found = &plan.nodes[node];
        let inside = plan.graph.outgoing(node).iter().filter(|out| body[out.target]);
        let used: BTreeSet<&str> = inside.map(|out| out.output.as_str()).collect();
        let native: &[&str] = match found.kind {
            Ok(_) if found.tool_mode => &[crate::components::TOOLSET],
            Ok(kind) => native_outputs(kind),
            Err(_) => &[],
        };
        let names = found.outputs.iter().map(|output| output.name.as_str());
        let names = names.filter(|name| match used.is_empty() {
            true => native.contains(name),
            false => used.contains(name),
        });
        names.map(str::to_owned).collect()
    };
    let inside = (0..body.len()).filter(|node| body[*node]);
    inside.map(|node| (node, of(node))).collect()
}

/// Why a loop needs Python.
fn refusal(plan: &Plan, node: NodeIdx, shape: &Shape) -> Option<String> {
    let found = &plan.nodes[node];
    if found.tool_mode {
        return Some("used as a tool".to_owned());
    }
    if let Some(marked) = plan.nodes.iter().find(|node| node.info.id.contains(MARK)) {
        return Some(format!("the id {} has a {MARK:?} in it", marked.info.id));
    }
    let is = |found: &NodeIdx, kind: Kind| plan.nodes[*found].kind == Ok(kind);
    let outgoing = plan.graph.outgoing(node).iter();
    let later = plan
        .graph
        .reachable(outgoing.filter(|out| out.output == DONE).map(|out| out.target));
    let inside = |mark: &[bool]| -> Vec<NodeIdx> { (0..mark.len()).filter(|node| mark[*node]).collect() };
    let reached = inside(&shape.reached);
    let name = |node: &NodeIdx| plan.nodes[*node].info.id.as_str();
    if let Some(shared) = reached.iter().find(|node| later[**node]) {
        return Some(format!("{} takes both its items and its result", name(shared)));
    }
    let mut backs = plan.backs.iter().filter(|back| back.target == node);
    let end = backs.next()?.source;
    if backs.next().is_some() {
        return Some("several nodes go back to it".to_owned());
    }
    if !shape.reached[end] {
        return Some(format!("{} goes back to it, but takes no item", name(&end)));
    }
    if let Some(reason) = end_refusal(plan, end) {
        return Some(reason);
    }
    let body = inside(&shape.body);
    if let Some(input) = body.iter().find(|node| is(node, Kind::ChatInput)) {
        return Some(format!("its body depends on the chat input {}", name(input)));
    }
    if let Some(other) = body
        .iter()
        .find(|node| is(node, Kind::Loop) && !shape.reached[**node])
    {
        return Some(format!("its body depends on the other loop {}", name(other)));
    }
    let inner = body.iter().filter(|node| is(node, Kind::Loop));
    let mut nested = false;
    for inner in inner {
        nested = true;
        if self::shape(plan, *inner).reached[end] {
            return Some(format!(
                "{} goes back to it, but the inner loop {} never lets it run",
                name(&end),
                name(inner)
            ));
        }
    }
    injected_refusal(plan, node).or_else(|| early_refusal(plan, node, shape, nested))
}

/// Outside of the turns Langflow runs what serves a body, too, and looks around from there: it may find a router that
/// stops the loop, or begin a loop before it has anything to go through.
fn early_refusal(plan: &Plan, node: NodeIdx, shape: &Shape, nested: bool) -> Option<String> {
    let is = |found: NodeIdx, kind: Kind| plan.nodes[found].kind == Ok(kind);
    let name = |node: NodeIdx| plan.nodes[node].info.id.as_str();
    let before = plan.graph.predecessors(node);
    if let Some(other) = before.iter().find(|before| is(**before, Kind::Loop)) {
        return Some(format!("the loop {} leads to it directly", name(*other)));
    }
    let inside = nested
        || (0..plan.nodes.len())
            .filter(|other| *other != node && is(*other, Kind::Loop))
            .any(|other| self::shape(plan, other).reached[node]);
    let serves = |found: &NodeIdx| shape.body[*found] && !shape.reached[*found];
    let mut serving = (0..plan.nodes.len()).filter(serves);
    match serving.next() {
        Some(first) if inside => Some(format!("loops in loops, and {} serves the body", name(first))),
        Some(first) => std::iter::once(first)
            .chain(serving)
            .find(|found| is(*found, Kind::ConditionalRouter))
            .map(|router| format!("the router {} serves its body", name(router))),
        None => None,
    }
}

/// What a turn gives is the first output of its end.
fn end_refusal(plan: &Plan, end: NodeIdx) -> Option<String> {
    let found = &plan.nodes[end];
    let kind = found.kind.as_ref().ok()?;
    let first = found.outputs.first()?;
    let given = native_outputs(*kind).contains(&first.name.as_str());
    let plain = |name: &String| matches!(name.as_str(), "Message" | "Data" | "JSON");
    let unfit = match kind {
        Kind::Loop | Kind::ConditionalRouter => true,
        _ => !given || found.tool_mode || first.types.is_empty() || !first.types.iter().all(plain),
    };
    unfit.then(|| {
        format!(
            "a turn ends in {}, whose first output is no text or data",
            found.info.id
        )
    })
}

/// The fields that take the item take nothing else.
fn injected_refusal(plan: &Plan, node: NodeIdx) -> Option<String> {
    for edge in plan
        .edges
        .iter()
        .filter(|edge| edge.source == node && edge.output == ITEM)
    {
        let others = plan.incoming[edge.target]
            .iter()
            .filter(|other| plan.edges[**other].field == edge.field);
        let list = plan.nodes[edge.target]
            .fields
            .get(&edge.field)
            .is_some_and(|field| field.list);
        if list || others.count() > 1 {
            return Some(format!(
                "{} of {} takes more than the item",
                edge.field, plan.nodes[edge.target].info.id
            ));
        }
    }
    None
}
