//! How many requests are served at once, and for how long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::problem::{Code, Problem};
use crate::app::App;

/// Longest handling of a request that does not wait for a run.
const LONGEST: Duration = Duration::from_secs(180);

/// A request's place among those served at once. One that goes on only to wait for a run gives it back.
#[derive(Debug, Clone)]
pub(crate) struct Turn(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

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

/// Whether a path is asked by load balancers and by Prometheus.
pub(crate) fn is_probe(path: &str) -> bool {
    path.starts_with("/health/") || matches!(path, "/health" | "/health_check" | "/metrics")
}

impl Turn {
    /// Admits at most so many requests at once, and says how long one may take. Health checks and metrics are always
    /// admitted: they must answer most of all when the process is busy.
    pub(crate) fn take(app: &App, path: &str) -> Result<Option<(Self, Duration)>, Problem> {
        if is_probe(path) {
            return Ok(None);
        }
        let Ok(permit) = app.requests.clone().try_acquire_owned() else {
            let most = app.config.limits.concurrent_requests;
            return Err(Problem::new(
                Code::Overloaded,
                format!("{most} requests are being served already"),
            ));
        };
        let longest = LONGEST + Duration::from_secs(app.config.limits.wait_s);
        Ok(Some((Self(Arc::new(Mutex::new(Some(permit)))), longest)))
    }

    /// Lets another request in; waiting ones are bounded as listeners.
    pub(crate) fn release(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
