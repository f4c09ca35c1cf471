//! What may run next: a ready set over the plan's graph, without I/O.
//!
//! The driver asks [`Schedule::ready`], runs what it is given in any order, and reports each end with
//! [`Schedule::finished`]. A node is handed out once, after all its predecessors in the run have ended.
//!
//! When a router stops an output, everything reachable through it is excluded for good, except what is also
//! reachable through an output it did not stop: such a merge runs without the excluded input. An excluded node ends,
//! without running, when its predecessors have ended: were it to end at once, what follows it could start before
//! another router upstream has spoken, and which nodes run would depend on who is faster.
//!
//! ```mermaid
//! stateDiagram-v2
//!   [*] --> Outside: not in the run
//!   [*] --> Waiting
//!   Waiting --> Running: last predecessor ended
//!   Waiting --> Skipped: last predecessor ended, and excluded
//!   Running --> Done: finished
//! ```

use std::collections::VecDeque;

use crate::graph::{Graph, NodeIdx};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not in the run.
    Outside,
    /// So many predecessors have not ended.
    Waiting(usize),
    /// Handed out, or queued to be.
    Running,
    Done,
    Skipped,
}

/// One run's progress over a graph.
#[derive(Debug, Clone)]
pub(crate) struct Schedule<'g> {
    graph: &'g Graph,
    states: Vec<State>,
    excluded: Vec<bool>,
    queue: VecDeque<NodeIdx>,
    /// Nodes of the run that have not ended.
    open: usize,
}

impl<'g> Schedule<'g> {
    /// A run of the vertices that `included` marks.
    pub(crate) fn new(graph: &'g Graph, included: &[bool]) -> Self {
        let mut schedule = Self {
            graph,
            states: vec![State::Outside; graph.len()],
            excluded: vec![false; graph.len()],
            queue: VecDeque::new(),
            open: 0,
        };
        for vertex in (0..graph.len()).filter(|v| included[*v]) {
            let waiting = graph
                .predecessors(vertex)
                .iter()
                .filter(|p| included[**p])
                .count();
            schedule.open += 1;
            schedule.states[vertex] = State::Waiting(waiting);
            if waiting == 0 {
                schedule.states[vertex] = State::Running;
                schedule.queue.push_back(vertex);
            }
        }
        schedule
    }

    /// Nodes that may start now, in the order in which they became ready. Each is given once.
    pub(crate) fn ready(&mut self) -> Vec<NodeIdx> {
        self.queue.drain(..).collect()
    }

    /// Records that a node ended, with the outputs it stopped. Returns the nodes that will now never run.
    /// A node that is not running is left alone: a late or repeated report changes nothing.
    pub(crate) fn finished(&mut self, vertex: NodeIdx, stopped: &[String]) -> Vec<NodeIdx> {
        if self.states.get(vertex) != Some(&State::Running) {
            return Vec::new();
        }
        self.states[vertex] = State::Done;
        let excluded = if stopped.is_empty() {
            Vec::new()
        } else {
            self.exclude(vertex, stopped)
        };
        self.release(vertex);
        excluded
    }

    /// Whether everything has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.open == 0
    }

    /// What has neither ended nor started.
    pub(crate) fn stuck(&self) -> Vec<NodeIdx> {
        (0..self.states.len())
            .filter(|v| matches!(self.states[*v], State::Waiting(_)))
            .collect()
    }

    fn exclude(&mut self, vertex: NodeIdx, stopped: &[String]) -> Vec<NodeIdx> {
        let (dead, live): (Vec<_>, Vec<_>) = self
            .graph
            .outgoing(vertex)
            .iter()
            .partition(|out| stopped.contains(&out.output));
        let dead = self.graph.reachable(dead.into_iter().map(|out| out.target));
        let live = self.graph.reachable(live.into_iter().map(|out| out.target));
        let newly = |node: &NodeIdx| {
            let waits = matches!(self.states[*node], State::Waiting(_));
            dead[*node] && !live[*node] && waits && !self.excluded[*node]
        };
        let excluded: Vec<NodeIdx> = (0..self.graph.len()).filter(newly).collect();
        excluded.iter().for_each(|node| self.excluded[*node] = true);
        excluded
    }

    /// Counts an ended node off its successors. Excluded ones end in turn.
    fn release(&mut self, vertex: NodeIdx) {
        let mut ended = vec![vertex];
        while let Some(vertex) = ended.pop() {
            self.open -= 1;
            for &next in self.graph.successors(vertex) {
                match self.states[next] {
                    State::Waiting(1) if self.excluded[next] => {
                        self.states[next] = State::Skipped;
                        ended.push(next);
                    }
                    State::Waiting(1) => {
                        self.states[next] = State::Running;
                        self.queue.push_back(next);
                    }
                    State::Waiting(count) => self.states[next] = State::Waiting(count - 1),
                    State::Outside | State::Running | State::Done | State::Skipped => {}
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
