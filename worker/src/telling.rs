//! What the events of a run say beside their own: what each node gave, as Langflow's workflows tell it.
//!
//! The dispatcher that tells it has no values; the worker that has them does not know who listens. So what is told
//! travels with the events, within a bound.

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::RunId;
use flowfleet_engine::langflow::{Made, built};
use flowfleet_engine::{NodeOutput, Plan, Request, WorkflowMode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// Bytes of JSON that one node's event may carry. A larger value is told with the end of the run.
const MOST: usize = 64 << 10;

/// One run whose nodes are told.
#[derive(Debug)]
pub(crate) struct Telling {
    plan: Arc<Plan>,
    run: String,
    flow: String,
    session: String,
}

/// What is said of a finished node.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    /// Absent when it is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stopped: Vec<String>,
}

impl Telling {
    /// Those of workflows that somebody may follow.
    pub(crate) fn of(run: RunId, plan: &Arc<Plan>, request: &Request) -> Option<Self> {
        let workflow = request.workflow.as_ref()?;
        let flow = request.langflow_id.clone()?;
        (workflow.mode != WorkflowMode::Sync).then(|| Self {
            plan: Arc::clone(plan),
            run: run.to_string(),
            session: request.session_id.clone().unwrap_or_else(|| flow.clone()),
            flow,
        })
    }

    pub(crate) fn told(&self, node: &str, output: &NodeOutput, elapsed: Duration, at: Timestamp) -> Told {
        let made = Made {
            run_id: &self.run,
            flow_id: &self.flow,
            session_id: &self.session,
            at,
        };
        let said = built(&self.plan, node, output, &made, elapsed);
        let data = said.and_then(|said| to_raw_value(&said).ok());
        Told {
            // PostgreSQL stores no NUL.
            data: data.filter(|data| data.get().len() <= MOST && !data.get().contains("\\u0000")),
            stopped: output.stopped.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use flowfleet_engine::{CompileLimits, Message, Value, Workflow, compile};

    use super::*;

    const HELLO: &str = include_str!("../../examples/flows/hello-prompt.json");

    fn request(mode: WorkflowMode) -> Request {
        Request {
            langflow_id: Some("f".to_owned()),
            workflow: Some(Workflow {
                mode,
                graph_state: true,
            }),
            ..Request::default()
        }
    }

    #[test]
    fn what_is_too_large_is_left_to_the_end() {
        let plan = Arc::new(compile(HELLO.as_bytes(), &CompileLimits::default()).unwrap());
        let of = |request: &Request| Telling::of(RunId::generate(), &plan, request);
        assert!(of(&Request::default()).is_none());
        assert!(of(&request(WorkflowMode::Sync)).is_none());
        let telling = of(&request(WorkflowMode::Background)).unwrap();
        let chat = plan.terminals().remove(0);
        for (text, fits) in [
            ("hi".to_owned(), true),
            ("x".repeat(MOST), false),
            ("\0".to_owned(), false),
        ] {
            let mut output = NodeOutput::default();
            let value = Value::Message(Message::of(text));
            output.values.insert(chat.output.clone(), value);
            output.stopped = vec!["other".to_owned()];
            let told = telling.told(&chat.id, &output, Duration::ZERO, Timestamp::UNIX_EPOCH);
            let said = serde_json::to_value(told).unwrap();
            assert_eq!(said.get("data").is_some(), fits);
            assert_eq!(said["stopped"][0], "other");
            if fits {
                assert_eq!(said["data"]["outputs"][&chat.output]["message"], "hi");
                assert_eq!(said["data"]["results"][&chat.output]["session_id"], "f");
            }
        }
    }
}
