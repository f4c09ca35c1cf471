//! The stream of a run in Langflow's frames: a line of JSON and an empty line for each event.
//!
//! The content type says Server-Sent Events, as Langflow's does, but no line begins with `data:`.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flowfleet_core::run::NewRun;
use flowfleet_core::{RunId, RunState, Tenant};
use futures::stream;
use serde_json::Value;
use tokio::time::timeout;

use super::run::{answer, reason, view};
use super::submit::{stored, with_id};
use super::tell::{Teller, failed};
use crate::api::problem::Problem;
use crate::api::runs::follow::{Followed, Follower};
use crate::app::{App, Listener, Shared};

/// Between empty lines that keep proxies from closing a silent stream; clients skip them.
const HEARTBEAT: Duration = Duration::from_secs(15);

struct Stream {
    app: Shared,
    tenant: Tenant,
    run: RunId,
    teller: Teller,
    follower: Follower,
    ended: bool,
    _listener: Listener,
}

/// Stores a run and answers with its stream.
pub(super) async fn tell(
    app: Shared,
    listener: Listener,
    tenant: Tenant,
    run: NewRun,
    teller: Teller,
) -> Result<Response, Problem> {
    // Listen before anybody can start it: tokens are told live or never.
    let made = run.id;
    let mut follower = follow(&app, &tenant, made).await;
    let run = stored(&app, run).await?;
    if run != made {
        follower = follow(&app, &tenant, run).await;
    }
    let stream = Stream {
        app,
        tenant,
        run,
        teller,
        follower,
        ended: false,
        _listener: listener,
    };
    let run_id = stream.run;
    let frames = stream::unfold(stream, |mut stream| async move {
        let frames = stream.next().await?;
        Some((Ok::<_, Infallible>(frames), stream))
    });
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(with_id(run_id, response))
}

async fn follow(app: &App, tenant: &Tenant, run: RunId) -> Follower {
    let stop = app.shutdown.draining.clone();
    Follower::new(app.store.clone(), app.bus.clone(), tenant.clone(), run, 0, stop).await
}

impl Stream {
    /// The next frames; `None` after the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            let Ok(next) = timeout(HEARTBEAT, self.follower.next()).await else {
                return Some(Bytes::from_static(b"\n"));
            };
            let said = match next {
                Some(Followed::Event(event)) if event.kind.is_final() => self.end().await,
                Some(what) => self.teller.hear(self.run, &what),
                None => self.end().await,
            };
            if !said.is_empty() {
                return Some(frames(&said));
            }
        }
        None
    }

    async fn end(&mut self) -> Vec<Value> {
        self.ended = true;
        let ended = async {
            let view = view(&self.app, &self.tenant, self.run).await?;
            if view.state != RunState::Succeeded && view.state.is_final() {
                return Ok(vec![failed(&reason(&view).0)]);
            }
            let answer = answer(&self.app, view).await?;
            Ok(self.teller.end(&answer.session_id, answer.outputs))
        };
        ended
            .await
            .unwrap_or_else(|problem: Problem| vec![failed(&problem.detail)])
    }
}

fn frames(said: &[Value]) -> Bytes {
    let mut text = String::new();
    for event in said {
        text.push_str(&event.to_string());
        text.push_str("\n\n");
    }
    text.into()
}
