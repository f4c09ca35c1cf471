//! Metrics of executing flows.

use metrics::{Unit, describe_counter, describe_histogram};

/// How long a node took, by component.
pub(crate) const NODE_DURATION_SECONDS: &str = "flowfleet_node_duration_seconds";
/// Nodes whose outputs an earlier attempt had left.
pub(crate) const NODES_REUSED_TOTAL: &str = "flowfleet_nodes_reused_total";
/// Tokens models charged for, by kind: input, output.
pub(crate) const LLM_TOKENS: &str = "flowfleet_llm_tokens_total";
/// Calls of models by outcome: ok, or the error's code.
pub(crate) const LLM_REQUESTS: &str = "flowfleet_llm_requests_total";

/// Tells the recorder what the engine's metrics mean.
pub fn describe() {
    describe_histogram!(
        NODE_DURATION_SECONDS,
        Unit::Seconds,
        "How long nodes took, by component."
    );
    describe_counter!(
        NODES_REUSED_TOTAL,
        "Nodes not run again because an earlier attempt finished them."
    );
    describe_counter!(LLM_TOKENS, "Tokens that models charged for, by kind.");
    describe_counter!(
        LLM_REQUESTS,
        "Calls of models, retries included in one, by outcome."
    );
}
