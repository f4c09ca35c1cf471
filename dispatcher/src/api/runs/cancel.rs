//! Cancelling one run, or all that match a filter.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use flowfleet_core::port::{CancelOutcome, Live, RunFilter};
use flowfleet_core::run::RunView;
use flowfleet_core::{FlowName, Labels, QueueName, RunId, RunState, Tenant};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{no_such_run, run_id};
use crate::api::auth::Submit;
use crate::api::body;
use crate::api::problem::{Code, ErrorItem, Problem};
use crate::api::query::NoQuery;
use crate::app::{App, Shared};

/// Runs that one call by filter touches at most.
pub(crate) const MOST: u32 = 10_000;
/// Runs worked on at once.
pub(crate) const ABREAST: usize = 16;
const PAGE: u32 = 500;

/// What became of a request to cancel.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Cancelled {
    pub id: Uuid,
    /// `cancelled`, or `running` until its worker has stopped it.
    pub state: &'static str,
    pub cancel_requested: bool,
}

/// Which runs a call by filter means. At least one criterion, or `all`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FilterBody {
    pub state: Vec<String>,
    pub flow: Option<String>,
    pub queue: Option<String>,
    /// All must match.
    pub labels: BTreeMap<String, String>,
    /// Created at or after.
    pub since: Option<String>,
    /// Created before.
    pub until: Option<String>,
    /// Says that no criterion is meant.
    pub all: bool,
    /// Runs to touch at most: 10000 when absent.
    pub limit: Option<u32>,
    /// Only count.
    pub dry_run: bool,
}

/// The answer to a call by filter.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CancelCounts {
    pub dry_run: bool,
    /// Runs that match and had not ended.
    pub matched: u32,
    /// Had not started: cancelled.
    pub cancelled: u32,
    /// Run: their workers were asked to stop.
    pub requested: u32,
    /// Ended before the call reached them.
    pub already_final: u32,
    /// More runs match than one call touches: repeat it.
    pub more: bool,
}

