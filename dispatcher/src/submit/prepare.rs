//! From a checked submission and its flow to a run that can be stored.

use flowfleet_core::port::BlobStore;
use flowfleet_core::run::NewRun;
use flowfleet_core::{Capability, Payload, RunId, Tenant, TraceContext};
use flowfleet_engine::{EngineKind, LangflowCall, Request};
use flowfleet_runtime::payload;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::parse::{Refused, Wanted, times};
use super::resolve::Resolved;
use crate::api::problem::{Code, ErrorItem, Problem};

/// A run whose input has not been put where it belongs.
#[derive(Debug)]
pub(crate) struct Draft {
    run: NewRun,
    input: Value,
}

/// Asks the flow whether it accepts the request and makes a run of it.
pub(crate) fn draft(
    wanted: Wanted,
    flow: &Resolved,
    tenant: &Tenant,
    trace: Option<TraceContext>,
) -> Result<Draft, Refused> {
    flow.plan.check(&wanted.request).map_err(|error| Refused {
        code: Code::RequestRefused,
        errors: error
            .problems
            .into_iter()
            .map(|problem| ErrorItem::new(problem.pointer, format!("{} ({})", problem.detail, error.code)))
            .collect(),
    })?;
    let now = Timestamp::now();
    let (run_at, expires_at) = times(wanted.start, wanted.expires_in, now);
    // The store shifts times that are relative, so that this machine's clock decides nothing.
    let reckoned_at = wanted.start.is_relative(now).then_some(now);
    let Request {
        input,
        tweaks,
        session_id,
        variables,
        input_type,
        output_type,
        output_component,
        langflow_id,
    } = wanted.request;
    let run = NewRun {
        id: RunId::generate(),
        tenant: tenant.clone(),
        flow: flow.version.clone(),
        queue: wanted.queue,
        needs: needs(flow.plan.engine()),
        priority: wanted.priority,
        input: Payload::null(),
        settings: wanted.settings,
        session_id,
        labels: wanted.labels,
        run_at,
        expires_at,
        reckoned_at,
        idempotency: wanted.idempotency,
        trace,
        replay_of: None,
    };
    // Built by hand in the shape of `RunInput`: its serialisation would copy the values.
    let mut stored = Map::new();
    stored.insert("input".to_owned(), input);
    if !tweaks.is_null() {
        stored.insert("tweaks".to_owned(), tweaks);
    }
    if !variables.is_empty() {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)))
            .collect();
        stored.insert("variables".to_owned(), Value::Object(variables));
    }
    if let Some(flow_id) = langflow_id {
        let call = LangflowCall {
            input_type,
            output_type,
            output_component,
            flow_id,
        };
        let call = serde_json::to_value(call).map_err(|error| Refused {
            code: Code::Internal,
            errors: vec![ErrorItem::new("", error.to_string())],
        })?;
        stored.insert("langflow".to_owned(), call);
    }
    Ok(Draft {
        run,
        input: Value::Object(stored),
    })
}

/// What a worker must be able to do to execute a flow.
pub(crate) fn needs(engine: EngineKind) -> Capability {
    match engine {
        EngineKind::Native => Capability::native(),
        EngineKind::Python => Capability::python(),
    }
}

impl Draft {
    /// Puts a large input into the blob store.
    pub(crate) async fn seal(self, blob: &dyn BlobStore) -> Result<NewRun, Problem> {
        let Self { mut run, input } = self;
        run.input = payload::seal(blob, run.id, "input", input).await?;
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use flowfleet_core::run::RunInput;
    use serde_json::json;

    #[test]
    fn what_is_stored_reads_back_as_a_run_input() {
        let stored = json!({"input": "hi", "tweaks": {"a": {"b": 1}}, "variables": {"K": "v"}, "langflow": {"flow_id": "f"}});
        let read: RunInput = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), stored);
    }
}
