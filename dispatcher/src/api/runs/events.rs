//! `GET /v1/runs/{id}/events`: Server-Sent Events that can be resumed.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use flowfleet_core::{EventData, EventKind};
use futures::stream;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::follow::{Followed, Follower};
use super::{no_such_run, run_id};
use crate::api::auth::Read;
use crate::api::problem::{Code, Problem};
use crate::api::query::{self, Query};
use crate::app::{Listener, Shared};

/// Between comments that keep proxies from closing a silent stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The events of a run: first those stored, then as they happen, until a final one.
///
/// Each stored event has its sequence as `id:`; send the last one seen as `Last-Event-ID` to go on after it. Streamed
/// tokens (`node.token`) have no id and are never repeated. A stream of an ended run that has nothing more to tell is
/// answered 204, which tells browsers not to come back.
#[utoipa::path(
    get, path = "/v1/runs/{id}/events", tag = "runs",
    params(
        ("id" = uuid::Uuid, Path, description = "The run"),
        ("after" = Option<u64>, Query, description = "Only events after this sequence; the header wins"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Only events after this sequence"),
    ),
    responses(
        (status = 200, description = "Events: run.queued, run.started, node.started, node.token, node.finished, \
            node.failed, run.retrying, run.interrupted, run.succeeded, run.failed, run.cancelled, run.expired",
            body = String, content_type = "text/event-stream"),
        (status = 204, description = "The run has ended and all of its events were seen"),
        (status = 404, description = "No such run", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn run_events(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(id): Path<String>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = query.parsed::<u64>("after")?;
    query.finish()?;
    let after = last_event_id(&headers)?.or(asked).unwrap_or(0);
    let id = run_id(&id)?;
    let view = app
        .store
        .get(&caller.tenant, id)
        .await?
        .ok_or_else(|| no_such_run(id))?;
    if after > view.last_seq {
        let last = view.last_seq;
        return Err(query::refuse(format!(
            "the run has no event {after}: its newest is {last}"
        )));
    }
    if view.state.is_final() && after == view.last_seq {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let listener = app.listen()?;
    let stop = app.shutdown.draining.clone();
    let follower = Follower::new(app.store.clone(), app.bus.clone(), caller.tenant, id, after, stop).await;
    let events = stream::unfold(
        (follower, listener),
        move |(mut follower, listener): (Follower, Listener)| async move {
            let next = follower.next().await?;
            Some((
                Ok::<_, Infallible>(shown(&id.to_string(), next)),
                (follower, listener),
            ))
        },
    );
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat"))
        .into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies such as nginx would otherwise gather events before passing them on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Problem::new(
            Code::Invalid,
            "the header Last-Event-ID must be the id of an event of this stream",
        )
    })
}

/// A stored event as a client sees it.
#[derive(Serialize)]
struct Told<'a> {
    run: &'a str,
    seq: u64,
    event: EventKind,
    at: Timestamp,
    data: &'a EventData,
}

impl Told<'_> {
    fn json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn shown(run: &str, followed: Followed) -> Event {
    match followed {
        Followed::Event(event) => Event::default()
            .id(event.seq.to_string())
            .event(event.kind.as_str())
            .data(
                Told {
                    run,
                    seq: event.seq,
                    event: event.kind,
                    at: event.at,
                    data: &event.data,
                }
                .json(),
            ),
        Followed::Token { node, text } => Event::default().event("node.token").data(
            json!({"run": run, "event": "node.token", "data": {"node": node, "text": text}}).to_string(),
        ),
    }
}
