//! `POST /api/v1/webhook/{flow}`: refused, since no flow with a Webhook component can run yet.

use axum::extract::{Path, State};

use crate::api::auth::Submit;
use crate::api::problem::{Code, Problem};
use crate::app::Shared;

/// Not available: flows with a Webhook component do not run here yet.
///
/// Send what the webhook would get as the input of a run.
#[utoipa::path(
    post, path = "/api/v1/webhook/{flow}", tag = "langflow",
    params(("flow" = String, Path, description = "Its id or its name")),
    responses(
        (status = 422, description = "Not available", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn call_webhook(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(flow): Path<String>,
) -> Result<(), Problem> {
    let name = app.flows.find(&caller.tenant, &flow).await?;
    app.flows.named(&caller.tenant, &name).await?;
    Err(Problem::new(
        Code::NotAvailable,
        format!(
            "the flow {name} cannot be called as a webhook: the component Webhook does not run here yet; send the payload \
             as input_value to /api/v1/run/{name}"
        ),
    ))
}
