//! Group nodes: a node that holds a whole flow is replaced by that flow's nodes.
//!
//! A group's template fields and outputs are proxies of fields and outputs inside it. Edges and values of the group
//! go to what the proxies name. Outermost groups first; one inside another is met later as an ordinary group.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value as Json, json};

use crate::document::{Object, RawEdge, RawFlow, RawNode, parse_edges, parse_nodes};
use crate::problem::{Problems, child};

/// For each group, by id and by display name: which inner node's field a field of it stands for.
pub(crate) type Aliases = HashMap<String, BTreeMap<String, (String, String)>>;

/// Edges for each node that the limit allows.
const EDGES_PER_NODE: usize = 16;

/// Flattens all groups in place. Stops early, with a problem, when there are more nodes or groups than `max_nodes`, or
/// more than [`EDGES_PER_NODE`] edges for each node allowed: the work is bounded before it is done.
pub(crate) fn flatten(flow: &mut RawFlow, max_nodes: usize, problems: &mut Problems) -> Aliases {
    let mut aliases = Aliases::new();
    let mut groups = 0;
    let max_edges = max_nodes.saturating_mul(EDGES_PER_NODE);
    // Every group is removed when it is expanded and what it holds is nested deeper, so this ends.
    loop {
        if flow.nodes.len() > max_nodes || flow.edges.len() > max_edges || groups > max_nodes {
            let (nodes, edges) = (flow.nodes.len(), flow.edges.len());
            let detail = format!(
                "too large: {nodes} nodes and {edges} edges so far; a flow may have {max_nodes} nodes, groups \
                 included, and {max_edges} edges"
            );
            problems.push("", None, detail);
            return aliases;
        }
        let Some(position) = flow.nodes.iter().position(|node| node.body.contains_key("flow")) else {
            return aliases;
        };
        groups += 1;
        let mut group = flow.nodes.remove(position);
        let inner = group.body.remove("flow");
        if inner.as_ref().is_none_or(Json::is_null) {
            flow.nodes.insert(position, group);
            continue;
        }
        expand(flow, position, &mut group, inner, problems, &mut aliases);
    }
}

fn expand(
    flow: &mut RawFlow,
    position: usize,
    group: &mut RawNode,
    inner: Option<Json>,
    problems: &mut Problems,
    aliases: &mut Aliases,
) {
    let pointer = format!("{}/data/node/flow/data", group.pointer);
    let Some(Json::Object(mut data)) = inner.and_then(|mut inner| inner.get_mut("data").map(Json::take))
    else {
        problems.push(
            pointer,
            Some(&group.id),
            "a group must hold a flow with nodes and edges",
        );
        return;
    };
    let mut nodes = parse_nodes(data.remove("nodes"), &child(&pointer, "nodes"), problems);
    let edges = parse_edges(data.remove("edges"), &child(&pointer, "edges"), problems);
    let followed: HashSet<&str> = edges.iter().map(|edge| edge.source.as_str()).collect();
    let inside = Inside {
        by_id: nodes.iter().map(|node| (node.id.as_str(), node)).collect(),
        last: nodes.iter().find(|node| !followed.contains(node.id.as_str())),
    };
    for edge in &mut flow.edges {
        if edge.target == group.id {
            redirect_target(edge, group, &inside);
        }
        if edge.source == group.id && !redirect_source(edge, group, &inside) {
            let detail = format!(
                "cannot tell which node inside the group {} this edge leaves from",
                group.id
            );
            problems.push(edge.pointer.clone(), Some(&group.id), detail);
        }
    }
    let fields = push_values(group, &mut nodes);
    aliases.insert(group.display_name().to_owned(), fields.clone());
    aliases.insert(group.id.clone(), fields);
    flow.nodes.splice(position..position, nodes);
    flow.edges.extend(edges);
}

/// What a group holds, for looking things up.
struct Inside<'n> {
    by_id: HashMap<&'n str, &'n RawNode>,
    /// The first node that nothing inside follows.
    last: Option<&'n RawNode>,
}

/// `{"id": .., "field": ..}` of a field or handle.
fn proxy_of(holder: Option<&Object>) -> Option<(String, String)> {
    let proxy = holder?.get("proxy")?.as_object()?;
    Some((
        proxy.get("id")?.as_str()?.to_owned(),
        proxy.get("field")?.as_str()?.to_owned(),
    ))
}

