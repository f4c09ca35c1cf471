//! Jobs of `/api/v2/workflows`: how one is, what happens in it, and stopping it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use flowfleet_core::port::CancelOutcome;
use flowfleet_core::run::{RunInput, RunView};
use flowfleet_core::{RunId, RunState, Tenant};
use flowfleet_engine::{LangflowCall, Workflow, WorkflowMode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Refusal;
use super::answer::{self, Echo, WorkflowExecution, WorkflowJob};
use super::execute::is_timeout;
use super::refusal::Wrong;
use super::stream::{self, Numbering, last_seen};
use super::tell::About;
use crate::api::auth::{Read, Submit};
use crate::api::body;
use crate::api::langflow::run::{outputs, reason};
use crate::api::problem::Problem;
use crate::api::query::{self, NoQuery, Query};
use crate::api::runs::cancel::cancel;
use crate::api::runs::open;
use crate::app::{App, Shared};

/// Which job to stop.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct WorkflowStop {
    pub job_id: Uuid,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowStopped {
    pub job_id: Uuid,
    pub message: String,
}

/// A decision for a workflow that waits for one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowResume {
    pub request_id: String,
    #[schema(value_type = Option<Object>)]
    pub decision: Option<Value>,
}

/// A run that was made as a workflow.
struct Job {
    view: RunView,
    input: RunInput,
    flow_id: String,
    workflow: Workflow,
}

async fn find(app: &App, tenant: &Tenant, run: RunId) -> Result<Option<Job>, Problem> {
    let Some(mut view) = app.store.get(tenant, run).await? else {
        return Ok(None);
    };
    let input = open(&*app.blob, view.input.take()).await?;
    let Ok(mut input) = serde_json::from_value::<RunInput>(input) else {
        return Ok(None);
    };
    let call = serde_json::from_value::<LangflowCall>(input.langflow.take());
    let job = |call: LangflowCall| {
        Some(Job {
            view,
            input,
            flow_id: call.flow_id,
            workflow: call.workflow?,
        })
    };
    Ok(call.ok().and_then(job))
}

fn missing(error: &str, message: String, id: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, error, "JOB_NOT_FOUND", message).with("job_id", id)
}

/// How a job is: the job while it goes on, what it gave when it has ended.
///
/// A job that failed answers 500, one that took too long 408.
#[utoipa::path(
    get, path = "/api/v2/workflows", tag = "langflow",
    params(("job_id" = Uuid, Query, description = "The job")),
    responses(
        (status = 200, description = "A workflow that has ended, or a job",
            content((WorkflowExecution = "application/json"), (WorkflowJob = "application/json"))),
        (status = 400, description = "The job is missing", body = Refusal),
        (status = 404, description = "No such job", body = Refusal),
        (status = 408, description = "It took too long", body = Refusal),
        (status = 422, description = "A parameter is not valid",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
        (status = 500, description = "It failed", content((Refusal = "application/json"), (Problem = "application/problem+json"))),
        (status = 503, description = "Too busy, or a backend is away",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
    ),
)]
pub(crate) async fn workflow_status(
    Read(caller): Read,
    State(app): State<Shared>,
    mut query: Query,
) -> Result<Response, Refusal> {
    let asked = query.one("job_id")?;
    query.finish()?;
    let Some(id) = asked.filter(|id| !id.is_empty()) else {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "Missing required parameter",
            "MISSING_PARAMETER",
            "Job ID must be provided",
        ));
    };
    let Ok(run) = id.parse::<RunId>() else {
        return Err(Refusal::fields(vec![Wrong::no_uuid(
            &["query", "job_id"],
            "job_id",
        )]));
    };
    let none = || {
        missing(
            "Workflow job not found",
            format!("Workflow job {run} not found"),
            &run.to_string(),
        )
    };
    let job = find(&app, &caller.tenant, run).await?.ok_or_else(none)?;
    let (view, flow_id) = (job.view, job.flow_id);
    let status = match view.state {
        RunState::Succeeded => {
            let plan = app.flows.plan(&caller.tenant, &view.flow).await?;
            let session = view.session_id.clone();
            let outputs = outputs(&app, view).await?;
            let said = answer::completed(run, flow_id, session, &plan, &outputs, Echo::default());
            return Ok(Json(said).into_response());
        }
        _ if is_timeout(&view) => {
            let refusal = Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "Execution timeout",
                "EXECUTION_TIMEOUT",
                reason(&view).0,
            );
            return Err(refusal.with("job_id", run.to_string()).with("flow_id", flow_id));
        }
        RunState::Failed => return Err(failed(&view)),
        RunState::Cancelled => "cancelled",
        // It is stopped, if its worker has not come to know it yet.
        _ if view.cancel_requested => "cancelled",
        RunState::Running => "in_progress",
        _ => "queued",
    };
    Ok(Json(answer::job(run, flow_id, status)).into_response())
}

