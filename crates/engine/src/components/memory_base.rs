//! Memory Base: searches one of Langflow's memory bases by meaning. Those lie in Langflow's own database, which a fleet
//! does not have: no memory base is attached to any flow here, and the component says so as it does there.

use super::params;
use crate::component::{NodeCall, NodeError, NodeOutput};

pub(crate) const OUTPUT: &str = "retrieve_data";
/// The field that names one.
pub(crate) const SELECTED: &str = "memory_base";

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let selected = params::text(call, SELECTED, "")?;
    Err(NodeError::permanent(
        "memory_base_missing",
        if selected.is_empty() {
            "No Memory Base is selected.".to_owned()
        } else {
            format!("Memory Base '{selected}' is not attached to this flow.")
        },
    ))
}
