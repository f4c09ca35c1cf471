//! What a plan knows of conversations: who speaks, who listens, and in which order.

use crate::component::{Kind, NearChat};
use crate::components::memory_base;
use crate::graph::NodeIdx;
use crate::node::Node;
use crate::plan::{Plan, Talks};

/// Why a node cannot remember natively as it is drawn.
pub(super) fn refusal(kind: Kind, node: &Node, fed: &dyn Fn(&str) -> bool) -> Option<String> {
    let name = &node.info.display_name;
    match kind {
        Kind::MessageHistory if fed("memory") => Some(format!(
            "{name}: an external memory is an object that only exists in Python"
        )),
        Kind::MemoryBase => {
            let selected = node.fields.get(memory_base::SELECTED)?.value.as_str()?;
            (!selected.is_empty()).then(|| {
                format!(
                    "{name}: the memory base {selected:?} lies in Langflow's own database, which cannot be reached from \
                     here; choose none, or use Message History"
                )
            })
        }
        _ => None,
    }
}

/// Settles, when all else of the plan stands, who takes part in a conversation.
pub(super) fn settle(plan: &mut Plan, start: Option<NodeIdx>) {
    let is_output = |node: &Node| node.kind.as_ref().is_ok_and(|kind| kind.is_chat_output());
    let outputs: Vec<bool> = plan.nodes.iter().map(is_output).collect();
    let many = outputs.iter().filter(|is| **is).count() > 1;
    for index in 0..plan.nodes.len() {
        let near = |others: &std::collections::BTreeSet<NodeIdx>| others.iter().any(|other| outputs[*other]);
        plan.nodes[index].near_chat = NearChat {
            output: near(plan.graph.successors(index)) || near(plan.graph.predecessors(index)),
            one_of_many: many && outputs[index],
        };
    }
    plan.talks = (0..plan.nodes.len())
        .filter(|node| plan.involved[*node])
        .map(|node| talks(&plan.nodes[node]))
        .max()
        .unwrap_or(Talks::Never);
    listen_after(plan, start);
}

fn talks(node: &Node) -> Talks {
    match node.kind {
        Ok(Kind::MessageHistory) => Talks::Always,
        Ok(Kind::ChatInput | Kind::ChatOutput | Kind::EarlyChatOutput | Kind::Agent | Kind::TimedAgent) => {
            Talks::WhenAsked
        }
        // Whatever it is, Python has a memory for it.
        Err(_) => Talks::WhenAsked,
        Ok(_) => Talks::Never,
    }
}

/// Whoever reads the conversation reads what the chat input says. In Langflow the two may start together, and it is
/// chance whether the question of a turn is among what its Message History gives; here it always is.
fn listen_after(plan: &mut Plan, start: Option<NodeIdx>) {
    let Some(start) = start.filter(|start| plan.nodes[*start].kind == Ok(Kind::ChatInput)) else {
        return;
    };
    let before = plan.graph.ancestors([start]);
    let listens = |node: &Node| node.kind == Ok(Kind::MessageHistory);
    let listeners: Vec<NodeIdx> = (0..plan.nodes.len())
        .filter(|node| listens(&plan.nodes[*node]) && !before[*node] && plan.included[*node])
        .collect();
    for listener in listeners {
        plan.graph.connect(start, "", listener);
    }
}
