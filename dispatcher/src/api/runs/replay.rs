//! Replaying: a new run with the input, flow version and settings of one that has ended.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use flowfleet_core::port::SubmitOutcome;
use flowfleet_core::run::{Idempotency, NewRun, RunView};
use flowfleet_core::{Payload, RunId, RunState, Tenant, TraceContext};
use flowfleet_runtime::payload;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::cancel::{ABREAST, FilterBody, matching, read_filter};
use super::submit::{idempotency_key, noticed, store, trace_context};
use super::{Submitted, no_such_run, run_id};
use crate::api::auth::Submit;
use crate::api::body;
use crate::api::problem::{Code, Problem};
use crate::api::query::NoQuery;
use crate::app::{App, Shared};
use crate::submit::parse::digest;

/// New runs committed together when replaying by filter.
const CHUNK: usize = 200;

/// Replaying takes no settings: the run is repeated as it was.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReplayBody {}

/// The answer to a replay by filter.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ReplayCounts {
    pub dry_run: bool,
    /// Runs that match and have ended.
    pub matched: u32,
    /// New runs.
    pub created: u32,
    /// The first thousand of the new runs.
    pub ids: Vec<Uuid>,
    /// More runs match than one call replays.
    pub more: bool,
}

/// Replay a run that has ended.
///
/// The new run has the same flow version, input, settings, queue and labels, and names the old one in `replay_of`.
#[utoipa::path(
    post, path = "/v1/runs/{id}/replay", tag = "runs",
    params(
        ("id" = Uuid, Path, description = "The run to repeat"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key answers with the same new run"),
    ),
    request_body = Option<ReplayBody>,
    responses(
        (status = 202, description = "The new run", body = Submitted),
        (status = 200, description = "The new run of an earlier request with the same key", body = Submitted),
        (status = 404, description = "No such run", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not ended", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn replay_run(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = body::read(&headers, body, app.config.limits.body_bytes, "a replay").await?;
    let ReplayBody {} = body::optional_json(&bytes)?;
    let id = run_id(&id)?;
    let key = idempotency_key(&headers)?;
    let view = app
        .store
        .get(&caller.tenant, id)
        .await?
        .ok_or_else(|| no_such_run(id))?;
    if !view.state.is_final() {
        let detail = format!(
            "run {id} is {}: only a run that has ended can be replayed",
            view.state.as_str()
        );
        return Err(Problem::new(Code::WrongState, detail));
    }
    let mut run = repeat(&app, view, trace_context(&headers)).await?;
    run.idempotency = key.map(|key| Idempotency {
        key,
        digest: digest(&format!("replay {id}").into()),
    });
    let stored = store(&app, run).await?;
    let target = format!("{id} as {}", stored.body.id);
    app.audit(&caller.actor(), "run.replay", &target).await;
    Ok(stored.response())
}

/// Replay all ended runs that match a filter: those that failed unless states are given.
#[utoipa::path(
    post, path = "/v1/runs/replay", tag = "runs", request_body = FilterBody,
    responses(
        (status = 200, description = "How many", body = ReplayCounts),
        (status = 422, description = "A bad filter", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn replay_runs(
    Submit(caller): Submit,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReplayCounts>, Problem> {
    let wanted = read_filter(&app, &headers, body).await?;
    let ended = [
        RunState::Succeeded,
        RunState::Failed,
        RunState::Cancelled,
        RunState::Expired,
    ];
    let filter = wanted.filter(
        &[RunState::Failed],
        &ended,
        "only runs that have ended can be replayed",
    )?;
    let (matched, more) = matching(&app, &caller.tenant, filter, wanted.most()?).await?;
    let mut counts = ReplayCounts {
        dry_run: wanted.dry_run,
        matched: matched.len() as u32,
        more,
        ..ReplayCounts::default()
    };
    if wanted.dry_run {
        return Ok(Json(counts));
    }
    let trace = trace_context(&headers);
    // Oldest first, so that the new runs have the order of the old ones.
    let ids: Vec<RunId> = matched.iter().rev().map(|view| view.id).collect();
    for chunk in ids.chunks(CHUNK) {
        let created = replay_chunk(&app, &caller.tenant, chunk, trace.as_ref()).await?;
        counts.created += created.len() as u32;
        counts.ids.extend(created.iter().map(|id| id.0));
        counts.ids.truncate(1_000);
    }
    app.audit(
        &caller.actor(),
        "runs.replay",
        &format!("{} runs by filter", counts.created),
    )
    .await;
    Ok(Json(counts))
}

async fn replay_chunk(
    app: &App,
    tenant: &Tenant,
    ids: &[RunId],
    trace: Option<&TraceContext>,
) -> Result<Vec<RunId>, Problem> {
    let runs: Vec<Option<NewRun>> = stream::iter(ids.iter().copied())
        .map(|id| async move {
            match app.store.get(tenant, id).await? {
                Some(view) => repeat(app, view, trace.cloned()).await.map(Some),
                None => Ok::<_, Problem>(None),
            }
        })
        .buffered(ABREAST)
        .try_collect()
        .await?;
    let outcomes = app.committer.submit(runs.into_iter().flatten().collect()).await?;
    let created = outcomes.into_iter().filter_map(|outcome| match outcome {
        SubmitOutcome::Created { id, state } => {
            noticed(app, state);
            Some(id)
        }
        SubmitOutcome::Existing { .. } | SubmitOutcome::Conflict { .. } => None,
    });
    Ok(created.collect())
}

/// A new run that repeats `view`. A payload in the blob store is copied under the new run's key, so that each run
/// owns its blobs.
async fn repeat(app: &App, view: RunView, trace: Option<TraceContext>) -> Result<NewRun, Problem> {
    let id = RunId::generate();
    let input = match view.input.unwrap_or_else(Payload::null) {
        Payload::Inline(value) => Payload::Inline(value),
        stored => {
            let value = payload::open(&*app.blob, &stored).await?;
            payload::seal(&*app.blob, id, "input", value).await?
        }
    };
    Ok(NewRun {
        id,
        tenant: view.tenant,
        flow: view.flow,
        queue: view.queue,
        needs: view.needs,
        priority: view.priority,
        input,
        settings: view.settings,
        session_id: view.session_id,
        labels: view.labels,
        run_at: None,
        expires_at: None,
        reckoned_at: None,
        idempotency: None,
        trace,
        replay_of: Some(view.id),
    })
}
