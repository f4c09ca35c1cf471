//! Tweaks: values a request sets on nodes for one run.
//!
//! Keys are node ids or display names with an object of fields; a key with a scalar sets that field on every node
//! that has it. Code, and fields that become code or a connection, keep what the flow's author wrote. All refusals are
//! found before anything is applied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::graph::NodeIdx;
use crate::node::Field;
use crate::plan::Plan;
use crate::problem::{Problems, child};
use crate::request::RequestError;

/// Changed fields, by node.
pub(crate) type Overrides = BTreeMap<NodeIdx, BTreeMap<String, Field>>;

/// Fields that Langflow components execute as code, or that widen what code may do.
const CODE_FIELDS: [&str; 7] = [
    "allow_dangerous_code",
    "code",
    "filter_instruction",
    "function_code",
    "global_imports",
    "python_code",
    "tool_code",
];

/// Where a caller could redirect a connection or credentials that the author stored.
const CONNECTION_FIELDS: [(&str, &str); 3] = [
    ("SQLComponent", "database_url"),
    ("SQLComponent", "query"),
    ("BingSearchAPI", "bing_search_url"),
];

/// One assignment, resolved to a node's field.
struct Assignment<'t> {
    node: NodeIdx,
    field: String,
    value: &'t Json,
    pointer: String,
}

/// What the tweaks change, or why they are refused.
pub(crate) fn apply(plan: &Plan, tweaks: &Json) -> Result<Overrides, RequestError> {
    let assignments = assignments(plan, tweaks)?;
    let mut refused = Problems::default();
    for tweak in assignments.iter().filter(|tweak| is_protected(plan, tweak)) {
        let node = &plan.nodes[tweak.node].info;
        let detail = format!(
            "{}.{} keeps the value set by the flow's author",
            node.id, tweak.field
        );
        refused.push(tweak.pointer.clone(), Some(&node.id), detail);
    }
    if !refused.is_empty() {
        return Err(RequestError {
            code: "TWEAKS_REFUSED",
            problems: refused.into_vec(),
        });
    }
    let mut overrides = Overrides::new();
    for tweak in assignments {
        let Some(original) = plan.nodes[tweak.node].fields.get(&tweak.field) else {
            continue;
        };
        let fields = overrides.entry(tweak.node).or_default();
        let field = fields.entry(tweak.field).or_insert_with(|| original.clone());
        assign(field, tweak.value);
    }
    Ok(overrides)
}

/// Keys that nothing in the flow answers to.
pub(crate) fn unknown(plan: &Plan, tweaks: &Json) -> Vec<String> {
    let mut unknown = Vec::new();
    let scalar_names: BTreeSet<&str> = plan
        .nodes
        .iter()
        .flat_map(|node| node.fields.keys().map(String::as_str))
        .collect();
    for (key, value) in tweaks.as_object().into_iter().flatten() {
        let Json::Object(fields) = value else {
            if !scalar_names.contains(key.as_str()) {
                unknown.push(format!("tweak {key}: no node has this field"));
            }
            continue;
        };
        let alias = plan.aliases.get(key);
        let node = plan.find(key);
        if node.is_none() && alias.is_none() {
            unknown.push(format!("tweak {key}: the flow has no such node"));
            continue;
        }
        let has = |field: &String| {
            node.is_some_and(|node| plan.nodes[node].fields.contains_key(field))
                || alias.is_some_and(|alias| alias.contains_key(field))
        };
        unknown.extend(
            fields
                .keys()
                .filter(|field| !has(field))
                .map(|field| format!("tweak {key}.{field}: the node has no such field")),
        );
    }
    unknown.truncate(crate::MAX_PROBLEMS);
    unknown
}

