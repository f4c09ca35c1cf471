//! How much at once and for how long: the outermost layers of the API.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use super::problem::{Code, Problem};
use crate::app::Shared;
use crate::metrics::{HTTP_REQUESTS, HTTP_SECONDS};

/// Longest handling of a request that does not wait for a run.
const LONGEST: Duration = Duration::from_secs(180);

/// A request's place among those served at once. One that goes on only to wait for a run gives it back.
#[derive(Debug, Clone)]
pub(crate) struct Turn(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Turn {
    /// Lets another request in; waiting ones are bounded as listeners.
    pub(crate) fn release(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl<S: Sync> FromRequestParts<S> for Turn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(Problem::internal)
    }
}

/// Admits at most so many requests at once and ends those that take too long. Health checks and metrics are always
/// admitted: they must answer most of all when the process is busy.
pub(crate) async fn admit(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path.starts_with("/health/") || path == "/metrics" {
        return next.run(request).await;
    }
    let Ok(permit) = app.requests.clone().try_acquire_owned() else {
        let most = app.config.limits.concurrent_requests;
        return Problem::new(
            Code::Overloaded,
            format!("{most} requests are being served already"),
        )
        .into_response();
    };
    let turn = Turn(Arc::new(Mutex::new(Some(permit))));
    request.extensions_mut().insert(turn.clone());
    let longest = LONGEST + Duration::from_secs(app.config.limits.wait_s);
    let response = tokio::time::timeout(longest, next.run(request)).await;
    turn.release();
    response.unwrap_or_else(|_| {
        Problem::new(
            Code::Timeout,
            "the request took too long; whether it took effect is not known: look, or repeat it \
            with the same idempotency key",
        )
        .into_response()
    })
}

/// Counts and times requests by their matched route, and puts each into a span that continues the client's trace.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned();
    let span = tracing::info_span!("http", method = %request.method(), route, status = tracing::field::Empty);
    if let Some(context) = flowfleet_runtime::trace::parse(request.headers()) {
        flowfleet_runtime::trace::set_parent(&span, &context);
    }
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("status", status.as_u16());
    tracing::debug!(parent: &span, elapsed_s = began.elapsed().as_secs_f64(), "answered");
    metrics::counter!(HTTP_REQUESTS, "route" => route.clone(), "status" => status.as_u16().to_string())
        .increment(1);
    metrics::histogram!(HTTP_SECONDS, "route" => route).record(began.elapsed().as_secs_f64());
    response
}
