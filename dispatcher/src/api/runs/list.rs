//! `GET /v1/runs`: filters and pages.

use axum::Json;
use axum::extract::State;
use flowfleet_core::port::RunFilter;
use flowfleet_core::{FlowName, QueueName, RunId, RunState, Tenant};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Run, RunList};
use crate::api::auth::Read;
use crate::api::problem::Problem;
use crate::api::query::{self, Query, Scope};
use crate::app::Shared;

/// Runs, newest first, without payloads and attempts.
#[utoipa::path(
    get, path = "/v1/runs", tag = "runs",
    params(
        ("state" = Option<Vec<String>>, Query, description = "One of these states; may be repeated"),
        ("flow" = Option<String>, Query, description = "Runs of this flow"),
        ("queue" = Option<String>, Query, description = "Runs of this queue"),
        ("label" = Option<Vec<String>>, Query, description = "key:value; may be repeated, all must match"),
        ("since" = Option<Timestamp>, Query, description = "Created at or after this time"),
        ("until" = Option<Timestamp>, Query, description = "Created before this time"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before, with the same filters"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "50 when absent"),
    ),
    responses(
        (status = 200, description = "One page", body = RunList),
        (status = 422, description = "A bad parameter", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_runs(
    Read(caller): Read,
    State(app): State<Shared>,
    mut query: Query,
) -> Result<Json<RunList>, Problem> {
    let mut filter = filter(&mut query)?;
    filter.limit = query.limit()?;
    let scope = scope(&caller.tenant, &filter);
    if let Some(cursor) = query.one("cursor")? {
        let position = scope.position(&cursor)?;
        let id = Uuid::from_slice(&position)
            .map_err(|_| query::refuse("query parameter \"cursor\" is damaged".to_owned()))?;
        filter.before = Some(RunId(id));
    }
    query.finish()?;
    let page = app.store.list(&caller.tenant, &filter).await?;
    let last = page.items.last().filter(|_| page.more).map(|view| view.id);
    let now = Timestamp::now();
    Ok(Json(RunList {
        items: page.items.into_iter().map(|view| Run::brief(view, now)).collect(),
        next_cursor: last.map(|id| scope.cursor(id.0.as_bytes())),
    }))
}

pub(crate) fn filter(query: &mut Query) -> Result<RunFilter, Problem> {
    let states = query.many("state");
    let states: Result<Vec<RunState>, Problem> =
        states.iter().map(|text| query::value("state", text)).collect();
    Ok(RunFilter {
        states: states?,
        flow: query.parsed::<FlowName>("flow")?,
        queue: query.parsed::<QueueName>("queue")?,
        labels: query::labels(query.many("label"))?,
        since: query.parsed("since")?,
        until: query.parsed("until")?,
        before: None,
        limit: 0,
    })
}

/// What a cursor belongs to.
pub(crate) fn scope(tenant: &Tenant, filter: &RunFilter) -> Scope {
    let mut states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
    states.sort_unstable();
    let mut labels = filter.labels.clone();
    labels.sort();
    let text = format!(
        "{:?}",
        (
            states,
            &filter.flow,
            &filter.queue,
            labels,
            filter.since,
            filter.until
        )
    );
    Scope::new(&["runs", tenant.as_str(), &text])
}
