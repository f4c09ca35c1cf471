//! Edges of a plan: which output feeds which field, checked against the nodes and their types.

use serde_json::Value as Json;

use crate::component::Kind;
use crate::components::looping::ITEM;
use crate::document::{Object, RawEdge};
use crate::graph::NodeIdx;
use crate::node::{Node, Output, strings};
use crate::problem::{Problems, child};

/// A checked edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    pub(crate) source: NodeIdx,
    pub(crate) output: String,
    pub(crate) target: NodeIdx,
    pub(crate) field: String,
}

/// An edge that ends a turn of a loop: it goes back to an output of the node that began it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Back {
    pub(crate) source: NodeIdx,
    pub(crate) target: NodeIdx,
    /// The output it goes back to.
    pub(crate) to: String,
}

/// An edge that was checked.
#[derive(Debug)]
pub(crate) enum Checked {
    Forward(Edge),
    Back(Back),
}

/// Checks one edge between two nodes that exist.
pub(crate) fn check(
    raw: &RawEdge,
    source: (NodeIdx, &Node),
    target: (NodeIdx, &Node),
    problems: &mut Problems,
) -> Option<Checked> {
    match raw.target_handle.get("fieldName").and_then(Json::as_str) {
        Some(field) => forward(raw, field, source, target, problems).map(Checked::Forward),
        None => back(raw, source, target, problems).map(Checked::Back),
    }
}

/// The output that an edge leaves from.
fn leaves<'n>(raw: &RawEdge, from: &'n Node, to: &Node, problems: &mut Problems) -> Option<&'n Output> {
    let (from_id, to_id) = (&from.info.id, &to.info.id);
    let Some(output_name) = output_name(raw, from) else {
        let detail = format!("the edge from {from_id} to {to_id} names no output");
        problems.push(child(&raw.source_place, "name"), Some(from_id), detail);
        return None;
    };
    let found = from.output(&output_name);
    if found.is_none() {
        let known = list(from.outputs.iter().map(|output| output.name.as_str()));
        let detail = format!("{from_id} has no output {output_name}; it has {known}");
        problems.push(child(&raw.source_place, "name"), Some(from_id), detail);
    }
    found
}

fn back(
    raw: &RawEdge,
    (source, from): (NodeIdx, &Node),
    (target, to): (NodeIdx, &Node),
    problems: &mut Problems,
) -> Option<Back> {
    let (from_id, to_id) = (&from.info.id, &to.info.id);
    let Some(name) = raw.target_handle.get("name").and_then(Json::as_str) else {
        let detail = format!("the edge from {from_id} to {to_id} names no field");
        problems.push(child(&raw.target_place, "fieldName"), Some(to_id), detail);
        return None;
    };
    let output = leaves(raw, from, to, problems)?;
    // Without outputs in the document, they are what the component has.
    let loops = to
        .output(name)
        .is_some_and(|output| output.loops || to.kind == Ok(Kind::Loop) && name == ITEM);
    if !loops {
        let detail = format!(
            "the edge from {from_id} goes back to the output {name} of {to_id}, which takes none: only a Loop's item does"
        );
        problems.push(child(&raw.target_place, "name"), Some(to_id), detail);
        return None;
    }
    let given = types_of(&raw.source_handle, "output_types").filter(|types| !types.is_empty());
    let given = given.unwrap_or_else(|| output.types.clone());
    let accepted = types_of(&raw.target_handle, "output_types").filter(|types| !types.is_empty());
    if accepted
        .as_ref()
        .is_some_and(|accepted| !compatible(&given, accepted))
    {
        let detail = format!(
            "{from_id} gives {} on {}, but {to_id} takes {} back in {name}",
            list(given.iter().map(String::as_str)),
            output.name,
            list(accepted.iter().flatten().map(String::as_str))
        );
        problems.push(raw.pointer.clone(), Some(to_id), detail);
        return None;
    }
    Some(Back {
        source,
        target,
        to: name.to_owned(),
    })
}

