//! `GET /v1/runs/{id}`, and waiting for a run to end.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use flowfleet_core::port::Live;
use flowfleet_core::run::RunView;
use flowfleet_core::{RunId, Tenant};
use futures::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Run, no_such_run, run_id};
use crate::api::auth::Read;
use crate::api::limits::Turn;
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::app::{App, Listener, Shared};

/// Between looks into the store while the bus is silent: it may have lost the message.
const LOOK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// How long to try to listen before only looking.
const SUBSCRIBE: Duration = Duration::from_secs(2);

/// One run with its payloads and attempts.
#[utoipa::path(
    get, path = "/v1/runs/{id}", tag = "runs",
    params(
        ("id" = uuid::Uuid, Path, description = "The run"),
        ("wait_s" = Option<f64>, Query, minimum = 0, description = "Answer when the run ends or after this many seconds"),
    ),
    responses(
        (status = 200, description = "The run", body = Run),
        (status = 404, description = "No such run", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_run(
    Read(caller): Read,
    State(app): State<Shared>,
    turn: Turn,
    Path(id): Path<String>,
    mut query: Query,
) -> Result<Json<Run>, Problem> {
    let wait = query.wait(app.config.limits.wait_s)?;
    query.finish()?;
    let id = run_id(&id)?;
    let view = match wait {
        Some(wait) => {
            turn.release();
            ended(&app, &caller.tenant, id, wait).await?
        }
        None => app.store.get(&caller.tenant, id).await?,
    };
    let view = view.ok_or_else(|| no_such_run(id))?;
    Ok(Json(Run::full(view, &*app.blob).await?))
}

/// The run once it has ended, or as it is after `wait`.
pub(crate) async fn ended(
    app: &App,
    tenant: &Tenant,
    run: RunId,
    wait: Duration,
) -> Result<Option<RunView>, Problem> {
    let listener = app.listen()?;
    wait_for(app, tenant, run, wait, listener).await
}

/// The same for whoever has a place among the listeners already.
pub(crate) async fn wait_for(
    app: &App,
    tenant: &Tenant,
    run: RunId,
    wait: Duration,
    _listener: Listener,
) -> Result<Option<RunView>, Problem> {
    let deadline = Instant::now() + wait;
    // Listen first, then look: nothing can end in between unseen.
    let mut live = match timeout(SUBSCRIBE, app.bus.subscribe(run)).await {
        Ok(Ok(live)) => Some(live),
        _ => None,
    };
    let mut pause = LOOK.0;
    loop {
        let view = app.store.get(tenant, run).await?;
        let over = Instant::now() >= deadline || app.shutdown.draining.is_cancelled();
        if over || view.as_ref().is_none_or(|view| view.state.is_final()) {
            return Ok(view);
        }
        let until = deadline.min(Instant::now() + pause);
        pause = (pause * 2).min(LOOK.1);
        let heard = async {
            match live.as_mut() {
                Some(live) => ending(live).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = timeout_at(until, heard) => {
                if heard == Ok(Heard::Silence) {
                    live = None;
                }
            }
            () = app.shutdown.draining.cancelled() => {}
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// The run may have ended.
    Ending,
    /// The subscription is over.
    Silence,
}

async fn ending(live: &mut flowfleet_core::port::LiveStream) -> Heard {
    while let Some(message) = live.next().await {
        match message {
            Live::Events { events } if events.iter().any(|event| event.kind.is_final()) => {
                return Heard::Ending;
            }
            Live::Lagged => return Heard::Ending,
            Live::Events { .. } | Live::Token { .. } => {}
        }
    }
    Heard::Silence
}
