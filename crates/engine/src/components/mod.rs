//! The components with a native implementation: one file a kind, each a function of its parameters and context.
//!
//! Owns what a component makes of its inputs. Which nodes run, with which parameters, is the driver's business.

use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput};

/// Runs one node once.
pub(crate) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let _ = ctx;
    Err(NodeError { code: "component_unsupported", message: call.display_name.clone(), retryable: false })
}
