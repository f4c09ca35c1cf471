//! Whether a flow did the same here and there.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::case::{Case, Ended, Failed};

#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Same,
    SameError(String),
    Differs(String),
    /// lfx itself cannot run it here.
    NotComparable(String),
}

pub(crate) fn compared(case: &Case, ours: &Ended, theirs: &Ended) -> Verdict {
    match (&ours.outputs, &theirs.outputs) {
        (Ok(ours), Ok(theirs)) if !case.nodes && ours != theirs => {
            return Verdict::Differs(format!("outputs {}", difference(ours, theirs)));
        }
        (Ok(_), Ok(_)) if case.fails.is_some() => {
            return Verdict::Differs("neither fails, and both should".to_owned());
        }
        (Ok(_), Ok(_)) => {}
        (Err(ours), Err(theirs)) => return failures(case, ours, theirs),
        (Err(ours), Ok(_)) => return Verdict::Differs(format!("ours fails: {}", clip(&ours.text))),
        // It writes files by asking a Langflow server.
        (Ok(_), Err(theirs)) if theirs.text.contains("No module named 'langflow'") => {
            return Verdict::NotComparable(clip(&theirs.text));
        }
        (Ok(_), Err(theirs)) => return Verdict::Differs(format!("lfx fails: {}", clip(&theirs.text))),
    }
    if case.nodes
        && let Some(what) = nodes(ours, theirs)
    {
        return Verdict::Differs(what);
    }
    let (ours, theirs) = (normal(&ours.asked), normal(&theirs.asked));
    if ours.len() != theirs.len() {
        return Verdict::Differs(format!(
            "{} requests to the model, lfx makes {}",
            ours.len(),
            theirs.len()
        ));
    }
    match ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs) {
        Some(place) => {
            let what = difference(&ours[place], &theirs[place]);
            Verdict::Differs(format!("request {} {what}", place + 1))
        }
        None => Verdict::Same,
    }
}

/// Both fail: at the same node, for what sounds like the same reason.
fn failures(case: &Case, ours: &Failed, theirs: &Failed) -> Verdict {
    let both = format!("ours: {} / lfx: {}", clip(&ours.text), clip(&theirs.text));
    let common = ours.nodes.iter().any(|node| theirs.nodes.contains(node));
    // lfx names no node of a flow that it refuses before it runs.
    if !common && !theirs.nodes.is_empty() {
        let (ours, theirs) = (&ours.nodes, &theirs.nodes);
        return Verdict::Differs(format!("ours fails at {ours:?}, lfx at {theirs:?}: {both}"));
    }
    if let Some(fails) = &case.fails {
        let says = |text: &str| {
            let text = text.to_lowercase();
            fails.words.iter().all(|word| text.contains(&word.to_lowercase()))
        };
        let at = ours.nodes.iter().any(|node| node == fails.node);
        if !at || !says(&ours.text) || !says(&theirs.text) {
            return Verdict::Differs(format!("not as {fails:?}: {both}"));
        }
    }
    Verdict::SameError(both)
}

/// What nodes gave, and in which order they ran.
fn nodes(ours: &Ended, theirs: &Ended) -> Option<String> {
    let ran = |ended: &Ended| ended.order.iter().cloned().collect::<BTreeSet<_>>();
    if ran(ours) != ran(theirs) {
        return Some(format!(
            "nodes that run: {:?} / lfx {:?}",
            ours.order, theirs.order
        ));
    }
    ours.nodes.iter().find_map(|(id, values)| {
        let theirs = theirs.nodes.get(id).and_then(Json::as_object);
        let known = |name: &String| {
            theirs
                .and_then(|theirs| theirs.get(name))
                .cloned()
                .unwrap_or_default()
        };
        let mut values = values.as_object().into_iter().flatten();
        let (name, value) = values.find(|(name, value)| known(name) != **value)?;
        Some(format!("node {id} {name}: {}", difference(value, &known(name))))
    })
}

/// Requests without what is chance: lfx keeps an agent's tools in a set, and what runs at once is asked in any order.
fn normal(asked: &[Json]) -> Vec<Json> {
    let mut asked = asked.to_vec();
    for body in asked.iter_mut().filter_map(Json::as_object_mut) {
        // A language model streams only when its caller does; here it always does, so that a run's tokens can be followed.
        body.shift_remove("stream");
        body.shift_remove("stream_options");
        if let Some(tools) = body.get_mut("tools").and_then(Json::as_array_mut) {
            tools.sort_by_key(|tool| tool["function"]["name"].to_string());
        }
    }
    asked.sort_by_key(|body| (body["messages"].to_string(), body.to_string()));
    asked
}

/// Where two values differ first.
pub(crate) fn difference(ours: &Json, theirs: &Json) -> String {
    fn walk(ours: &Json, theirs: &Json, path: &str) -> Option<String> {
        match (ours, theirs) {
            _ if ours == theirs => None,
            (Json::Object(a), Json::Object(b)) => {
                let keys = a.keys().chain(b.keys());
                keys.filter_map(|key| walk(&ours[key], &theirs[key], &format!("{path}/{key}")))
                    .next()
            }
            (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
                let pairs = a.iter().zip(b).enumerate();
                pairs
                    .filter_map(|(n, (a, b))| walk(a, b, &format!("{path}/{n}")))
                    .next()
            }
            (Json::String(a), Json::String(b)) => {
                let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
                let from = same.saturating_sub(40);
                let part = |text: &str| text.chars().skip(from).take(160).collect::<String>();
                Some(format!("{path} at {same}: {:?} / lfx {:?}", part(a), part(b)))
            }
            _ => Some(format!(
                "{path}: {} / lfx {}",
                clip(&ours.to_string()),
                clip(&theirs.to_string())
            )),
        }
    }
    walk(ours, theirs, "").unwrap_or_default()
}

pub(crate) fn clip(text: &str) -> String {
    text.chars().take(400).collect::<String>().replace('\n', " ")
}
