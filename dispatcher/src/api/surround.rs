//! What surrounds every call: a span that continues the client's trace, counts and times, a place among those served
//! at once, a bound on its time, and an answer when it panics.
//!
//! One layer for all of it: each layer costs every request boxes and copies of its own.

use std::any::Any;
use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use flowfleet_runtime::trace;
use futures::FutureExt;
use metrics::{Counter, Histogram};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use super::limits::Turn;
use super::problem::{Code, Problem};
use crate::app::Shared;
use crate::metrics::{HTTP_REQUESTS, HTTP_SECONDS};

/// Puts [`Surrounded`] around each route.
#[derive(Debug, Clone)]
pub(crate) struct Surround {
    app: Shared,
    meters: Arc<Meters>,
}

impl Surround {
    pub(crate) fn new(app: Shared) -> Self {
        Self {
            app,
            meters: Arc::default(),
        }
    }
}

impl<S> Layer<S> for Surround {
    type Service = Surrounded<S>;

    fn layer(&self, inner: S) -> Surrounded<S> {
        Surrounded {
            inner,
            outside: self.clone(),
        }
    }
}

/// A route and what surrounds it.
#[derive(Debug, Clone)]
pub(crate) struct Surrounded<S> {
    inner: S,
    outside: Surround,
}

impl<S> Service<Request> for Surrounded<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let began = Instant::now();
        let route = request.extensions().get::<MatchedPath>().cloned();
        let span = span(&request, name(route.as_ref()));
        let meters = Arc::clone(&self.outside.meters);
        let (turn, most) = match Turn::take(&self.outside.app, request.uri().path()) {
            Ok(admitted) => admitted.unzip(),
            Err(problem) => {
                let response = problem.into_response();
                meters.answered(name(route.as_ref()), response.status(), began.elapsed());
                return Box::pin(std::future::ready(Ok(response)));
            }
        };
        if let Some(turn) = &turn {
            request.extensions_mut().insert(turn.clone());
        }
        let answer = bounded(self.inner.call(request), most);
        Box::pin(async move {
            let response = answer.instrument(span.clone()).await;
            if let Some(turn) = turn {
                turn.release();
            }
            let elapsed = began.elapsed();
            span.record("status", response.status().as_u16());
            tracing::debug!(parent: &span, elapsed_s = elapsed.as_secs_f64(), "answered");
            meters.answered(name(route.as_ref()), response.status(), elapsed);
            Ok(response)
        })
    }
}

fn name(route: Option<&MatchedPath>) -> &str {
    route.map_or("unmatched", MatchedPath::as_str)
}

fn span(request: &Request, route: &str) -> Span {
    let span = tracing::info_span!("http", method = %request.method(), route, status = tracing::field::Empty);
    if !span.is_disabled()
        && let Some(context) = trace::parse(request.headers())
    {
        trace::set_parent(&span, &context);
    }
    span
}

/// The answer of a route, whatever it does.
async fn bounded(
    answer: impl Future<Output = Result<Response, Infallible>>,
    most: Option<Duration>,
) -> Response {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let answer = match most {
        None => answer.await,
        Some(most) => match tokio::time::timeout(most, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                return Problem::new(
                    Code::Timeout,
                    "the request took too long; whether it took effect is not known: look, or repeat it \
                     with the same idempotency key",
                )
                .into_response();
            }
        },
    };
    match answer {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(panic) => panicked(&*panic),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(panic = what, "a request panicked");
    Problem::internal().into_response()
}

/// The metrics of calls by route, made once: finding them by their labels costs more than all else here.
#[derive(Default)]
struct Meters(RwLock<HashMap<String, Meter>>);

struct Meter {
    seconds: Histogram,
    answers: Vec<(StatusCode, Counter)>,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Meters {
    fn answered(&self, route: &str, status: StatusCode, elapsed: Duration) {
        if self.count(route, status, elapsed) {
            return;
        }
        self.make(route, status);
        self.count(route, status, elapsed);
    }

    fn count(&self, route: &str, status: StatusCode, elapsed: Duration) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(meter) = known.get(route) else {
            return false;
        };
        let Some((_, answers)) = meter.answers.iter().find(|(code, _)| *code == status) else {
            return false;
        };
        answers.increment(1);
        meter.seconds.record(elapsed.as_secs_f64());
        true
    }

    fn make(&self, route: &str, status: StatusCode) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let meter = known.entry(route.to_owned()).or_insert_with(|| Meter {
            seconds: metrics::histogram!(HTTP_SECONDS, "route" => route.to_owned()),
            answers: Vec::new(),
        });
        if meter.answers.iter().all(|(code, _)| *code != status) {
            let labels = [
                ("route", route.to_owned()),
                ("status", status.as_u16().to_string()),
            ];
            meter
                .answers
                .push((status, metrics::counter!(HTTP_REQUESTS, &labels)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(most: Option<Duration>, inner: impl Future<Output = Response>) -> StatusCode {
        bounded(async { Ok(inner.await) }, most).await.status()
    }

    #[tokio::test]
    async fn whatever_a_route_does_is_answered() {
        let minute = Some(Duration::from_secs(60));
        for most in [None, minute] {
            assert_eq!(
                answer(most, async { "fine".into_response() }).await,
                StatusCode::OK
            );
            let panics = async { panic!("a test panics") };
            assert_eq!(answer(most, panics).await, StatusCode::INTERNAL_SERVER_ERROR);
        }
        let late = answer(Some(Duration::ZERO), std::future::pending()).await;
        assert_eq!(late, Problem::new(Code::Timeout, "").into_response().status());
    }

    #[test]
    fn a_meter_is_made_once_a_route_and_status() {
        let meters = Meters::default();
        for status in [200, 200, 404, 200] {
            meters.answered("/a", StatusCode::from_u16(status).unwrap(), Duration::ZERO);
        }
        meters.answered("/b", StatusCode::OK, Duration::ZERO);
        let known = meters.0.read().unwrap();
        assert_eq!(known["/a"].answers.len(), 2);
        assert_eq!(known["/b"].answers.len(), 1);
    }
}
