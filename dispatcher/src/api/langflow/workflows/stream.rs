//! The events of a workflow as Server-Sent Events that can be resumed.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flowfleet_core::{RunId, RunState, Tenant};
use futures::stream;
use jiff::Timestamp;
use tokio::time::timeout;

use super::tell::{About, End, Said, Teller};
use crate::api::langflow::run::{outputs, reason, view};
use crate::api::problem::Problem;
use crate::api::runs::follow::{Followed, Follower};
use crate::app::{App, Listener, Shared};

/// Between comments that keep proxies from closing a silent stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b": keepalive\n\n";

/// How events are numbered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbering {
    /// All of them, from 0: the stream that submits the run.
    All,
    /// Those that are told again, from 1; only those after this one.
    Lasting { after: u64 },
}

struct Stream {
    app: Shared,
    tenant: Tenant,
    run: RunId,
    teller: Teller,
    follower: Follower,
    numbering: Numbering,
    /// Numbers given so far.
    told: u64,
    ended: bool,
    _listener: Listener,
}

/// Follows a run. Whoever is to miss no token follows before the run is stored.
pub(super) async fn follow(app: &App, tenant: &Tenant, run: RunId) -> Follower {
    let stop = app.shutdown.draining.clone();
    Follower::new(app.store.clone(), app.bus.clone(), tenant.clone(), run, 0, stop).await
}

pub(super) fn respond(
    app: Shared,
    tenant: Tenant,
    about: About,
    follower: Follower,
    numbering: Numbering,
    listener: Listener,
) -> Response {
    let stream = Stream {
        app,
        tenant,
        run: about.run,
        teller: Teller::new(about),
        follower,
        numbering,
        told: 0,
        ended: false,
        _listener: listener,
    };
    let frames = stream::unfold(stream, |mut stream| async move {
        let frames = stream.next().await?;
        Some((Ok::<_, Infallible>(frames), stream))
    });
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Stream {
    /// The next frames; `None` after the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            let Ok(next) = timeout(HEARTBEAT, self.follower.next()).await else {
                return Some(Bytes::from_static(COMMENT));
            };
            let said = match next {
                Some(Followed::Event(event)) if event.kind.is_final() => self.end(event.at).await,
                Some(what) => self.teller.hear(&what),
                None => {
                    // Draining: the client comes back with the last id.
                    self.ended = true;
                    return None;
                }
            };
            let frames = self.frames(said);
            if !frames.is_empty() {
                return Some(frames);
            }
        }
        None
    }

    async fn end(&mut self, at: Timestamp) -> Vec<Said> {
        self.ended = true;
        match self.ending(at).await {
            Ok(said) => said,
            Err(problem) => self.teller.end(&End::Failed(&problem.detail), at),
        }
    }

    async fn ending(&mut self, at: Timestamp) -> Result<Vec<Said>, Problem> {
        let view = view(&self.app, &self.tenant, self.run).await?;
        Ok(match view.state {
            RunState::Succeeded => {
                let outputs = outputs(&self.app, view).await?;
                self.teller.end(&End::Completed(&outputs), at)
            }
            RunState::Cancelled => self.teller.end(&End::Cancelled, at),
            _ => self.teller.end(&End::Failed(&reason(&view).0), at),
        })
    }

    fn frames(&mut self, said: Vec<Said>) -> Bytes {
        let mut text = String::new();
        for Said { lasting, event } in said {
            let (id, tell) = match self.numbering {
                Numbering::All => (self.told, true),
                Numbering::Lasting { after } => {
                    let id = self.told + u64::from(lasting);
                    (id, id > after || !lasting && id == after)
                }
            };
            if lasting || matches!(self.numbering, Numbering::All) {
                self.told += 1;
            }
            if tell {
                text.push_str(&format!("data: {event}\nid: {id}\n\n"));
            }
        }
        text.into()
    }
}

/// The event a client has seen last. What is no number is ignored, as Langflow does.
pub(super) fn last_seen(headers: &axum::http::HeaderMap) -> u64 {
    let said = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    said.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