fn assignments<'t>(plan: &Plan, tweaks: &'t Json) -> Result<Vec<Assignment<'t>>, RequestError> {
    let tweaks: &'t Map<String, Json> = match tweaks {
        Json::Object(tweaks) => tweaks,
        Json::Null => return Ok(Vec::new()),
        _ => {
            let mut problems = Problems::default();
            problems.push(
                "/tweaks",
                None,
                "must be an object of node ids, display names or field names",
            );
            return Err(RequestError {
                code: "TWEAKS_INVALID",
                problems: problems.into_vec(),
            });
        }
    };
    // Scalars last: as in Langflow, what is set for all nodes goes over what is set for one.
    let (of_nodes, of_all): (Vec<_>, Vec<_>) = tweaks.iter().partition(|(_, value)| value.is_object());
    let mut found = Vec::new();
    for (key, fields) in of_nodes {
        let pointer = child("/tweaks", key);
        for (name, value) in fields.as_object().into_iter().flatten() {
            let pointer = child(&pointer, name);
            if let Some((node, field)) = target(plan, key, name) {
                found.push(Assignment {
                    node,
                    field,
                    value,
                    pointer,
                });
            }
        }
    }
    for (name, value) in of_all {
        let pointer = child("/tweaks", name);
        let has = |node: &NodeIdx| name == "code" || plan.nodes[*node].fields.contains_key(name);
        let nodes = (0..plan.nodes.len()).filter(has);
        found.extend(nodes.map(|node| Assignment {
            node,
            field: name.clone(),
            value,
            pointer: pointer.clone(),
        }));
    }
    Ok(found)
}

/// The field that a key and a name mean: of a node, or through a group's proxies.
fn target(plan: &Plan, key: &str, name: &str) -> Option<(NodeIdx, String)> {
    if let Some(node) = plan.find(key) {
        return Some((node, name.to_owned()));
    }
    let (mut id, mut field): (&String, &String) = pair(plan.aliases.get(key)?.get(name)?);
    // A group's field may stand for a field of a group inside it. Flattening bounds how deep that goes.
    for _ in 0..plan.aliases.len() {
        match plan.aliases.get(id).and_then(|inner| inner.get(field)) {
            Some(next) => (id, field) = pair(next),
            None => break,
        }
    }
    plan.by_id.get(id).map(|node| (*node, field.clone()))
}

fn pair((id, field): &(String, String)) -> (&String, &String) {
    (id, field)
}

fn is_protected(plan: &Plan, tweak: &Assignment<'_>) -> bool {
    let node = &plan.nodes[tweak.node];
    let redirects = |value: &Json| value.get("proxy").is_some();
    let kind = node.fields.get(&tweak.field).map(|field| field.kind.as_str());
    let connection =
        |(component, field): &(&str, &str)| node.info.component == *component && tweak.field == *field;
    CODE_FIELDS.contains(&tweak.field.as_str())
        || kind == Some("code")
        || CONNECTION_FIELDS.iter().any(connection)
        || (redirects(tweak.value) && !matches!(kind, Some("NestedDict" | "mcp" | "dict")))
}

/// Writes a tweak into a field as Langflow does. A plain value is never the name of a variable.
fn assign(field: &mut Field, value: &Json) {
    match (field.kind.as_str(), value) {
        ("NestedDict", Json::String(text)) => {
            field.value = serde_json::from_str(text).unwrap_or_else(|_| value.clone());
        }
        ("NestedDict" | "mcp", _) => field.value = value.clone(),
        ("dict", Json::Object(entries)) => {
            let wrapped = if entries.len() == 1 {
                entries.get("value")
            } else {
                None
            };
            field.value = wrapped.unwrap_or(value).clone();
        }
        ("file", Json::Object(entries)) => {
            if let Some(path) = entries.get("file_path").or_else(|| entries.values().next()) {
                field.file_path = path.clone();
            }
        }
        ("file", _) => field.file_path = value.clone(),
        (_, Json::Object(entries)) => {
            if let Some(value) = entries.get("value") {
                field.value = value.clone();
            }
            field.load_from_db = entries
                .get("load_from_db")
                .and_then(Json::as_bool)
                .unwrap_or(false);
        }
        _ => {
            field.value = value.clone();
            field.load_from_db = false;
        }
    }
}
