//! `POST /api/v2/workflows`: one run of a flow, answered when it has ended, told as it goes, or left to go on.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use flowfleet_core::run::{Idempotency, NewRun, RunErrorKind, RunView};
use flowfleet_core::{RunId, RunState, Tenant};
use flowfleet_engine::{OutputType, Plan, RequestError, WorkflowMode};
use flowfleet_runtime::payload::hex_sha256;
use serde_json::Value;

use super::Refusal;
use super::answer::{self, Echo, WorkflowExecution, WorkflowJob};
use super::ask::{self, Asked, WorkflowRun};
use super::refusal::is_missing;
use super::stream::{self, Numbering};
use super::tell::About;
use crate::api::auth::Submit;
use crate::api::body;
use crate::api::langflow::call::{self, LangflowRun};
use crate::api::langflow::run::{outputs, reason};
use crate::api::langflow::submit::{stored, wanted};
use crate::api::limits::Turn;
use crate::api::problem::Problem;
use crate::api::query::NoQuery;
use crate::api::runs::get;
use crate::api::runs::submit::trace_context;
use crate::app::{App, Shared};
use crate::submit::parse::digest;
use crate::submit::prepare::draft;
use crate::submit::resolve::Resolved;

/// Run a flow, as Langflow's second API does.
///
/// `sync` answers when the run has ended, at most after the operator's `limits.wait_s`; a run that goes on beyond that
/// is answered 408 with its `job_id`. A run that failed is an answer, too, with its `errors`. `stream` is a stream of
/// Server-Sent Events, each with an `id`, and `data` of Langflow's (`vertices_sorted`, `build_start`, `add_message`,
/// `token`, `end_vertex`, `output`, `error`, `cancelled`, `end`). `background` answers with a job. A run goes on when its
/// client has left.
#[utoipa::path(
    post, path = "/api/v2/workflows", tag = "langflow",
    params(
        ("X-Flowfleet-Queue" = Option<String>, Header, description = "The queue the run waits in: `default` when absent"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, carried to the worker"),
    ),
    request_body = WorkflowRun,
    responses(
        (status = 200, description = "What the run gave; with `background` a job; with `stream` text/event-stream",
            content((WorkflowExecution = "application/json"), (WorkflowJob = "application/json"), (String = "text/event-stream"))),
        (status = 404, description = "No such flow", body = Refusal),
        (status = 408, description = "The run has not ended yet, and goes on; or it took too long", body = Refusal),
        (status = 409, description = "The idempotency key was used for another request", body = Refusal),
        (status = 413, description = "The body is too large", body = Refusal),
        (status = 422, description = "The body or a header is not valid, or asks for what cannot be done",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
        (status = 500, description = "A fault of this server", content((Refusal = "application/json"), (Problem = "application/problem+json"))),
        (status = 503, description = "Too busy, or a backend is away",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
    ),
)]
pub(crate) async fn execute_workflow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    turn: Turn,
    _: NoQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let (Parts { headers, .. }, body) = request.into_parts();
    let bytes = body::read(&headers, body, app.config.limits.body_bytes, "a workflow").await?;
    let asked = ask::parse(&bytes)?;
    drop(bytes);
    let flow = flow(&app, &caller.tenant, &asked).await?;
    choose(&flow.plan, &asked.output_ids)?;
    let Workflow { run, about, echo } = prepare(&app, &caller.tenant, asked, &flow, &headers).await?;
    match run.1 {
        WorkflowMode::Background => {
            let stored = stored(&app, run.0).await.map_err(duplicate)?;
            Ok(Json(answer::job(stored, about.flow_id, "queued")).into_response())
        }
        WorkflowMode::Stream => {
            let listener = app.listen()?;
            let follower = stream::follow(&app, &caller.tenant, about.run).await;
            stored(&app, run.0).await.map_err(duplicate)?;
            turn.release();
            let tenant = caller.tenant;
            Ok(stream::respond(
                app,
                tenant,
                about,
                follower,
                Numbering::All,
                listener,
            ))
        }
        WorkflowMode::Sync => {
            let listener = app.listen()?;
            let stored = stored(&app, run.0).await.map_err(duplicate)?;
            turn.release();
            let wait = Duration::from_secs(app.config.limits.wait_s);
            let view = get::wait_for(&app, &caller.tenant, stored, wait, listener).await?;
            let view = view.ok_or_else(Problem::internal)?;
            ended(&app, view, &about, echo).await
        }
    }
}

/// A run to store and all that is said of it.
struct Workflow {
    run: (NewRun, WorkflowMode),
    about: About,
    echo: Echo,
}

async fn flow(app: &App, tenant: &Tenant, asked: &Asked) -> Result<Arc<Resolved>, Refusal> {
    let found = async {
        let name = app.flows.find(tenant, &asked.flow.to_string()).await?;
        app.flows.named(tenant, &name).await
    };
    found
        .await
        .map_err(|problem: Problem| match is_missing(&problem) {
            true => {
                let id = &asked.flow_id;
                let message = format!("Flow '{id}' does not exist. Verify the flow_id and try again.");
                Refusal::new(StatusCode::NOT_FOUND, "Flow not found", "FLOW_NOT_FOUND", message)
                    .with("flow_id", id.as_str())
            }
            false => problem.into(),
        })
}

