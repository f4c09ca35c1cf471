//! The turns of a loop: one after the other, each with nodes of its own.
//!
//! A node in a turn is called by its id and its place, `Parser-1#Loop-1.3`: the fourth turn of `Loop-1`; in a loop in a loop
//! there are two places. Events and checkpoints go by that name, so an attempt that resumes pays for no turn twice.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Driver, Run, Shared};
use crate::component::{NodeCall, NodeError, NodeOutput};
use crate::components::looping;
use crate::graph::NodeIdx;
use crate::run::RunError;

/// Nodes that the loops of one run may execute: loops in loops multiply.
const MOST_NODES: u32 = 100_000;

/// What the places of a loop's turns begin with.
pub(super) fn prefix(place: &str, id: &str) -> String {
    format!("{place}#{id}.")
}

/// Takes out what an earlier attempt left of the turns of a loop that is over.
pub(super) fn settle(shared: &mut Shared, prefix: &str) {
    let Shared { resume, counts } = shared;
    resume.retain(|id, output| {
        let of_a_turn = id.contains(prefix);
        if of_a_turn {
            counts.usage += output.usage;
        }
        !of_a_turn
    });
}

/// Goes through all items.
pub(super) fn take(
    run: Run,
    node: NodeIdx,
    call: NodeCall,
) -> BoxFuture<'static, Result<NodeOutput, NodeError>> {
    async move {
        let body = run.plan.bodies.get(&node);
        let (Some(body), Some((end, output))) = (body, body.and_then(|body| body.end.as_ref())) else {
            return Ok(looping::done(&call, Vec::new()));
        };
        let items = looping::items(&call)?;
        let prefix = prefix(&run.context.place, &call.node.id);
        let mut results = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            if run.shared().counts.run > MOST_NODES {
                return Err(NodeError::permanent(
                    "loop_too_long",
                    format!(
                        "{}: the loops of this run executed {MOST_NODES} nodes, which is the most: split the items over \
                         several runs",
                        call.node.display_name
                    ),
                ));
            }
            let mut turn = run.clone();
            let mut context = (*run.context).clone();
            context.place = format!("{prefix}{index}").into();
            context.voices = std::sync::Arc::default();
            turn.context = context.into();
            let mut driver = Driver::new(&turn, Some(body));
            driver.ended[node] = Some(looping::turn(item).into());
            driver.drive().await.map_err(|error| failed(&error))?;
            let given = driver.ended[*end].as_ref();
            results.push(looping::result(given.and_then(|given| given.values.get(output)))?);
        }
        Ok(looping::done(&call, results))
    }
    .boxed()
}

/// The loop fails as the node in it did, which it names.
fn failed(error: &RunError) -> NodeError {
    NodeError {
        code: error.code(),
        message: error.to_string(),
        retryable: error.retryable(),
    }
}
