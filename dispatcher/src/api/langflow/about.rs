//! What Langflow's clients ask a server about itself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::auth::Read;
use crate::api::problem::{Code, Problem};
use crate::app::Shared;

/// The version of Langflow whose API this is: clients compare it with what they need.
const LANGFLOW: &str = "1.13.0";

/// The version of the API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowVersion {
    pub version: &'static str,
    pub main_version: &'static str,
    /// What serves it.
    pub package: &'static str,
}

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowHealth {
    pub status: &'static str,
}

/// Whether the process can serve.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowHealthCheck {
    /// `ok` or `nok`.
    pub status: &'static str,
    /// Whether runs are accepted and end: `ok`, or an error.
    pub chat: &'static str,
    /// The store: `ok`, or an error.
    pub db: &'static str,
}

/// The version of Langflow whose API this is.
#[utoipa::path(
    get, path = "/api/v1/version", tag = "langflow", security(()),
    responses((status = 200, description = "The version", body = LangflowVersion)),
)]
pub(crate) async fn version() -> Json<LangflowVersion> {
    Json(LangflowVersion {
        version: LANGFLOW,
        main_version: LANGFLOW,
        package: "Flowfleet",
    })
}

/// Not available: what a dispatcher logs is the operator's to read.
#[utoipa::path(
    get, path = "/logs", tag = "langflow",
    responses((status = 422, description = "Not available", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn logs(Read(_): Read) -> Problem {
    no_logs()
}

/// Not available: what a dispatcher logs is the operator's to read.
#[utoipa::path(
    get, path = "/logs-stream", tag = "langflow",
    responses((status = 422, description = "Not available", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn logs_stream(Read(_): Read) -> Problem {
    no_logs()
}

fn no_logs() -> Problem {
    Problem::new(
        Code::NotAvailable,
        "logs are not given to clients: see GET /v1/runs/{id} and /v1/audit",
    )
}

/// Whether the process is alive, as Langflow says it.
#[utoipa::path(
    get, path = "/health", tag = "langflow", security(()),
    responses((status = 200, description = "Alive", body = LangflowHealth)),
)]
pub(crate) async fn health() -> Json<LangflowHealth> {
    Json(LangflowHealth { status: "ok" })
}

/// Whether the process can serve, as Langflow says it; `/health/ready` says more.
#[utoipa::path(
    get, path = "/health_check", tag = "langflow", security(()),
    responses(
        (status = 200, description = "Ready", body = LangflowHealthCheck),
        (status = 503, description = "Not ready", body = LangflowHealthCheck),
    ),
)]
pub(crate) async fn health_check(State(app): State<Shared>) -> (StatusCode, Json<LangflowHealthCheck>) {
    let report = app.readiness.report();
    let ready = report.ready && !app.shutdown.draining.is_cancelled();
    let say = |fine: bool| if fine { "ok" } else { "error: see /health/ready" };
    let store = report.checks.get("store").is_none_or(|check| check.ok);
    let answer = LangflowHealthCheck {
        status: if ready { "ok" } else { "nok" },
        chat: say(ready),
        db: say(store),
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(answer))
}
