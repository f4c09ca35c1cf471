//! What workers are told: to drain, and to accept runs again. The wish is stored; the worker reads it within seconds.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use flowfleet_core::port::Wish;
use flowfleet_core::{Tenant, WorkerId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::{Admin, Caller};
use super::body;
use super::problem::{Code, Problem};
use super::query::NoQuery;
use super::runs::explain::workers;
use crate::app::{App, Shared};

/// The longest `handoff_s`: a week.
const MAX_HANDOFF_S: f64 = 604_800.0;

/// How to drain.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DrainBody {
    /// After so many seconds, runs that still execute go to other workers at their next node boundary, with what their
    /// finished nodes gave. That counts neither as an attempt nor as an interruption. When absent, they end where they are;
    /// flows that run in Python always do.
    pub handoff_s: Option<f64>,
}

/// What was wished of a worker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Wished {
    pub id: Uuid,
    /// `draining` or `accepting`.
    pub wished: &'static str,
    pub handoff_s: Option<f64>,
}

/// Drain a worker.
///
/// It takes no more runs within seconds, finishes what it has, and stays: its state is `draining` and then `drained`. For
/// admins of the tenant `default`, since workers serve all tenants.
#[utoipa::path(
    post, path = "/v1/fleet/workers/{id}/drain", tag = "fleet", request_body = Option<DrainBody>,
    params(("id" = Uuid, Path, description = "The worker")),
    responses(
        (status = 202, description = "The worker will read it", body = Wished),
        (status = 403, description = "Not an admin", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such worker is present", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "A bad body", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn drain_worker(
    Admin(caller): Admin,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Wished>), Problem> {
    let bytes = body::read(&headers, body, app.config.limits.body_bytes, "how to drain").await?;
    let wanted: DrainBody = body::optional_json(&bytes)?;
    let fine = |seconds: &f64| (0.0..=MAX_HANDOFF_S).contains(seconds);
    if wanted.handoff_s.is_some_and(|seconds| !fine(&seconds)) {
        let detail = format!("must be between 0 and {MAX_HANDOFF_S}");
        return Err(Problem::invalid("/handoff_s", &detail));
    }
    let handoff = wanted.handoff_s.map(Duration::from_secs_f64);
    wish(&app, &caller, &id, Wish::Drain { handoff }).await
}

/// Let a worker that was told to drain accept runs again.
#[utoipa::path(
    post, path = "/v1/fleet/workers/{id}/undrain", tag = "fleet",
    params(("id" = Uuid, Path, description = "The worker")),
    responses(
        (status = 202, description = "The worker will read it", body = Wished),
        (status = 403, description = "Not an admin", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such worker is present", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn undrain_worker(
    Admin(caller): Admin,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<(StatusCode, Json<Wished>), Problem> {
    wish(&app, &caller, &id, Wish::Accept).await
}

async fn wish(
    app: &App,
    caller: &Caller,
    id: &str,
    wish: Wish,
) -> Result<(StatusCode, Json<Wished>), Problem> {
    if caller.tenant != Tenant::default() {
        let detail = "workers serve all tenants: only admins of the tenant default tell them what to do";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let unknown = || Problem::not_found(format!("no worker {id} is present: see /v1/fleet/workers"));
    let worker: WorkerId = id.parse().map_err(|_| unknown())?;
    // Without the bus nobody knows who is present, and the wish may still reach the worker.
    if let Some(present) = workers(app).await
        && !present.iter().any(|other| other.id == worker)
    {
        return Err(unknown());
    }
    app.store.wish(worker, wish).await?;
    let (action, wished, handoff) = match wish {
        Wish::Drain { handoff } => ("worker.drain", "draining", handoff),
        Wish::Accept => ("worker.undrain", "accepting", None),
    };
    app.audit(&caller.actor(), action, &worker.to_string()).await;
    Ok((
        StatusCode::ACCEPTED,
        Json(Wished {
            id: worker.0,
            wished,
            handoff_s: handoff.map(|after| after.as_secs_f64()),
        }),
    ))
}
