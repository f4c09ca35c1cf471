//! `POST /v1/runs`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flowfleet_core::port::SubmitOutcome;
use flowfleet_core::run::NewRun;
use flowfleet_core::{RunId, RunState, TraceContext};
use flowfleet_runtime::trace;
use uuid::Uuid;

use super::{Run, Submitted, get};
use crate::api::auth::Submit;
use crate::api::body;
use crate::api::limits::Turn;
use crate::api::problem::{Code, Problem};
use crate::api::query::Query;
use crate::app::{App, Shared};
use crate::submit::parse::{self, SubmitRun, check_key};
use crate::submit::prepare::draft;

/// Submit a run.
///
/// Answers 202 once the run is stored: from then on it is not lost. A repeated idempotency key answers 200 with the
/// run of that time. With `wait_s` the answer comes when the run ends (200) or the time is over (202), with the whole
/// run.
#[utoipa::path(
    post, path = "/v1/runs", tag = "runs",
    params(
        ("wait_s" = Option<f64>, Query, minimum = 0, description = "Answer when the run ends or after this many seconds"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body answer with the same run"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, carried to the worker"),
    ),
    request_body = SubmitRun,
    responses(
        (status = 202, description = "Stored; with wait_s: has not ended yet, and the body is a Run", body = Submitted),
        (status = 200, description = "The run of an earlier request with the same key; with wait_s: it has ended, and \
            the body is a Run", body = Submitted),
        (status = 409, description = "The key was used for another request", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "Refused, with the places in the body", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or the store is away: try again", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn submit_run(
    Submit(caller): Submit,
    State(app): State<Shared>,
    turn: Turn,
    mut query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let (Parts { headers, .. }, body) = request.into_parts();
    let wait = query.wait(app.config.limits.wait_s)?;
    query.finish()?;
    let bytes = body::read(&headers, body, app.config.limits.body_bytes, "a run").await?;
    let key = idempotency_key(&headers)?;
    let wanted = parse::parse(&bytes, &app.config.limits, key.as_deref())?;
    drop(bytes);
    let flow = app.flows.resolve(&caller.tenant, &wanted.flow).await?;
    let run = draft(wanted, &flow, &caller.tenant, trace_context(&headers))?
        .seal(&*app.blob)
        .await?;
    let stored = store(&app, run).await?;
    let Some(wait) = wait else {
        return Ok(stored.response());
    };
    turn.release();
    let Some(view) = get::ended(&app, &caller.tenant, RunId(stored.body.id), wait).await? else {
        return Err(Problem::internal());
    };
    let status = if view.state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let location = location(view.id.0);
    Ok((
        status,
        [(header::LOCATION, location)],
        Json(Run::full(view, &*app.blob).await?),
    )
        .into_response())
}

/// One stored run and how to answer.
#[derive(Debug)]
pub(crate) struct Stored {
    pub body: Submitted,
}

impl Stored {
    pub(crate) fn response(self) -> Response {
        let status = if self.body.created {
            StatusCode::ACCEPTED
        } else {
            StatusCode::OK
        };
        let location = location(self.body.id);
        (status, [(header::LOCATION, location)], Json(self.body)).into_response()
    }
}

/// Commits one run.
pub(crate) async fn store(app: &App, run: NewRun) -> Result<Stored, Problem> {
    let (flow, version) = (run.flow.name.as_str().to_owned(), run.flow.version);
    let (queue, priority) = (run.queue.as_str().to_owned(), run.priority.as_str());
    let outcome = app
        .committer
        .submit(vec![run])
        .await?
        .pop()
        .ok_or_else(Problem::internal)?;
    let (id, state, created) = match outcome {
        SubmitOutcome::Created { id, state } => (id, state, true),
        SubmitOutcome::Existing { id, state } => (id, state, false),
        SubmitOutcome::Conflict { id } => {
            let detail =
                format!("the idempotency key was used before, for another request, and made run {id}");
            return Err(Problem::new(Code::IdempotencyConflict, detail));
        }
    };
    noticed(app, state);
    Ok(Stored {
        body: Submitted {
            id: id.0,
            state: state.as_str(),
            flow,
            version,
            queue,
            priority,
            created,
        },
    })
}

/// Wakes the scheduler for a run that waits for its time.
pub(crate) fn noticed(app: &App, state: RunState) {
    if state == RunState::Scheduled {
        app.scheduled.notify_one();
    }
}

/// The header `Idempotency-Key`, checked.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let refuse = |detail: &str| Problem::new(Code::Invalid, format!("header Idempotency-Key: {detail}"));
    let key = value
        .to_str()
        .map_err(|_| refuse("only visible ASCII is allowed"))?;
    check_key(key).map_err(|detail| refuse(&detail))?;
    Ok(Some(key.to_owned()))
}

/// The trace a run belongs to: of this request's span where traces are exported, else what the client sent.
pub(crate) fn trace_context(headers: &HeaderMap) -> Option<TraceContext> {
    trace::current().or_else(|| trace::parse(headers))
}

fn location(id: Uuid) -> HeaderValue {
    let mut digits = Uuid::encode_buffer();
    let path = ["/v1/runs/", id.as_hyphenated().encode_lower(&mut digits)].concat();
    HeaderValue::try_from(path).unwrap_or_else(|_| HeaderValue::from_static("/v1/runs"))
}
