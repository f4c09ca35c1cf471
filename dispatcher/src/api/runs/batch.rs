//! `POST /v1/runs/batch`: many runs in one commit, all or nothing.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use flowfleet_core::flow::FlowRef;
use flowfleet_core::port::{SubmitOutcome, UsedKey};
use flowfleet_core::run::{Idempotency, NewRun};
use flowfleet_core::{Tenant, TraceContext};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::submit::{idempotency_key, noticed, trace_context};
use crate::api::auth::Submit;
use crate::api::body;
use crate::api::problem::{Code, ErrorItem, Problem};
use crate::api::query::NoQuery;
use crate::app::{App, Shared};
use crate::submit::many::{Place, Wrong, is_ndjson, parse_all};
use crate::submit::parse::{Refused, SubmitRun, Wanted};
use crate::submit::prepare::{Draft, draft};
use crate::submit::resolve::Resolved;

/// Large inputs stored at once.
const SEALS: usize = 16;

/// The answer to a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchSubmitted {
    /// In the order of the batch.
    pub ids: Vec<Uuid>,
    /// Runs that were new.
    pub created: usize,
    /// Runs whose idempotency key was used before for the same request.
    pub existing: usize,
}

/// Submit many runs.
///
/// The body is a JSON array, or NDJSON: one run a line. All of them are stored or none is; a refusal names every bad
/// line. With the header `Idempotency-Key`, each run without a key of its own gets the header's key and its position,
/// so that a repeated batch makes nothing twice. A key that was used for another request refuses the batch (409); if it
/// was used through another dispatcher, that may show only once the other runs are stored, and the answer says so.
#[utoipa::path(
    post, path = "/v1/runs/batch", tag = "runs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the whole batch repeatable")),
    request_body(content((Vec<SubmitRun> = "application/json"), (String = "application/x-ndjson"))),
    responses(
        (status = 202, description = "All runs are stored", body = BatchSubmitted),
        (status = 409, description = "A key was used for another request", body = Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "Too many runs or bytes", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "Refused, with the bad lines; nothing was stored", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn submit_batch(
    Submit(caller): Submit,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<BatchSubmitted>), Problem> {
    let limits = app.config.limits.clone();
    let bytes = body::read(&headers, body, limits.batch_bytes, "a batch").await?;
    let key = idempotency_key(&headers)?;
    let lines = is_ndjson(&headers, &bytes);
    // Ten thousand bodies take a while to parse and check: away from the threads that serve others.
    let wanted = blocking(move || parse_all(&bytes, lines, &limits, key.as_deref())).await??;
    let mut flows: HashMap<FlowRef, Result<Arc<Resolved>, Problem>> = HashMap::new();
    for (_, wanted) in &wanted {
        if !flows.contains_key(&wanted.flow) {
            let resolved = app.flows.resolve(&caller.tenant, &wanted.flow).await;
            match resolved {
                Err(problem) if problem.status >= 500 => return Err(problem),
                resolved => flows.insert(wanted.flow.clone(), resolved),
            };
        }
    }
    refuse_used_keys(&app, &caller.tenant, &wanted).await?;
    let places: Vec<Place> = wanted.iter().map(|(place, _)| *place).collect();
    let (tenant, trace) = (caller.tenant.clone(), trace_context(&headers));
    let drafts = blocking(move || draft_all(wanted, &flows, &tenant, trace.as_ref())).await??;
    let blob = Arc::clone(&app.blob);
    let runs: Vec<NewRun> = stream::iter(drafts)
        .map(|draft| draft.seal(&*blob))
        .buffered(SEALS)
        .try_collect()
        .await?;
    let outcomes = app.committer.submit(runs).await?;
    let answer = answer(&outcomes, &places)?;
    for outcome in outcomes {
        if let SubmitOutcome::Created { state, .. } = outcome {
            noticed(&app, state);
        }
    }
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Refuses the batch while nothing of it is stored if a key of it was used for another request.
async fn refuse_used_keys(app: &App, tenant: &Tenant, wanted: &[(Place, Wanted)]) -> Result<(), Problem> {
    let keyed = || {
        wanted
            .iter()
            .filter_map(|(place, wanted)| Some((place, wanted.idempotency.as_ref()?)))
    };
    let keys: Vec<&str> = keyed().map(|(_, idempotency)| idempotency.key.as_str()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let used = app.store.used_keys(tenant, &keys).await?;
    let used: HashMap<&str, &UsedKey> = used.iter().map(|used| (used.key.as_str(), used)).collect();
    let mut wrong = Wrong::default();
    for (place, Idempotency { key, digest }) in keyed() {
        if let Some(used) = used.get(key.as_str()).filter(|used| used.digest != *digest) {
            let detail = format!("was used before, for another request, and made run {}", used.run);
            let error = ErrorItem::new("/idempotency_key", detail);
            wrong.add(*place, Code::IdempotencyConflict, [error]);
        }
    }
    wrong.verdict()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "checking a batch panicked");
        Problem::internal()
    })
}

fn answer(outcomes: &[SubmitOutcome], places: &[Place]) -> Result<BatchSubmitted, Problem> {
    let mut answer = BatchSubmitted {
        ids: Vec::with_capacity(outcomes.len()),
        created: 0,
        existing: 0,
    };
    let mut conflicts = Vec::new();
    for (place, outcome) in places.iter().zip(outcomes) {
        match outcome {
            SubmitOutcome::Created { id, .. } => {
                answer.created += 1;
                answer.ids.push(id.0);
            }
            SubmitOutcome::Existing { id, .. } => {
                answer.existing += 1;
                answer.ids.push(id.0);
            }
            SubmitOutcome::Conflict { id } => {
                let detail = format!("was used before, for another request, and made run {id}");
                conflicts.push(place.error(ErrorItem::new("/idempotency_key", detail)));
            }
        }
    }
    if conflicts.is_empty() {
        return Ok(answer);
    }
    let mut problem = Problem::of(Code::IdempotencyConflict, conflicts);
    let stored = answer.ids.len();
    let advice = "send the batch with an Idempotency-Key to be able to repeat it";
    problem.detail = format!(
        "{}; {stored} runs of the batch are stored: {advice}",
        problem.detail
    );
    Err(problem)
}

fn draft_all(
    wanted: Vec<(Place, Wanted)>,
    flows: &HashMap<FlowRef, Result<Arc<Resolved>, Problem>>,
    tenant: &Tenant,
    trace: Option<&TraceContext>,
) -> Result<Vec<Draft>, Problem> {
    let mut wrong = Wrong::default();
    let mut drafts = Vec::with_capacity(wanted.len());
    for (place, wanted) in wanted {
        match flows.get(&wanted.flow) {
            None => return Err(Problem::internal()),
            Some(Err(problem)) => {
                let code = [Code::FlowNotFound, Code::FlowInvalid]
                    .into_iter()
                    .find(|code| code.as_str() == problem.code)
                    .unwrap_or(Code::FlowUnsupported);
                wrong.add(place, code, problem.errors.clone());
            }
            Some(Ok(flow)) => match draft(wanted, flow, tenant, trace.cloned()) {
                Ok(draft) => drafts.push(draft),
                Err(Refused { code, errors }) => wrong.add(place, code, errors),
            },
        }
    }
    wrong.verdict()?;
    Ok(drafts)
}