fn failed(view: &RunView) -> Refusal {
    let (message, code) = reason(view);
    let node = view.error.as_ref().and_then(|error| error.node.as_deref());
    let refusal = Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Job failed",
        "JOB_FAILED",
        format!("Job {} has failed execution.", view.id),
    );
    let detail = json!({"error": message, "text": message, "type": code, "component_id": node});
    refusal
        .with("job_id", view.id.to_string())
        .with("error_detail", detail)
}

/// The events of a job: first those that happened, then as they happen, until its end.
///
/// Each has an `id`; send the last one seen as `Last-Event-ID` to go on after it. Tokens have the id of the event before
/// them and are not repeated.
#[utoipa::path(
    get, path = "/api/v2/workflows/{job}/events", tag = "langflow",
    params(
        ("job" = Uuid, Path, description = "The job"),
        ("Last-Event-ID" = Option<String>, Header, description = "Only events after this one"),
    ),
    responses(
        (status = 200, description = "Events, as those of a stream", body = String, content_type = "text/event-stream"),
        (status = 404, description = "No such job", body = Refusal),
        (status = 500, description = "A fault of this server", body = Refusal),
        (status = 503, description = "Too busy, or a backend is away",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
    ),
)]
pub(crate) async fn workflow_events(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id: String = id.chars().take(64).collect();
    let found = match id.parse::<RunId>() {
        Ok(run) => find(&app, &caller.tenant, run).await?,
        Err(_) => None,
    };
    let none = || {
        let message = format!("No background run for job {id}.");
        missing("Background run not found", message, &id)
    };
    let job = found.ok_or_else(none)?;
    let plan = app.flows.plan(&caller.tenant, &job.view.flow).await?;
    let about = About {
        run: job.view.id,
        session_id: job.view.session_id.unwrap_or_else(|| job.flow_id.clone()),
        flow_id: job.flow_id,
        input: job.input.input.as_str().unwrap_or_default().to_owned(),
        graph_state: job.workflow.graph_state,
        plan: Arc::clone(&plan),
    };
    let listener = app.listen()?;
    let follower = stream::follow(&app, &caller.tenant, about.run).await;
    let numbering = Numbering::Lasting {
        after: last_seen(&headers),
    };
    let tenant = caller.tenant;
    Ok(stream::respond(app, tenant, about, follower, numbering, listener))
}

/// Stop a job of the background.
#[utoipa::path(
    post, path = "/api/v2/workflows/stop", tag = "langflow", request_body = WorkflowStop,
    responses(
        (status = 200, description = "It is stopped, or had ended", body = WorkflowStopped),
        (status = 404, description = "No such job", body = Refusal),
        (status = 409, description = "It is not of the background", body = Refusal),
        (status = 413, description = "The body is too large", body = Refusal),
        (status = 422, description = "The body is not valid",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
        (status = 500, description = "A fault of this server", content((Refusal = "application/json"), (Problem = "application/problem+json"))),
        (status = 503, description = "Too busy, or a backend is away",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
    ),
)]
pub(crate) async fn stop_workflow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<WorkflowStopped>, Refusal> {
    let bytes = body::read(&headers, body, app.config.limits.body_bytes, "a job").await?;
    let run = job_in(&bytes)?;
    let none = || missing("Job not found", format!("Job {run} not found"), &run.to_string());
    let job = find(&app, &caller.tenant, run).await?.ok_or_else(none)?;
    if job.workflow.mode != WorkflowMode::Background {
        let refusal = Refusal::new(
            StatusCode::CONFLICT,
            "Job cannot be stopped",
            "JOB_NOT_CANCELLABLE",
            "Only background workflow jobs can be stopped.",
        );
        return Err(refusal
            .with("job_id", run.to_string())
            .with("mode", job.workflow.mode.as_str()));
    }
    let already = job.view.cancel_requested;
    let said = match cancel(&app, &caller.tenant, run).await? {
        CancelOutcome::NotFound => return Err(none()),
        CancelOutcome::AlreadyFinal(RunState::Cancelled) => "is already cancelled",
        CancelOutcome::AlreadyFinal(RunState::Succeeded) => "already finished (completed)",
        CancelOutcome::AlreadyFinal(_) if is_timeout(&job.view) => "already finished (timed_out)",
        CancelOutcome::AlreadyFinal(_) => "already finished (failed)",
        CancelOutcome::Requested { .. } if already => "is already cancelled",
        CancelOutcome::Cancelled | CancelOutcome::Requested { .. } => {
            app.audit(&caller.actor(), "run.cancel", &run.to_string()).await;
            "cancelled successfully"
        }
    };
    Ok(Json(WorkflowStopped {
        job_id: run.0,
        message: format!("Job {run} {said}."),
    }))
}

