//! From a call of Langflow's API to a stored run.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use flowfleet_core::flow::FlowRef;
use flowfleet_core::run::{Idempotency, NewRun, RunSettings};
use flowfleet_core::{QueueName, RunId};
use serde_json::json;

use super::call::Call;
use crate::api::problem::{Code, Problem};
use crate::api::runs::submit::{idempotency_key, store};
use crate::app::App;
use crate::submit::parse::{Start, Wanted, digest};
use crate::submit::resolve::Resolved;

/// Langflow's bodies have no place for a queue.
const QUEUE: &str = "x-flowfleet-queue";
/// Nor their answers one for the run.
const RUN: HeaderName = HeaderName::from_static("x-flowfleet-run");

/// The run that a call asks for. Headers say which queue it waits in, and what makes a repeated call the same.
pub(super) fn wanted(call: Call, flow: &Resolved, app: &App, headers: &HeaderMap) -> Result<Wanted, Problem> {
    let key = idempotency_key(headers)?;
    let limits = &app.config.limits;
    let id = flow.id.to_string();
    let mut request = call.request;
    request.session_id.get_or_insert_with(|| id.clone());
    // Two calls are the same only if they set the same variables, too.
    let asked = json!([flow.version.name.as_str(), call.asked, request.variables]);
    request.langflow_id = Some(id);
    let mut settings = RunSettings::default();
    settings.timeout_s = settings.timeout_s.min(limits.timeout_s as f64);
    settings.max_attempts = settings.max_attempts.min(limits.max_attempts);
    Ok(Wanted {
        flow: FlowRef {
            name: flow.version.name.clone(),
            version: None,
        },
        request,
        queue: queue(headers)?,
        priority: Default::default(),
        settings,
        labels: Default::default(),
        start: Start::Now,
        expires_in: None,
        idempotency: key.map(|key| Idempotency {
            key,
            digest: digest(&asked),
        }),
    })
}

fn queue(headers: &HeaderMap) -> Result<QueueName, Problem> {
    let Some(value) = headers.get(QUEUE) else {
        return Ok(QueueName::default());
    };
    let name = value.to_str().unwrap_or_default();
    name.parse().map_err(|error: flowfleet_core::name::BadName| {
        Problem::new(Code::Invalid, format!("header X-Flowfleet-Queue: {error}"))
    })
}

/// Stores a run, or finds the one of an earlier call with the same idempotency key.
pub(super) async fn stored(app: &App, run: NewRun) -> Result<RunId, Problem> {
    Ok(RunId(store(app, run).await?.body.id))
}

/// Names the run in the answer's headers.
pub(super) fn with_id(run: RunId, mut response: Response) -> Response {
    if let Ok(id) = HeaderValue::try_from(run.to_string()) {
        response.headers_mut().insert(RUN, id);
    }
    response
}
