//! A flow document as nodes and edges, before anything is known about components.
//!
//! Owns the limits on what is parsed at all (bytes, nesting), the shapes an export comes in, and Langflow's edge
//! handles, which stand in `edge.data` or, in older exports, as JSON text whose quotes are replaced by `œ`.

use serde_json::{Map, Value as Json};

use crate::plan::CompileLimits;
use crate::problem::{Problems, child};

pub(crate) type Object = Map<String, Json>;

/// Ids stand in events, errors and checkpoints: long ones would multiply.
const MAX_ID: usize = 256;

/// A node with its place in the document.
#[derive(Debug, Clone)]
pub(crate) struct RawNode {
    pub(crate) id: String,
    pub(crate) pointer: String,
    /// `data.type`: the component's registry name.
    pub(crate) component: String,
    /// `data.node`.
    pub(crate) body: Object,
}

impl RawNode {
    pub(crate) fn display_name(&self) -> &str {
        let name = self
            .body
            .get("display_name")
            .and_then(Json::as_str)
            .filter(|name| !name.is_empty());
        name.unwrap_or_else(|| self.id.split('-').next().unwrap_or(&self.id))
    }

    pub(crate) fn template(&self) -> Option<&Object> {
        self.body.get("template").and_then(Json::as_object)
    }
}

/// An edge whose handles are objects; whether they name anything that exists is checked later.
#[derive(Debug, Clone)]
pub(crate) struct RawEdge {
    pub(crate) pointer: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) source_handle: Object,
    pub(crate) target_handle: Object,
    /// Where the handles stand: in the edge's data, or beside it.
    pub(crate) source_place: String,
    pub(crate) target_place: String,
}

/// A document's content.
#[derive(Debug, Default)]
pub(crate) struct RawFlow {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) endpoint_name: Option<String>,
    pub(crate) nodes: Vec<RawNode>,
    pub(crate) edges: Vec<RawEdge>,
}

/// Parses bytes. `None` if nothing can be made of them; `problems` then says why.
pub(crate) fn parse(bytes: &[u8], limits: &CompileLimits, problems: &mut Problems) -> Option<RawFlow> {
    if bytes.len() > limits.bytes {
        let detail = format!(
            "the document has {} bytes; a flow may have {} at most",
            bytes.len(),
            limits.bytes
        );
        problems.push("", None, detail);
        return None;
    }
    // Editors on Windows write a byte order mark, which JSON does not know.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if deeper_than(bytes, limits.depth) {
        problems.push(
            "",
            None,
            format!("the document is nested deeper than {} levels", limits.depth),
        );
        return None;
    }
    let document = match serde_json::from_slice::<Json>(bytes) {
        Ok(document) => document,
        Err(error) => {
            problems.push("", None, format!("not valid JSON: {error}"));
            return None;
        }
    };
    let Json::Object(mut document) = document else {
        problems.push(
            "",
            None,
            "not a flow: expected a JSON object as Langflow exports it",
        );
        return None;
    };
    if document.contains_key("flows") && !document.contains_key("data") {
        problems.push(
            "/flows",
            None,
            "this export holds several flows: submit them one by one",
        );
        return None;
    }
    let text = |key: &str| {
        document
            .get(key)
            .and_then(Json::as_str)
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
    };
    let mut flow = RawFlow {
        id: text("id"),
        name: text("name"),
        endpoint_name: text("endpoint_name"),
        ..RawFlow::default()
    };
    let (pointer, mut graph) = match document.remove("data") {
        Some(Json::Object(data)) => ("/data", data),
        Some(_) => {
            problems.push("/data", None, "must be an object with nodes and edges");
            return None;
        }
        // The bare form `{nodes, edges}` is what Langflow's own API takes as a flow's data.
        None => ("", document),
    };
    let nodes = graph.remove("nodes");
    if nodes.is_none() {
        problems.push(
            child(pointer, "nodes"),
            None,
            "missing: a flow is an object with data.nodes and data.edges",
        );
        return None;
    }
    flow.nodes = parse_nodes(nodes, &child(pointer, "nodes"), problems);
    flow.edges = parse_edges(graph.remove("edges"), &child(pointer, "edges"), problems);
    if flow.nodes.is_empty() && problems.is_empty() {
        problems.push(child(pointer, "nodes"), None, "the flow has no nodes");
    }
    Some(flow)
}

/// Whether JSON text nests deeper than `limit`, without parsing it: brackets outside strings are counted.
fn deeper_than(bytes: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_string = false,
            (true, _) => {}
            (false, b'"') => in_string = true,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            (false, _) => {}
        }
    }
    false
}

/// Nodes of a flow or of a group; notes are dropped.
pub(crate) fn parse_nodes(nodes: Option<Json>, pointer: &str, problems: &mut Problems) -> Vec<RawNode> {
    let Some(Json::Array(nodes)) = nodes else {
        problems.push(pointer, None, "must be an array of nodes");
        return Vec::new();
    };
    let indexed = nodes.into_iter().enumerate();
    indexed
        .filter_map(|(i, node)| parse_node(node, child(pointer, &i.to_string()), problems))
        .collect()
}

