//! What a plan will do, but perhaps not as its author expects.

use std::collections::HashMap;

use super::NAMES;
use crate::component::Kind;
use crate::graph::NodeIdx;
use crate::plan::Plan;
use crate::problem::clip;

pub(super) fn warnings(plan: &Plan, start: Option<NodeIdx>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut idle: Vec<NodeIdx> = (0..plan.nodes.len())
        .filter(|node| !plan.involved[*node])
        .collect();
    idle.sort_by_key(|index| plan.nodes[*index].position);
    if !idle.is_empty() {
        let names: Vec<&str> = idle
            .iter()
            .take(NAMES)
            .map(|node| plan.nodes[*node].info.id.as_str())
            .collect();
        let more = if idle.len() > NAMES {
            format!(" and {} more", idle.len() - NAMES)
        } else {
            String::new()
        };
        let why = match start {
            Some(start) => format!(
                "not connected to {}, where the flow starts",
                plan.nodes[start].info.id
            ),
            None => "they serve as tools, and no node uses them".to_owned(),
        };
        warnings.push(format!(
            "these nodes never run: {}{more} ({why})",
            names.join(", ")
        ));
    }
    for (index, node) in plan.nodes.iter().enumerate() {
        let mut fed: HashMap<&str, usize> = HashMap::new();
        for edge in &plan.incoming[index] {
            *fed.entry(&plan.edges[*edge].field).or_default() += 1;
        }
        let single = |name: &str| node.fields.get(name).is_some_and(|field| !field.list);
        let mut crowded: Vec<_> = fed
            .into_iter()
            .filter(|(name, count)| *count > 1 && single(name))
            .collect();
        crowded.sort_unstable();
        for (name, count) in crowded {
            let id = &node.info.id;
            warnings.push(format!(
                "{count} edges go into {id}.{name}, which takes one value: the last one counts"
            ));
        }
        for name in plan.missing.get(&index).into_iter().flatten() {
            let id = &node.info.id;
            warnings.push(format!(
                "{id}.{name} is required and empty: every run must set it with a tweak"
            ));
        }
    }
    if plan
        .nodes
        .iter()
        .filter(|node| matches!(node.kind, Ok(Kind::ChatInput)))
        .count()
        > 1
    {
        warnings.push("the flow has several chat inputs: the first one is where it starts".to_owned());
    }
    warnings.truncate(crate::MAX_PROBLEMS);
    warnings.into_iter().map(clip).collect()
}