/// The job that a body names.
fn job_in(bytes: &[u8]) -> Result<RunId, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::fields(vec![Wrong::missing(&["body"])]));
    }
    let body: Value = serde_json::from_slice(bytes)
        .map_err(|error| Refusal::fields(vec![Wrong::no_json(error.column())]))?;
    let place = ["body", "job_id"];
    match body.get("job_id") {
        None => Err(Refusal::fields(vec![Wrong::missing(&place)])),
        Some(Value::String(id)) if id.parse::<RunId>().is_ok() => {
            id.parse().map_err(|_| Problem::internal().into())
        }
        Some(_) => Err(Refusal::fields(vec![Wrong::no_uuid(&place, "job_id")])),
    }
}

/// Workflows that wait for a decision: none, since no component here asks for one.
#[utoipa::path(
    get, path = "/api/v2/workflows/pending", tag = "langflow",
    params(("flow_id" = Uuid, Query, description = "The flow")),
    responses((status = 200, description = "None", body = Vec<Value>)),
)]
pub(crate) async fn pending_workflows(Read(_): Read, mut query: Query) -> Result<Json<Vec<Value>>, Problem> {
    let flow = query.parsed::<Uuid>("flow_id")?;
    query.finish()?;
    match flow {
        Some(_) => Ok(Json(Vec::new())),
        None => Err(query::refuse("query parameter \"flow_id\" is missing".to_owned())),
    }
}

/// Go on with a workflow that waits for a decision: refused, since none does.
#[utoipa::path(
    post, path = "/api/v2/workflows/{job}/resume", tag = "langflow",
    params(("job" = Uuid, Path, description = "The job")),
    request_body = WorkflowResume,
    responses(
        (status = 404, description = "No such job", body = Refusal),
        (status = 409, description = "It does not wait", body = Refusal),
        (status = 413, description = "The body is too large", body = Refusal),
        (status = 422, description = "The body broke off",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
        (status = 500, description = "A fault of this server", body = Refusal),
        (status = 503, description = "Too busy, or a backend is away",
            content((Refusal = "application/json"), (Problem = "application/problem+json"))),
    ),
)]
pub(crate) async fn resume_workflow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(), Refusal> {
    // A connection with the rest of a body in it would have to be closed.
    body::read(&headers, body, app.config.limits.body_bytes, "a decision").await?;
    let id: String = id.chars().take(64).collect();
    let found = match id.parse::<RunId>() {
        Ok(run) => find(&app, &caller.tenant, run).await?,
        Err(_) => None,
    };
    if found.is_none() {
        // Langflow has no message here.
        let detail = json!({"error": "Workflow job not found", "code": "JOB_NOT_FOUND", "job_id": id});
        return Err(Refusal::of(StatusCode::NOT_FOUND, detail));
    }
    let refusal = Refusal::new(
        StatusCode::CONFLICT,
        "Job is not resumable",
        "NOT_RESUMABLE",
        "Job is not suspended, already resumed, or the request_id is stale.",
    );
    Err(refusal.with("job_id", id))
}