fn forward(
    raw: &RawEdge,
    field: &str,
    (source, from): (NodeIdx, &Node),
    (target, to): (NodeIdx, &Node),
    problems: &mut Problems,
) -> Option<Edge> {
    let (from_id, to_id) = (&from.info.id, &to.info.id);
    let output = leaves(raw, from, to, problems)?;
    let output_name = output.name.clone();
    let Some(declared) = to.fields.get(field) else {
        let known = list(
            to.fields
                .keys()
                .map(String::as_str)
                .filter(|name| *name != "code"),
        );
        let detail = format!("{to_id} has no field {field}; it has {known}");
        problems.push(child(&raw.target_place, "fieldName"), Some(to_id), detail);
        return None;
    };
    if declared.kind == "code" || field == "code" {
        let detail = format!("the edge from {from_id} goes into the code of {to_id}");
        problems.push(child(&raw.target_place, "fieldName"), Some(to_id), detail);
        return None;
    }
    let given = types_of(&raw.source_handle, "output_types").filter(|types| !types.is_empty());
    let given = given.unwrap_or_else(|| output.types.clone());
    let accepted = match raw.target_handle.contains_key("inputTypes") {
        true => types_of(&raw.target_handle, "inputTypes"),
        false => declared.input_types.clone(),
    };
    let kind = raw
        .target_handle
        .get("type")
        .and_then(Json::as_str)
        .unwrap_or(&declared.kind)
        .to_owned();
    if !fits(&given, accepted.as_deref(), &kind) {
        let wants = accepted
            .filter(|types| !types.is_empty())
            .unwrap_or_else(|| vec![kind]);
        let detail = format!(
            "{from_id} gives {} on {output_name}, but {to_id} takes {} in {field}",
            list(given.iter().map(String::as_str)),
            list(wants.iter().map(String::as_str))
        );
        problems.push(raw.pointer.clone(), Some(to_id), detail);
        return None;
    }
    Some(Edge {
        source,
        output: output_name,
        target,
        field: field.to_owned(),
    })
}

/// Older exports name no output when there is only one; those of a group prefix it with the inner node's id.
fn output_name(raw: &RawEdge, from: &Node) -> Option<String> {
    match raw.source_handle.get("name").and_then(Json::as_str) {
        Some(name) => Some(name.to_owned()),
        None => match from.outputs.as_slice() {
            [only] => Some(only.name.clone()),
            _ => None,
        },
    }
}

fn types_of(handle: &Object, key: &str) -> Option<Vec<String>> {
    handle
        .get(key)
        .and_then(Json::as_array)
        .map(|types| strings(types))
}

fn list<'t>(items: impl Iterator<Item = &'t str>) -> String {
    let items: Vec<&str> = items.take(12).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// Langflow's rule: a field without input types takes its own type; one with them takes either.
fn fits(given: &[String], accepted: Option<&[String]>, kind: &str) -> bool {
    let own = std::slice::from_ref(&kind);
    compatible(given, own) || accepted.is_some_and(|accepted| compatible(given, accepted))
}

/// Whether two type lists meet. `Data` was renamed `JSON`, and `DataFrame` `Table`; exports have both.
fn compatible<A: AsRef<str>, B: AsRef<str>>(given: &[A], accepted: &[B]) -> bool {
    given.iter().any(|given| {
        accepted
            .iter()
            .any(|accepted| current(given.as_ref()) == current(accepted.as_ref()))
    })
}

fn current(name: &str) -> &str {
    match name {
        "Data" => "JSON",
        "DataFrame" => "Table",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_meet_as_in_langflow() {
        for (given, accepted, kind, expected) in [
            (vec!["Message"], Some(vec!["Message"]), "str", true),
            (vec!["Message"], Some(vec!["Data"]), "str", false),
            (vec!["Data"], Some(vec!["JSON"]), "other", true),
            (vec!["JSON"], Some(vec!["Data"]), "other", true),
            (vec!["DataFrame"], Some(vec!["Table"]), "other", true),
            (vec!["DataFrame"], Some(vec!["Data"]), "other", false),
            (vec!["LanguageModel"], Some(vec![]), "str", false),
            (vec!["str"], None, "str", true),
            (vec!["Message"], None, "str", false),
            (vec!["Message", "Data"], Some(vec!["JSON"]), "other", true),
            (vec![], Some(vec!["Message"]), "str", false),
        ] {
            let owned = |types: &[&str]| types.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
            let accepted = accepted.map(|types| owned(&types));
            assert_eq!(
                fits(&owned(&given), accepted.as_deref(), kind),
                expected,
                "{given:?} {accepted:?} {kind}"
            );
        }
    }
}
