//! A compiled flow: immutable, shared by every run of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::compile::Body;
use crate::component::Param;
use crate::edge::{Back, Edge};
use crate::graph::{Graph, NodeIdx};
use crate::group::Aliases;
use crate::node::Node;
use crate::prepare;
use crate::request::{Request, RequestError};
use crate::tweak;

/// Limits on a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompileLimits {
    /// Nodes after groups are flattened.
    pub nodes: usize,
    pub bytes: usize,
    /// Nesting of the JSON document; serde_json itself ends at 127.
    pub depth: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            nodes: 2_000,
            bytes: 16 << 20,
            depth: 64,
        }
    }
}

/// What can run a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    Native,
    Python,
}

/// A node that the native engine must not stand in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsupported {
    pub node: String,
    pub display_name: String,
    pub component: String,
    pub reason: String,
}

/// How a node is called in events and errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    pub id: String,
    pub display_name: String,
    pub component: String,
}

/// The field of an agent that takes tools.
pub(crate) const TOOLS: &str = "tools";

/// A flow, compiled once. Nodes are numbered in a topological order.
#[derive(Debug)]
pub struct Plan {
    pub(crate) name: Option<String>,
    pub(crate) endpoint_name: Option<String>,
    pub(crate) flow_id: Option<String>,
    pub(crate) unsupported: Vec<Unsupported>,
    pub(crate) warnings: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) graph: Graph,
    /// In document order: that is the order of a list input, and the last one wins where only one can.
    pub(crate) edges: Vec<Edge>,
    /// Indices into `edges`, by target node.
    pub(crate) incoming: Vec<Vec<usize>>,
    /// Output names to compute, by node.
    pub(crate) wanted: Vec<Arc<[String]>>,
    /// Which nodes a run executes.
    pub(crate) included: Vec<bool>,
    /// Those, and the nodes that run in loops.
    pub(crate) involved: Vec<bool>,
    /// Edges that end the turns of loops. They are not in the graph, which has no cycles.
    pub(crate) backs: Vec<Back>,
    /// What the loops run.
    pub(crate) bodies: BTreeMap<NodeIdx, Body>,
    /// Parameters before edges and tweaks, by node.
    pub(crate) params: Vec<Arc<BTreeMap<String, Param>>>,
    /// Required fields that only a tweak can fill, by node.
    pub(crate) missing: BTreeMap<NodeIdx, Vec<String>>,
    /// Nodes by id, and by display name (the last in the document, as in Langflow).
    pub(crate) by_id: HashMap<String, NodeIdx>,
    pub(crate) by_display_name: HashMap<String, NodeIdx>,
    pub(crate) aliases: Aliases,
    pub(crate) talks: Talks,
}

/// Whether runs of a flow are part of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Talks {
    Never,
    /// If the caller names the session.
    WhenAsked,
    /// A node of it reads or keeps messages by itself.
    Always,
}

impl Plan {
    /// How many nodes the flow has after groups are flattened and notes dropped.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn endpoint_name(&self) -> Option<&str> {
        self.endpoint_name.as_deref()
    }

    pub fn flow_id(&self) -> Option<&str> {
        self.flow_id.as_deref()
    }

    pub fn engine(&self) -> EngineKind {
        if self.unsupported.is_empty() {
            EngineKind::Native
        } else {
            EngineKind::Python
        }
    }

    /// The nodes that make the flow need the Python engine, and why. Nodes that never run are not among them.
    pub fn unsupported(&self) -> &[Unsupported] {
        &self.unsupported
    }

    /// Whether a run is part of a conversation, so that what is said in it is remembered and earlier messages are read:
    /// one whose caller named the session, if anything in the flow speaks or listens, or whose flow has a Message
    /// History. All others leave no messages and cost nothing for it.
    pub fn converses(&self, session_named: bool) -> bool {
        self.talks == Talks::Always || (session_named && self.talks == Talks::WhenAsked)
    }

    /// What will run, but perhaps not as the author expects.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Every node, in a topological order.
    pub fn node_list(&self) -> Vec<NodeInfo> {
        self.nodes
            .iter()
            .map(|node| NodeInfo::clone(&node.info))
            .collect()
    }

    /// Whether this flow accepts the request. What depends on the machine it runs on (variables of the environment)
    /// is known only to `execute`.
    pub fn check(&self, request: &Request) -> Result<(), RequestError> {
        prepare::Prepared::new(self, request, "").map(drop)
    }

    /// What of the request will have no effect, such as tweaks for nodes or fields that do not exist.
    pub fn request_warnings(&self, request: &Request) -> Vec<String> {
        tweak::unknown(self, &request.tweaks)
    }

    /// The nodes that get what is sent to the flow's webhook: those with the word in their id, as in Langflow.
    pub fn webhooks(&self) -> impl Iterator<Item = &str> {
        let ids = self.nodes.iter().map(|node| node.info.id.as_str());
        ids.filter(|id| id.contains("Webhook"))
    }

    /// Whether nothing follows a node.
    pub(crate) fn is_terminal(&self, node: NodeIdx) -> bool {
        self.graph.outgoing(node).is_empty() && self.backs.iter().all(|back| back.source != node)
    }

    pub(crate) fn find(&self, id_or_name: &str) -> Option<NodeIdx> {
        self.by_id
            .get(id_or_name)
            .or_else(|| self.by_display_name.get(id_or_name))
            .copied()
    }

    /// The edges from an agent's tools to it.
    pub(crate) fn tool_edges(&self, node: NodeIdx) -> impl Iterator<Item = &Edge> {
        let is_agent = self.nodes[node].kind.as_ref().is_ok_and(|kind| kind.is_agent());
        self.incoming[node]
            .iter()
            .map(|edge| &self.edges[*edge])
            .filter(move |edge| is_agent && edge.field == TOOLS && self.nodes[edge.source].tool_mode)
    }

    /// Whether an edge feeds a field.
    pub(crate) fn is_fed(&self, node: NodeIdx, field: &str) -> bool {
        self.incoming[node]
            .iter()
            .any(|edge| self.edges[*edge].field == field)
    }
}
