//! The shape of a flow: vertices by index and edges by output, with the walks that planning and scheduling need.
//!
//! Knows nothing of components or values. All walks are iterative: a document decides how deep they go.

use std::collections::BTreeSet;

/// A vertex. Plans number their nodes in a topological order.
pub(crate) type NodeIdx = usize;

/// An outgoing edge: from which output of its source, to which vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) output: String,
    pub(crate) target: NodeIdx,
}

/// Adjacency both ways.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    outgoing: Vec<Vec<Out>>,
    /// Distinct neighbours: two edges between the same vertices are one dependency.
    predecessors: Vec<BTreeSet<NodeIdx>>,
    successors: Vec<BTreeSet<NodeIdx>>,
}

impl Graph {
    pub(crate) fn new(vertices: usize) -> Self {
        Self {
            outgoing: vec![Vec::new(); vertices],
            predecessors: vec![BTreeSet::new(); vertices],
            successors: vec![BTreeSet::new(); vertices],
        }
    }

    pub(crate) fn connect(&mut self, source: NodeIdx, output: &str, target: NodeIdx) {
        self.outgoing[source].push(Out {
            output: output.to_owned(),
            target,
        });
        self.predecessors[target].insert(source);
        self.successors[source].insert(target);
    }

    pub(crate) fn len(&self) -> usize {
        self.outgoing.len()
    }

    pub(crate) fn outgoing(&self, vertex: NodeIdx) -> &[Out] {
        &self.outgoing[vertex]
    }

    pub(crate) fn predecessors(&self, vertex: NodeIdx) -> &BTreeSet<NodeIdx> {
        &self.predecessors[vertex]
    }

    pub(crate) fn successors(&self, vertex: NodeIdx) -> &BTreeSet<NodeIdx> {
        &self.successors[vertex]
    }

    /// A topological order, lowest index first among equals; or the vertices of one cycle, in its order.
    pub(crate) fn topological(&self) -> Result<Vec<NodeIdx>, Vec<NodeIdx>> {
        let mut waiting: Vec<usize> = self.predecessors.iter().map(BTreeSet::len).collect();
        let mut ready: BTreeSet<NodeIdx> = (0..self.len()).filter(|v| waiting[*v] == 0).collect();
        let mut order = Vec::with_capacity(self.len());
        while let Some(vertex) = ready.pop_first() {
            order.push(vertex);
            for next in self.successors(vertex) {
                waiting[*next] -= 1;
                if waiting[*next] == 0 {
                    ready.insert(*next);
                }
            }
        }
        if order.len() == self.len() {
            Ok(order)
        } else {
            Err(self.cycle(&waiting))
        }
    }

    /// Every vertex that Kahn's algorithm left over has a predecessor left over: walking back must meet itself.
    fn cycle(&self, waiting: &[usize]) -> Vec<NodeIdx> {
        let mut path: Vec<NodeIdx> = Vec::new();
        let mut position = vec![None; self.len()];
        let mut current = waiting.iter().position(|count| *count > 0);
        while let Some(vertex) = current {
            if let Some(start) = position[vertex] {
                path.drain(..start);
                path.reverse();
                return path;
            }
            position[vertex] = Some(path.len());
            path.push(vertex);
            current = self.predecessors[vertex]
                .iter()
                .copied()
                .find(|p| waiting[*p] > 0);
        }
        path
    }

    /// `starts` and everything that can be reached from them.
    pub(crate) fn reachable(&self, starts: impl IntoIterator<Item = NodeIdx>) -> Vec<bool> {
        self.flood(starts, |vertex, visit| {
            self.outgoing[vertex].iter().for_each(|out| visit(out.target));
        })
    }

    /// `ends` and everything they depend on.
    pub(crate) fn ancestors(&self, ends: impl IntoIterator<Item = NodeIdx>) -> Vec<bool> {
        self.flood(ends, |vertex, visit| {
            self.predecessors[vertex].iter().for_each(|p| visit(*p));
        })
    }

    fn flood(
        &self,
        starts: impl IntoIterator<Item = NodeIdx>,
        neighbours: impl Fn(NodeIdx, &mut dyn FnMut(NodeIdx)),
    ) -> Vec<bool> {
        let mut seen = vec![false; self.len()];
        let mut stack: Vec<NodeIdx> = Vec::new();
        for start in starts {
            if !std::mem::replace(&mut seen[start], true) {
                stack.push(start);
            }
        }
        while let Some(vertex) = stack.pop() {
            neighbours(vertex, &mut |next| {
                if !std::mem::replace(&mut seen[next], true) {
                    stack.push(next);
                }
            });
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(usize, usize)]) -> Graph {
        let vertices = edges.iter().map(|(a, b)| a.max(b) + 1).max().unwrap_or(0);
        let mut graph = Graph::new(vertices);
        for (source, target) in edges {
            graph.connect(*source, "out", *target);
        }
        graph
    }

    #[test]
    fn orders_and_cycles() {
        assert_eq!(graph(&[(2, 0), (0, 1)]).topological(), Ok(vec![2, 0, 1]));
        assert_eq!(graph(&[(1, 2), (1, 2), (0, 2)]).topological(), Ok(vec![0, 1, 2]));
        assert_eq!(graph(&[(0, 0)]).topological(), Err(vec![0]));
        let mut cycle = graph(&[(0, 1), (1, 2), (2, 1), (2, 3)])
            .topological()
            .unwrap_err();
        cycle.sort_unstable();
        assert_eq!(cycle, [1, 2]);
    }

    #[test]
    fn walks_go_one_way() {
        let graph = graph(&[(0, 1), (1, 2), (3, 2)]);
        assert_eq!(graph.reachable([1]), [false, true, true, false]);
        assert_eq!(graph.ancestors([2]), [true, true, true, true]);
        assert_eq!(graph.ancestors([1]), [true, true, false, false]);
    }

    #[test]
    fn a_long_chain_does_not_recurse() {
        let edges: Vec<_> = (0..200_000).map(|v| (v, v + 1)).collect();
        let graph = graph(&edges);
        assert!(graph.topological().is_ok());
        assert!(graph.reachable([0]).iter().all(|seen| *seen));
    }
}
