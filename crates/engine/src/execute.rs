//! The driver: awaits what the schedule says is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::component::NodeOutput;
use crate::plan::Plan;
use crate::request::Request;
use crate::run::{Outcome, Progress, RunError, Services};

/// Runs a flow. `resume` holds outputs of nodes that an earlier attempt finished: they are not executed again.
pub async fn execute(
    plan: &Arc<Plan>,
    request: &Request,
    _resume: BTreeMap<String, NodeOutput>,
    _run_id: &str,
    _services: &Services,
    _on_progress: Arc<dyn Fn(Progress) + Send + Sync>,
    _cancel: CancellationToken,
) -> Result<Outcome, RunError> {
    plan.check(request)?;
    Err(RunError::Deadlock(Vec::new()))
}
