//! `GET /v1/runs/{id}/explain`: gathers the facts; [`super::sentences`] says what they mean.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use flowfleet_core::RunState;
use flowfleet_core::port::WorkerPresence;
use flowfleet_core::run::RunView;
use jiff::Timestamp;
use tokio::time::timeout;

use super::sentences::{Explanation, Facts, explain};
use super::{no_such_run, run_id};
use crate::api::auth::Read;
use crate::api::problem::Problem;
use crate::api::query::NoQuery;
use crate::app::{App, Shared};

/// Runs ahead that are counted at most.
pub(crate) const AHEAD: u32 = 10_000;
const PRESENCE: Duration = Duration::from_secs(2);

/// Why a run is where it is.
#[utoipa::path(
    get, path = "/v1/runs/{id}/explain", tag = "runs",
    params(("id" = uuid::Uuid, Path, description = "The run")),
    responses(
        (status = 200, description = "In sentences and as data", body = Explanation),
        (status = 404, description = "No such run", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn explain_run(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Explanation>, Problem> {
    let id = run_id(&id)?;
    let view = app
        .store
        .get(&caller.tenant, id)
        .await?
        .ok_or_else(|| no_such_run(id))?;
    let facts = gather(&app, &view).await?;
    Ok(Json(explain(&view, &facts)))
}

async fn gather(app: &App, view: &RunView) -> Result<Facts, Problem> {
    let mut facts = Facts {
        now: Timestamp::now(),
        ahead: None,
        workers: None,
        backlog: Vec::new(),
        not_native: None,
    };
    if view.state.is_final() {
        return Ok(facts);
    }
    facts.workers = workers(app).await;
    if view.state == RunState::Queued {
        facts.ahead = Some(app.store.ahead_of(view.id, AHEAD).await?);
        let backlog = app.store.backlog().await?;
        facts.backlog = backlog
            .into_iter()
            .filter(|line| line.queue == view.queue && line.needs == view.needs)
            .collect();
    }
    if !view.needs.is_native() {
        let plan = app.flows.plan(&view.tenant, &view.flow).await?;
        facts.not_native = plan.unsupported().first().map(|node| node.reason.clone());
    }
    Ok(facts)
}

/// Workers present; `None` when the bus does not say.
pub(crate) async fn workers(app: &App) -> Option<Vec<WorkerPresence>> {
    match timeout(PRESENCE, app.bus.workers()).await {
        Ok(Ok(workers)) => Some(workers),
        _ => None,
    }
}
