//! Health and metrics, open to all: for load balancers and Prometheus.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Shared;

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    pub live: bool,
}

/// Whether the process can do its work, and what is missing if not.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    pub ready: bool,
    /// Each need: ok, required or only useful, and what is wrong.
    pub checks: BTreeMap<String, Check>,
}

/// One need.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Check {
    pub ok: bool,
    /// False: the process works without it, only worse.
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Whether the process is alive.
#[utoipa::path(
    get, path = "/health/live", tag = "operations", security(()),
    responses((status = 200, description = "Alive", body = Live)),
)]
pub(crate) async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether the process can serve; names what is missing.
#[utoipa::path(
    get, path = "/health/ready", tag = "operations", security(()),
    responses(
        (status = 200, description = "Ready", body = Ready),
        (status = 503, description = "Not ready", body = Ready),
    ),
)]
pub(crate) async fn ready(State(app): State<Shared>) -> (StatusCode, Json<Ready>) {
    let report = app.readiness.report();
    let draining = app.shutdown.draining.is_cancelled();
    let mut checks: BTreeMap<String, Check> = report
        .checks
        .into_iter()
        .map(|(what, check)| {
            (
                what,
                Check {
                    ok: check.ok,
                    required: check.required,
                    detail: check.detail,
                },
            )
        })
        .collect();
    if draining {
        let detail = Some("the process is stopping".to_owned());
        checks.insert(
            "accepting".to_owned(),
            Check {
                ok: false,
                required: true,
                detail,
            },
        );
    }
    let ready = report.ready && !draining;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, checks }))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", security(()),
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(app): State<Shared>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        app.prometheus.0.render(),
    )
}
