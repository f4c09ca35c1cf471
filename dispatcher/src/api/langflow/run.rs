//! `POST /api/v1/run/{flow}`: one run of a flow, answered when it has ended or told as it goes.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use flowfleet_core::run::RunView;
use flowfleet_core::{RunId, RunState, Tenant};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::call::{self, LangflowRun};
use super::stream;
use super::submit::{stored, wanted, with_id};
use super::tell::Teller;
use crate::api::auth::Submit;
use crate::api::body;
use crate::api::limits::Turn;
use crate::api::problem::{Code, Problem};
use crate::api::query::Query;
use crate::api::runs::submit::trace_context;
use crate::api::runs::{get, open};
use crate::app::{App, Shared};
use crate::submit::prepare::draft;

/// What a run gave, as Langflow says it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowAnswer {
    pub session_id: String,
    /// For the input, what each output component gave.
    #[schema(value_type = Vec<Object>)]
    pub outputs: Value,
}

/// Run a flow, as Langflow's clients do.
///
/// Answers when the run has ended, at most after the operator's `limits.wait_s`: a run that goes on beyond that is named
/// in a 504 and can be read at `/v1/runs/{id}`. With `stream=true` the answer is a stream of lines of JSON, each an event
/// of Langflow's (`add_message`, `token`, `end`, `error`). A run goes on when its client has left. Headers
/// `X-LANGFLOW-GLOBAL-VAR-NAME` set variables of the run; the answer's `X-Flowfleet-Run` is its id. A run that fails answers 500, whose `detail` is JSON text with
/// the `message`.
#[utoipa::path(
    post, path = "/api/v1/run/{flow}", tag = "langflow",
    params(
        ("flow" = String, Path, description = "Its id or its name"),
        ("stream" = Option<bool>, Query, description = "Tell the run as it goes"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body answer with the same run"),
        ("X-Flowfleet-Queue" = Option<String>, Header, description = "The queue the run waits in: `default` when absent"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, carried to the worker"),
    ),
    request_body = Option<LangflowRun>,
    responses(
        (status = 200, description = "What the run gave; with `stream`: text/event-stream", body = LangflowAnswer),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The idempotency key was used for another request", body = Problem,
            content_type = "application/problem+json"),
        (status = 500, description = "The run failed", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "The run has not ended yet, and goes on", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn run_langflow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    turn: Turn,
    Path(flow): Path<String>,
    mut query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let (Parts { headers, .. }, body) = request.into_parts();
    let asked_to_stream = query.parsed::<bool>("stream")?;
    query.finish()?;
    refuse_forms(headers.get(header::CONTENT_TYPE))?;
    let bytes = body::read(&headers, body, app.config.limits.body_bytes, "a run").await?;
    let mut call = call::parse(&bytes)?;
    drop(bytes);
    call.request.variables = call::variables(&headers)?;
    let name = app.flows.find(&caller.tenant, &flow).await?;
    let resolved = app.flows.named(&caller.tenant, &name).await?;
    let streams = asked_to_stream.unwrap_or(call.stream);
    let wanted = wanted(call, &resolved, &app, &headers)?;
    let teller = streams.then(|| Teller::new(&resolved, &wanted.request));
    let run = draft(wanted, &resolved, &caller.tenant, trace_context(&headers))?
        .seal(&*app.blob)
        .await?;
    // Before it is stored: whoever is told that there is no room may try again, and no run is left that nobody reads.
    let listener = app.listen()?;
    if let Some(teller) = teller {
        turn.release();
        return stream::tell(app, listener, caller.tenant, run, teller).await;
    }
    let run = stored(&app, run).await?;
    turn.release();
    let wait = Duration::from_secs(app.config.limits.wait_s);
    let view = get::wait_for(&app, &caller.tenant, run, wait, listener).await?;
    let answer = answer(&app, view.ok_or_else(Problem::internal)?).await?;
    Ok(with_id(run, Json(answer).into_response()))
}

/// Langflow also takes forms; a client of its API sends JSON.
fn refuse_forms(content_type: Option<&HeaderValue>) -> Result<(), Problem> {
    let form = content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.to_ascii_lowercase().starts_with("multipart/"));
    if form {
        return Err(Problem::invalid(
            "",
            "forms are not taken here: send the fields as a JSON object",
        ));
    }
    Ok(())
}

/// What a run gave, or why it gave nothing.
pub(super) async fn answer(app: &App, view: RunView) -> Result<LangflowAnswer, Problem> {
    if view.state != RunState::Succeeded {
        return Err(unanswered(&view));
    }
    let session_id = view.session_id.clone().unwrap_or_default();
    let outputs = outputs(app, view).await?;
    Ok(LangflowAnswer { session_id, outputs })
}

/// The outputs of a run that gave some.
pub(super) async fn outputs(app: &App, view: RunView) -> Result<Value, Problem> {
    let outputs = open(&*app.blob, view.outputs).await?;
    if !outputs.is_array() {
        tracing::error!(run = %view.id, "the outputs are not in Langflow's shape: an older worker executed the run");
        return Err(Problem::internal());
    }
    Ok(outputs)
}

fn unanswered(view: &RunView) -> Problem {
    if !view.state.is_final() {
        let detail = format!(
            "run {id} has not ended yet and goes on: GET /v1/runs/{id} has its result when it has",
            id = view.id
        );
        return Problem::new(Code::RunUnfinished, detail);
    }
    let (message, code) = reason(view);
    // Where Langflow's clients look: text that holds JSON.
    let detail =
        json!({"message": message, "traceback": null, "description": null, "code": code, "suggestion": null});
    Problem::new(Code::RunFailed, detail.to_string())
}

/// Why a run that has ended gave nothing.
pub(super) fn reason(view: &RunView) -> (String, String) {
    match &view.error {
        Some(error) => (error.message.clone(), error.code.clone()),
        None => {
            let state = view.state.as_str();
            (format!("the run was {state}"), format!("run_{state}"))
        }
    }
}

/// A run as it is now.
pub(super) async fn view(app: &App, tenant: &Tenant, run: RunId) -> Result<RunView, Problem> {
    app.store.get(tenant, run).await?.ok_or_else(Problem::internal)
}