fn field<'n>(node: &'n RawNode, name: &str) -> Option<&'n Object> {
    node.template()?.get(name)?.as_object()
}

fn redirect_target(edge: &mut RawEdge, group: &RawNode, inside: &Inside<'_>) {
    let named = edge
        .target_handle
        .get("fieldName")
        .and_then(Json::as_str)
        .and_then(|name| field(group, name));
    let Some((id, name)) = proxy_of(Some(&edge.target_handle)).or_else(|| proxy_of(named)) else {
        return;
    };
    edge.target_handle.remove("proxy");
    // The proxy may name a field of a group inside this group: keep following when that one is expanded.
    let next = inside
        .by_id
        .get(id.as_str())
        .and_then(|node| proxy_of(field(node, &name)));
    if let Some((id, field)) = next {
        edge.target_handle
            .insert("proxy".to_owned(), json!({"id": id, "field": field}));
    }
    edge.target_handle
        .insert("fieldName".to_owned(), Json::String(name));
    edge.target_handle
        .insert("id".to_owned(), Json::String(id.clone()));
    edge.target = id;
}

fn redirect_source(edge: &mut RawEdge, group: &RawNode, inside: &Inside<'_>) -> bool {
    let name = edge
        .source_handle
        .get("name")
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some((id, output)) = output_proxy(group, &name, inside) else {
        return false;
    };
    edge.source_handle.insert("name".to_owned(), Json::String(output));
    edge.source_handle
        .insert("id".to_owned(), Json::String(id.clone()));
    edge.source = id;
    true
}

/// Which inner output a group's output is: as its proxy says, else by a name `{node id}_{output}`, else that name's
/// output of the first node inside that nothing follows.
fn output_proxy(group: &RawNode, name: &str, inside: &Inside<'_>) -> Option<(String, String)> {
    let outputs = group.body.get("outputs").and_then(Json::as_array);
    let declared = outputs
        .into_iter()
        .flatten()
        .find(|o| o.get("name").and_then(Json::as_str) == Some(name));
    if let Some(proxy) = declared
        .and_then(|output| output.get("proxy"))
        .and_then(Json::as_object)
    {
        let output = proxy
            .get("name")
            .or_else(|| proxy.get("field"))
            .and_then(Json::as_str);
        if let (Some(id), Some(output)) = (proxy.get("id").and_then(Json::as_str), output) {
            return Some((id.to_owned(), output.to_owned()));
        }
    }
    // Ids and outputs may have underscores themselves: the longest id counts.
    for (end, _) in name.rmatch_indices('_').take(32) {
        if let Some(node) = inside.by_id.get(&name[..end]) {
            return Some((node.id.clone(), name[end + 1..].to_owned()));
        }
    }
    let last = inside.last?;
    Some((
        last.id.clone(),
        name.split_once('_').map_or(name, |(_, output)| output).to_owned(),
    ))
}

/// Values set on the group reach the fields they stand for. Returns what stands for what.
fn push_values(group: &RawNode, nodes: &mut [RawNode]) -> BTreeMap<String, (String, String)> {
    let mut fields = BTreeMap::new();
    for (name, outer) in group.template().into_iter().flatten() {
        let Some((id, inner_name)) = proxy_of(outer.as_object()) else {
            continue;
        };
        let Some(node) = nodes.iter_mut().find(|node| node.id == id) else {
            continue;
        };
        let template = node.body.get_mut("template").and_then(Json::as_object_mut);
        let inner = template
            .and_then(|t| t.get_mut(&inner_name))
            .and_then(Json::as_object_mut);
        let (Some(inner), Some(outer)) = (inner, outer.as_object()) else {
            continue;
        };
        // Code stays what the inner node says: a group must not smuggle code past the check of that node.
        if inner.get("type").and_then(Json::as_str) != Some("code") && inner_name != "code" {
            for key in ["value", "load_from_db", "file_path"] {
                if let Some(value) = outer.get(key) {
                    inner.insert(key.to_owned(), value.clone());
                }
            }
        }
        fields.insert(name.clone(), (id, inner_name));
    }
    fields
}