fn parse_node(node: Json, pointer: String, problems: &mut Problems) -> Option<RawNode> {
    let Json::Object(mut node) = node else {
        problems.push(pointer, None, "a node must be an object");
        return None;
    };
    if matches!(node.get("type").and_then(Json::as_str), Some("noteNode" | "note")) {
        return None;
    }
    let data = node.remove("data");
    let id = match (node.get("id"), data.as_ref().and_then(|data| data.get("id"))) {
        (Some(Json::String(id)), _) | (None, Some(Json::String(id))) if !id.is_empty() => id.clone(),
        _ => {
            problems.push(child(&pointer, "id"), None, "a node needs an id, as text");
            return None;
        }
    };
    if id.len() > MAX_ID {
        problems.push(
            child(&pointer, "id"),
            None,
            format!("an id may have {MAX_ID} bytes at most"),
        );
        return None;
    }
    let data_pointer = child(&pointer, "data");
    let Some(Json::Object(mut data)) = data else {
        problems.push(
            data_pointer,
            Some(&id),
            "missing: a node's data holds its type and its template",
        );
        return None;
    };
    let component = match data.remove("type") {
        Some(Json::String(component)) if !component.is_empty() => component,
        _ => {
            problems.push(
                child(&data_pointer, "type"),
                Some(&id),
                "missing: the name of the component",
            );
            return None;
        }
    };
    let Some(Json::Object(body)) = data.remove("node") else {
        let detail = "missing: a node's data.node holds its template and outputs";
        problems.push(child(&data_pointer, "node"), Some(&id), detail);
        return None;
    };
    if !body.get("template").is_some_and(Json::is_object) {
        let detail = "missing: an object with the component's fields";
        problems.push(format!("{data_pointer}/node/template"), Some(&id), detail);
        return None;
    }
    Some(RawNode {
        id,
        pointer,
        component,
        body,
    })
}

/// Edges of a flow or of a group. None at all is a flow without edges.
pub(crate) fn parse_edges(edges: Option<Json>, pointer: &str, problems: &mut Problems) -> Vec<RawEdge> {
    let edges = match edges {
        Some(Json::Array(edges)) => edges,
        None | Some(Json::Null) => return Vec::new(),
        Some(_) => {
            problems.push(pointer, None, "must be an array of edges");
            return Vec::new();
        }
    };
    let indexed = edges.into_iter().enumerate();
    indexed
        .filter_map(|(i, edge)| parse_edge(edge, child(pointer, &i.to_string()), problems))
        .collect()
}

fn parse_edge(edge: Json, pointer: String, problems: &mut Problems) -> Option<RawEdge> {
    let Json::Object(mut edge) = edge else {
        problems.push(pointer, None, "an edge must be an object");
        return None;
    };
    let mut end = |key: &str, problems: &mut Problems| match edge.remove(key) {
        Some(Json::String(id)) if !id.is_empty() => Some(id),
        _ => {
            problems.push(child(&pointer, key), None, "missing: the id of a node");
            None
        }
    };
    let (source, target) = (end("source", problems), end("target", problems));
    let (source, target) = (source?, target?);
    let mut data = match edge.remove("data") {
        Some(Json::Object(data)) => data,
        _ => Object::new(),
    };
    let mut side = |key: &str, problems: &mut Problems| {
        let (handle, place) = match data.remove(key) {
            Some(handle) => (Some(handle), format!("{pointer}/data/{key}")),
            None => (edge.remove(key), child(&pointer, key)),
        };
        let parsed = handle.and_then(parse_handle);
        if parsed.is_none() {
            problems.push(
                place.clone(),
                None,
                format!("the edge from {source} to {target} has no readable handle here"),
            );
        }
        parsed.map(|handle| (handle, place))
    };
    let (source_side, target_side) = (side("sourceHandle", problems), side("targetHandle", problems));
    let ((source_handle, source_place), (target_handle, target_place)) = (source_side?, target_side?);
    Some(RawEdge {
        source_handle,
        target_handle,
        source_place,
        target_place,
        pointer,
        source,
        target,
    })
}

/// A handle as an object, or as text with `œ` for the quote.
fn parse_handle(handle: Json) -> Option<Object> {
    match handle {
        Json::Object(handle) => Some(handle),
        Json::String(text) => match serde_json::from_str(&text.replace('œ', "\"")) {
            Ok(Json::Object(handle)) => Some(handle),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert!(!deeper_than(br#"{"a": "[[[[[["}"#, 1));
        assert!(!deeper_than(br#"{"a\"[[": [1], "b": [2]}"#, 2));
        assert!(deeper_than(b"[[[1]]]", 2));
        assert!(!deeper_than(b"]]][[", 2));
    }

    #[test]
    fn handles_are_objects_or_text() {
        let handle = json!({"fieldName": "a", "id": "x"});
        let parsed = parse_handle(json!("{œfieldNameœ: œaœ, œidœ:œxœ}")).map(Json::Object);
        assert_eq!(parsed, Some(handle.clone()));
        assert_eq!(parse_handle(handle.clone()).map(Json::Object), Some(handle));
        for bad in [
            json!("{œa"),
            json!("a|b|c"),
            json!(3),
            json!(null),
            json!("[œaœ]"),
        ] {
            assert_eq!(parse_handle(bad), None);
        }
    }

    #[test]
    fn too_large_and_too_deep_are_refused_before_parsing() {
        let limits = CompileLimits {
            bytes: 100,
            depth: 8,
            ..CompileLimits::default()
        };
        for (bytes, word) in [(vec![b' '; 101], "bytes"), (vec![b'['; 100], "nested")] {
            let mut problems = Problems::default();
            assert!(parse(&bytes, &limits, &mut problems).is_none());
            assert!(problems.into_vec()[0].detail.contains(word));
        }
    }
}
