//! `POST /api/v1/webhook/{flow}`: a run of a flow whose Webhook components get what was sent.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use flowfleet_engine::Plan;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::call::{self, Call, LangflowRun};
use super::submit::{stored, wanted, with_id};
use crate::api::auth::Submit;
use crate::api::body;
use crate::api::problem::{Code, Problem};
use crate::api::query::NoQuery;
use crate::api::runs::submit::trace_context;
use crate::app::Shared;
use crate::submit::parse::Refused;
use crate::submit::prepare::draft;

/// The run is stored and goes its way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowWebhook {
    pub message: &'static str,
    pub status: &'static str,
}

/// Start a run of a flow by its webhook.
///
/// The body is what the flow's Webhook components get, whatever its type: an object is their data, other text the
/// `payload` in it. Answers once the run is stored; the header `X-Flowfleet-Run` has its id.
#[utoipa::path(
    post, path = "/api/v1/webhook/{flow}", tag = "langflow",
    params(
        ("flow" = String, Path, description = "Its id or its name"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body start one run"),
        ("X-Flowfleet-Queue" = Option<String>, Header, description = "The queue the run waits in: `default` when absent"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, carried to the worker"),
    ),
    request_body(content = Value, description = "Anything that is text", content_type = "application/json"),
    responses(
        (status = 202, description = "The run is stored", body = LangflowWebhook),
        (status = 400, description = "The body is empty", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The idempotency key was used for another request", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn call_webhook(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(flow): Path<String>,
    _: NoQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (Parts { headers, .. }, body) = request.into_parts();
    let name = app.flows.find(&caller.tenant, &flow).await?;
    let resolved = app.flows.named(&caller.tenant, &name).await?;
    let sent = body::read(&headers, body, app.config.limits.body_bytes, "a payload").await?;
    let mut call = parse(&resolved.plan, &sent)?;
    call.request.variables = call::variables(&headers)?;
    let wanted = wanted(call, &resolved, &app, &headers)?;
    let run = draft(wanted, &resolved, &caller.tenant, trace_context(&headers))?;
    let run = stored(&app, run.seal(&*app.blob).await?).await?;
    let answer = Json(LangflowWebhook {
        message: "Task started in the background",
        status: "in progress",
    });
    Ok(with_id(run, (StatusCode::ACCEPTED, answer).into_response()))
}

/// What is sent to a webhook is a tweak of the components that get it.
pub(crate) fn parse(plan: &Plan, sent: &[u8]) -> Result<Call, Refused> {
    if sent.is_empty() {
        return Err(call::refused(
            Code::BodyMissing,
            "",
            "the body is empty: send the payload, as JSON",
        ));
    }
    let text = std::str::from_utf8(sent).map_err(|error| {
        call::refused(
            Code::Invalid,
            "",
            format!("the body is not text in UTF-8: {error}"),
        )
    })?;
    let tweak = |id: &str| (id.to_owned(), json!({"data": text}));
    LangflowRun {
        input_value: Some(String::new()),
        tweaks: Some(plan.webhooks().map(tweak).collect::<Map<String, Value>>()),
        ..LangflowRun::default()
    }
    .check()
}