/// Cancel a run.
///
/// A waiting run is cancelled at once (200). A running one is stopped by its worker within about a second (202). A run
/// that was cancelled before is fine (200); one that ended otherwise is refused (409).
#[utoipa::path(
    post, path = "/v1/runs/{id}/cancel", tag = "runs",
    params(("id" = Uuid, Path, description = "The run")),
    responses(
        (status = 200, description = "Cancelled", body = Cancelled),
        (status = 202, description = "Its worker was asked to stop it", body = Cancelled),
        (status = 404, description = "No such run", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended already", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel_run(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<(StatusCode, Json<Cancelled>), Problem> {
    let id = run_id(&id)?;
    let outcome = cancel(&app, &caller.tenant, id).await?;
    let (status, state, requested) = match outcome {
        CancelOutcome::NotFound => return Err(no_such_run(id)),
        CancelOutcome::AlreadyFinal(RunState::Cancelled) => (StatusCode::OK, RunState::Cancelled, true),
        CancelOutcome::AlreadyFinal(state) => {
            let detail = format!(
                "run {id} has ended already: it {} and cannot be cancelled",
                was(state)
            );
            return Err(Problem::new(Code::WrongState, detail));
        }
        CancelOutcome::Cancelled => (StatusCode::OK, RunState::Cancelled, true),
        CancelOutcome::Requested { .. } => (StatusCode::ACCEPTED, RunState::Running, true),
    };
    if !matches!(outcome, CancelOutcome::AlreadyFinal(_)) {
        app.audit(&caller.actor(), "run.cancel", &id.to_string()).await;
    }
    Ok((
        status,
        Json(Cancelled {
            id: id.0,
            state: state.as_str(),
            cancel_requested: requested,
        }),
    ))
}

/// Cancel all runs that match a filter.
#[utoipa::path(
    post, path = "/v1/runs/cancel", tag = "runs", request_body = FilterBody,
    responses(
        (status = 200, description = "How many", body = CancelCounts),
        (status = 422, description = "A bad filter", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel_runs(
    Submit(caller): Submit,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CancelCounts>, Problem> {
    let wanted = read_filter(&app, &headers, body).await?;
    let live = [
        RunState::Scheduled,
        RunState::Blocked,
        RunState::Queued,
        RunState::Running,
    ];
    let filter = wanted.filter(&live, &live, "runs that have ended cannot be cancelled")?;
    let (matched, more) = matching(&app, &caller.tenant, filter, wanted.most()?).await?;
    let mut counts = CancelCounts {
        dry_run: wanted.dry_run,
        matched: matched.len() as u32,
        more,
        ..CancelCounts::default()
    };
    if wanted.dry_run {
        return Ok(Json(counts));
    }
    let outcomes: Vec<CancelOutcome> = stream::iter(matched)
        .map(|view| {
            let (app, tenant) = (&app, &caller.tenant);
            async move { cancel(app, tenant, view.id).await }
        })
        .buffer_unordered(ABREAST)
        .try_collect()
        .await?;
    for outcome in outcomes {
        match outcome {
            CancelOutcome::Cancelled => counts.cancelled += 1,
            CancelOutcome::Requested { .. } => counts.requested += 1,
            CancelOutcome::AlreadyFinal(_) | CancelOutcome::NotFound => counts.already_final += 1,
        }
    }
    let target = format!("{} runs by filter", counts.cancelled + counts.requested);
    app.audit(&caller.actor(), "runs.cancel", &target).await;
    Ok(Json(counts))
}

/// Cancels one run and tells whoever listens: its worker, or those who follow it.
pub(crate) async fn cancel(app: &App, tenant: &Tenant, id: RunId) -> Result<CancelOutcome, Problem> {
    let outcome = app.store.cancel(tenant, id).await?;
    // The bus is a hint: the heartbeat of the worker and the next look of a follower find out by themselves.
    let told = match &outcome {
        CancelOutcome::Requested { .. } => app.bus.cancel(id).await,
        CancelOutcome::Cancelled => match app.store.events(tenant, id, 0, 1_000).await? {
            Some(events) if !events.is_empty() => app.bus.publish(vec![Live::Events { events }]).await,
            _ => Ok(()),
        },
        CancelOutcome::AlreadyFinal(_) | CancelOutcome::NotFound => Ok(()),
    };
    if let Err(error) = told {
        tracing::debug!(%error, run = %id, "a cancellation was not announced");
    }
    Ok(outcome)
}

pub(crate) async fn read_filter(app: &App, headers: &HeaderMap, body: Body) -> Result<FilterBody, Problem> {
    let bytes = body::read(headers, body, app.config.limits.body_bytes, "a filter").await?;
    body::optional_json(&bytes)
}

impl FilterBody {
    /// The filter with its states, which must be among `allowed`; `default` when none is given.
    pub(crate) fn filter(
        &self,
        default: &[RunState],
        allowed: &[RunState],
        why: &str,
    ) -> Result<RunFilter, Problem> {
        let mut errors = Vec::new();
        let mut states = Vec::new();
        for (index, text) in self.state.iter().enumerate() {
            match text.parse::<RunState>() {
                Ok(state) if allowed.contains(&state) => states.push(state),
                Ok(_) => errors.push(ErrorItem::new(format!("/state/{index}"), why)),
                Err(detail) => errors.push(ErrorItem::new(format!("/state/{index}"), detail)),
            }
        }
        fn take<T: std::str::FromStr>(
            text: Option<&String>,
            at: &str,
            errors: &mut Vec<ErrorItem>,
        ) -> Option<T>
        where
            T::Err: std::fmt::Display,
        {
            text.and_then(|text| {
                text.parse()
                    .map_err(|e: T::Err| errors.push(ErrorItem::new(at, e.to_string())))
                    .ok()
            })
        }
        let flow = take::<FlowName>(self.flow.as_ref(), "/flow", &mut errors);
        let queue = take::<QueueName>(self.queue.as_ref(), "/queue", &mut errors);
        let since = take::<Timestamp>(self.since.as_ref(), "/since", &mut errors);
        let until = take::<Timestamp>(self.until.as_ref(), "/until", &mut errors);
        if let Err(error) = Labels::try_from(self.labels.clone()) {
            errors.push(ErrorItem::new("/labels", error.to_string()));
        }
        let any = !self.state.is_empty()
            || self.flow.is_some()
            || self.queue.is_some()
            || !self.labels.is_empty()
            || self.since.is_some()
            || self.until.is_some();
        if any == self.all {
            let detail = if any {
                "`all` goes with no other criterion"
            } else {
                "give a criterion (state, flow, queue, labels, since, until), or \"all\": true"
            };
            errors.push(ErrorItem::new("/all", detail));
        }
        if !errors.is_empty() {
            return Err(Problem::of(Code::Invalid, errors));
        }
        if states.is_empty() {
            states = default.to_vec();
        }
        let labels = self.labels.clone().into_iter().collect();
        Ok(RunFilter {
            states,
            flow,
            queue,
            labels,
            since,
            until,
            before: None,
            limit: PAGE,
        })
    }

    pub(crate) fn most(&self) -> Result<u32, Problem> {
        let most = self.limit.unwrap_or(MOST);
        if (1..=MOST).contains(&most) {
            return Ok(most);
        }
        Err(Problem::invalid(
            "/limit",
            format!("must be between 1 and {MOST}"),
        ))
    }
}

/// Runs that match, newest first, up to `most`, and whether there are more.
pub(crate) async fn matching(
    app: &App,
    tenant: &Tenant,
    mut filter: RunFilter,
    most: u32,
) -> Result<(Vec<RunView>, bool), Problem> {
    let mut found: Vec<RunView> = Vec::new();
    loop {
        filter.limit = PAGE.min(most - found.len() as u32);
        let page = app.store.list(tenant, &filter).await?;
        filter.before = page.items.last().map(|view| view.id);
        found.extend(page.items);
        if !page.more || found.len() as u32 >= most || filter.before.is_none() {
            return Ok((found, page.more));
        }
    }
}

fn was(state: RunState) -> &'static str {
    match state {
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Expired => "expired",
        _ => "was cancelled",
    }
}
