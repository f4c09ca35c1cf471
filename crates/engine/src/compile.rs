//! From a document to a plan.

use crate::plan::{CompileLimits, Plan};
use crate::problem::{FlowError, Problems};

/// Compiles a Langflow export. Refuses with every problem it finds.
pub fn compile(_document: &[u8], _limits: &CompileLimits) -> Result<Plan, FlowError> {
    let mut problems = Problems::default();
    problems.push("", None, "the compiler is not written yet");
    Err(FlowError { problems: problems.into_vec() })
}