/// Refuses outputs that the flow does not have.
fn choose(plan: &Plan, wanted: &[String]) -> Result<(), Refusal> {
    if wanted.is_empty() {
        return Ok(());
    }
    let available: Vec<String> = plan.terminals().into_iter().map(|vertex| vertex.id).collect();
    let unknown: Vec<String> = wanted
        .iter()
        .filter(|id| !available.contains(id))
        .map(|id| format!("'{id:.200}'"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let message = format!("output_ids not produced by this flow: [{}].", unknown.join(", "));
    Err(Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "Unknown output_ids",
        "UNKNOWN_OUTPUT_IDS",
        message,
    )
    .with("available", available))
}

async fn prepare(
    app: &App,
    tenant: &Tenant,
    asked: Asked,
    flow: &Resolved,
    headers: &HeaderMap,
) -> Result<Workflow, Refusal> {
    let mut call = LangflowRun {
        input_value: Some(asked.input.clone()).filter(|input| !input.is_empty()),
        tweaks: Some(asked.tweaks.clone()),
        session_id: asked.session_id,
        ..LangflowRun::default()
    }
    .check()?;
    let mut variables = call::variables(headers)?;
    variables.extend(asked.globals);
    call.request.variables = variables.clone();
    let mut wanted = wanted(call, flow, app, headers)?;
    wanted.request.output_type = OutputType::Terminal;
    wanted.request.workflow = Some(asked.workflow);
    let mode = asked.workflow.mode;
    // As in Langflow, the key alone decides, and only where nobody waits.
    wanted.idempotency = asked
        .idempotency_key
        .filter(|_| mode == WorkflowMode::Background)
        .map(|key| Idempotency {
            key: format!("workflow-{}", hex_sha256(key.as_bytes())),
            digest: digest(&Value::from("workflow")),
        });
    flow.plan
        .check(&wanted.request)
        .map_err(|error| refused(&error))?;
    let (flow_id, session_id) = (flow.id.to_string(), wanted.request.session_id.clone());
    let run = draft(wanted, flow, tenant, trace_context(headers))?;
    let run = run.seal(&*app.blob).await?;
    let about = About {
        run: run.id,
        session_id: session_id.unwrap_or_else(|| flow_id.clone()),
        flow_id,
        input: asked.input,
        graph_state: asked.workflow.graph_state,
        plan: Arc::clone(&flow.plan),
    };
    let echo = Echo {
        inputs: asked.tweaks,
        globals: variables,
        output_ids: asked.output_ids,
    };
    Ok(Workflow {
        run: (run, mode),
        about,
        echo,
    })
}

/// What the flow does not take.
fn refused(error: &RequestError) -> Refusal {
    let fields: Vec<String> = error
        .problems
        .iter()
        .filter_map(|problem| problem.pointer.rsplit('/').next())
        .map(str::to_owned)
        .collect();
    let what = match error.code {
        "TWEAKS_REFUSED" => "Refused tweaks",
        _ => "The flow does not accept this request",
    };
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        what,
        error.code,
        error.to_string(),
    )
    .with("fields", fields)
}

fn duplicate(problem: Problem) -> Refusal {
    if problem.status != 409 {
        return problem.into();
    }
    let message = "A job with this idempotency_key is already there.";
    Refusal::new(
        StatusCode::CONFLICT,
        "Duplicate request",
        "DUPLICATE_REQUEST",
        message,
    )
}

/// The answer to who waited.
async fn ended(app: &App, view: RunView, about: &About, echo: Echo) -> Result<Response, Refusal> {
    let (run, flow_id) = (view.id, about.flow_id.clone());
    let status = match view.state {
        RunState::Succeeded => {
            let session = view.session_id.clone();
            let outputs = outputs(app, view).await?;
            let said = answer::completed(run, flow_id, session, &about.plan, &outputs, echo);
            return Ok(Json(said).into_response());
        }
        RunState::Cancelled => "cancelled",
        RunState::Failed if !is_timeout(&view) => "failed",
        _ => return Err(overdue(app, run, flow_id, &view)),
    };
    let said = answer::failed(run, flow_id, status, reason(&view), echo);
    Ok(Json(said).into_response())
}

pub(super) fn is_timeout(view: &RunView) -> bool {
    let kind = view.error.as_ref().map(|error| error.kind);
    view.state == RunState::Expired || kind == Some(RunErrorKind::Timeout)
}

fn overdue(app: &App, run: RunId, flow_id: String, view: &RunView) -> Refusal {
    let seconds = app.config.limits.wait_s;
    let message = match view.state.is_final() {
        true => reason(view).0,
        false => format!(
            "Workflow execution exceeded {seconds} seconds; it goes on: GET /api/v2/workflows?job_id={run} has its result"
        ),
    };
    Refusal::new(
        StatusCode::REQUEST_TIMEOUT,
        "Execution timeout",
        "EXECUTION_TIMEOUT",
        message,
    )
    .with("job_id", run.to_string())
    .with("flow_id", flow_id)
    .with("timeout_seconds", seconds)
}
