//! Metrics of executing flows.

use metrics::{Unit, describe_counter, describe_histogram};

/// How long a node took, by component.
pub(crate) const NODE_DURATION_SECONDS: &str = "flowfleet_node_duration_seconds";
/// Nodes whose outputs an earlier attempt had left.
pub(crate) const NODES_REUSED_TOTAL: &str = "flowfleet_nodes_reused_total";

/// Tells the recorder what the engine's metrics mean.
pub fn describe() {
    describe_histogram!(NODE_DURATION_SECONDS, Unit::Seconds, "How long nodes took, by component.");
    describe_counter!(NODES_REUSED_TOTAL, "Nodes not run again because an earlier attempt finished them.");
}
