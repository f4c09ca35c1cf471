//! What Langflow's workflows say of one node: what it is, what it gave, and which nodes come next.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::answer::{Part, parts};
use super::message::Made;
use crate::compile::start;
use crate::component::NodeOutput;
use crate::graph::NodeIdx;
use crate::plan::Plan;
use crate::schedule::Schedule;

/// A node as Langflow describes it beside what it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    pub id: String,
    pub display_name: String,
    pub component: String,
    pub is_output: bool,
    /// Nothing follows it.
    pub is_terminal: bool,
    /// Of its first output.
    pub output_types: Vec<String>,
    /// What its first output is called.
    pub output: String,
}

/// What a node gave, as the event that ends it says.
pub fn built(plan: &Plan, id: &str, output: &NodeOutput, made: &Made<'_>, elapsed: Duration) -> Option<Json> {
    let node = *plan.by_id.get(id)?;
    let Part {
        is_chat,
        results,
        mut outputs,
        artifacts,
        usage,
    } = parts(plan, node, output, made);
    let logs: Map<String, Json> = outputs.keys().map(|name| (name.clone(), json!([]))).collect();
    // Outputs that nobody wanted are named, too.
    for declared in &plan.nodes[node].outputs {
        let nothing = || json!({"message": "", "type": "unknown"});
        outputs.entry(declared.name.clone()).or_insert_with(nothing);
    }
    let seconds = elapsed.as_secs_f64();
    Some(json!({
        "results": if is_chat { results } else { Map::new() },
        "outputs": outputs,
        "logs": logs,
        "message": artifacts,
        "artifacts": artifacts,
        "timedelta": seconds,
        "duration": duration(seconds),
        "used_frozen_result": false,
        "token_usage": usage,
    }))
}

/// A time as people read it.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{} ms", (s * 1e3).round()),
        s if s < 60.0 => format!("{s:.1} seconds"),
        s => format!("{} minutes, {} seconds", (s / 60.0).trunc(), (s % 60.0).trunc()),
    }
}

impl Plan {
    /// What Langflow says a node is.
    pub fn vertex(&self, id: &str) -> Option<Vertex> {
        self.by_id.get(id).map(|node| self.described(*node))
    }

    /// The nodes that nothing follows, in the order of the document: what a workflow answers with.
    pub fn terminals(&self) -> Vec<Vertex> {
        let mut terminals: Vec<NodeIdx> = (0..self.nodes.len()).filter(|n| self.is_terminal(*n)).collect();
        terminals.sort_by_key(|node| self.nodes[*node].position);
        terminals.into_iter().map(|node| self.described(node)).collect()
    }

    fn described(&self, node: NodeIdx) -> Vertex {
        let found = &self.nodes[node];
        let first = found.outputs.first();
        Vertex {
            id: found.info.id.clone(),
            display_name: found.info.display_name.clone(),
            component: found.info.component.clone(),
            is_output: found.is_output,
            is_terminal: self.is_terminal(node),
            output_types: first.map(|output| output.types.clone()).unwrap_or_default(),
            output: first.map_or_else(|| "output".to_owned(), |output| output.name.clone()),
        }
    }

    /// The ids of all nodes that a run executes, unless a router stops them.
    pub fn to_run(&self) -> Vec<String> {
        let included = (0..self.nodes.len()).filter(|node| self.included[*node]);
        self.ids(included)
    }

    /// The ids of the nodes that Langflow begins with: where the flow starts, else all that wait for nothing.
    pub fn first(&self) -> Vec<String> {
        let first = match start(self) {
            Some(start) => vec![start],
            None => Schedule::new(&self.graph, &self.included).ready(),
        };
        self.ids(first)
    }

    /// Given the nodes that have ended, in their order, with the outputs that each stopped: which nodes the last of
    /// them made ready, and which it made never run.
    pub fn after(&self, ended: &[(String, Vec<String>)]) -> (Vec<String>, Vec<String>) {
        let mut schedule = Schedule::new(&self.graph, &self.included);
        // Others that wait for nothing follow the start, as Langflow has it.
        let mut ready = schedule.ready();
        if let Some(start) = start(self) {
            ready.retain(|node| *node != start);
        } else {
            ready.clear();
        }
        let mut skipped = Vec::new();
        for (index, (id, stopped)) in ended.iter().enumerate() {
            if index > 0 {
                ready.clear();
            }
            skipped.clear();
            if let Some(node) = self.by_id.get(id) {
                skipped = schedule.finished(*node, stopped);
                ready.extend(schedule.ready());
            }
        }
        (self.ids(ready), self.ids(skipped))
    }

    fn ids(&self, nodes: impl IntoIterator<Item = NodeIdx>) -> Vec<String> {
        nodes
            .into_iter()
            .map(|node| self.nodes[node].info.id.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::CompileLimits;
    use crate::{Message, Value, compile};

    const ASK: &str = include_str!("../../../../examples/flows/ask-model.json");
    const ROUTE: &str = include_str!("../../../../examples/flows/route-and-ask.json");

    fn plan(document: &str) -> Plan {
        compile(document.as_bytes(), &CompileLimits::default()).unwrap()
    }

    fn finish(
        plan: &Plan,
        order: &mut Vec<(String, Vec<String>)>,
        id: &str,
        stopped: &[&str],
    ) -> (Vec<String>, Vec<String>) {
        let stopped = stopped.iter().map(|output| (*output).to_owned()).collect();
        order.push((id.to_owned(), stopped));
        plan.after(order)
    }

    #[test]
    fn the_walk_names_every_node_once() {
        for document in [ASK, ROUTE] {
            let plan = plan(document);
            let mut waiting = plan.first();
            let (mut order, mut seen) = (Vec::new(), Vec::new());
            while let Some(id) = waiting.pop() {
                seen.push(id.clone());
                waiting.extend(finish(&plan, &mut order, &id, &[]).0);
            }
            let mut expected = plan.to_run();
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_branch_not_taken_is_named() {
        let plan = plan(ROUTE);
        let router = plan
            .nodes
            .iter()
            .find(|n| n.info.component == "ConditionalRouter");
        let router = router.unwrap().info.id.clone();
        let mut order = Vec::new();
        let mut waiting = plan.first();
        while let Some(id) = waiting.pop() {
            let stopped: &[&str] = if id == router { &["true_result"] } else { &[] };
            let (next, skipped) = finish(&plan, &mut order, &id, stopped);
            assert_eq!(skipped.is_empty(), id != router, "{skipped:?}");
            waiting.extend(next);
        }
        assert!(order.len() < plan.to_run().len());
    }

    #[test]
    fn what_a_node_gave_has_every_declared_output() {
        let plan = plan(ASK);
        let model = &plan.streams()[0].node;
        let mut output = NodeOutput::default();
        let name = plan.vertex(model).unwrap().output;
        output
            .values
            .insert(name.clone(), Value::Message(Message::of("hi")));
        let made = Made {
            run_id: "r",
            flow_id: "f",
            session_id: "s",
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let said = built(&plan, model, &output, &made, Duration::from_millis(47)).unwrap();
        assert_eq!(said["outputs"][&name], json!({"message": "hi", "type": "text"}));
        assert_eq!(said["duration"], "47 ms");
        assert_eq!(said["results"], json!({}), "only chats have results");
        assert_eq!(said["logs"], json!({&name: []}));
        assert_eq!(built(&plan, "nobody", &output, &made, Duration::ZERO), None);
        let terminals = plan.terminals();
        assert!(terminals.iter().all(|vertex| vertex.is_terminal));
        assert_eq!(terminals.last().unwrap().component, "ChatOutput");
    }
}
