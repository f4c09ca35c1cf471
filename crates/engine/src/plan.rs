//! A compiled flow: immutable, shared by every run of it.

use serde::{Deserialize, Serialize};

use crate::request::{Request, RequestError};

/// Limits on a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompileLimits {
    /// Nodes after groups are flattened.
    pub nodes: usize,
    pub bytes: usize,
    /// Nesting of the JSON document.
    pub depth: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { nodes: 2_000, bytes: 16 << 20, depth: 64 }
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

/// A flow, compiled once.
#[derive(Debug)]
pub struct Plan {
    pub(crate) name: Option<String>,
    pub(crate) endpoint_name: Option<String>,
    pub(crate) flow_id: Option<String>,
    pub(crate) unsupported: Vec<Unsupported>,
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// How many nodes the flow has after groups are flattened and notes dropped.
    pub fn nodes(&self) -> usize {
        0
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
        if self.unsupported.is_empty() { EngineKind::Native } else { EngineKind::Python }
    }

    /// The nodes that make the flow need the Python engine, and why.
    pub fn unsupported(&self) -> &[Unsupported] {
        &self.unsupported
    }

    /// What will run, but perhaps not as the author expects.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Every node, in a topological order.
    pub fn node_list(&self) -> Vec<NodeInfo> {
        Vec::new()
    }

    /// Whether this flow accepts the request; what `execute` would refuse, it refuses.
    pub fn check(&self, _request: &Request) -> Result<(), RequestError> {
        Ok(())
    }
}
