//! The HTTP API: routes, their order of layers, and what answers when nothing matches.
//!
//! Each call is one function beside its OpenAPI description, so that a mounted route without a description cannot
//! exist. Errors become statuses in [`problem`] only.

mod answers;
pub(crate) mod auth;
pub(crate) mod body;
mod docs;
pub(crate) mod fleet;
mod fleet_wishes;
mod flows;
mod health;
mod keys;
pub(crate) mod langflow;
pub(crate) mod limits;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod runs;
mod surround;

use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::{Extension, Router};
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::app::Shared;
use docs::{Document, Rendered};
use problem::{Code, Problem};
use surround::Surround;

/// The whole API.
pub(crate) fn router(app: Shared) -> anyhow::Result<Router> {
    let rendered = Rendered::default();
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(flows::list_flows))
        .routes(routes!(flows::get_flow, flows::put_flow, flows::delete_flow))
        .routes(routes!(flows::get_flow_version))
        .routes(routes!(runs::list::list_runs, runs::submit::submit_run))
        .routes(routes!(runs::batch::submit_batch))
        .routes(routes!(runs::cancel::cancel_runs))
        .routes(routes!(runs::replay::replay_runs))
        .routes(routes!(runs::get::get_run))
        .routes(routes!(runs::events::run_events))
        .routes(routes!(runs::explain::explain_run))
        .routes(routes!(runs::cancel::cancel_run))
        .routes(routes!(runs::replay::replay_run))
        .routes(routes!(fleet::fleet))
        .routes(routes!(fleet::fleet_workers))
        .routes(routes!(fleet_wishes::drain_worker))
        .routes(routes!(fleet_wishes::undrain_worker))
        .routes(routes!(keys::list_keys, keys::create_key))
        .routes(routes!(keys::revoke_key))
        .routes(routes!(keys::audit_log))
        .routes(routes!(langflow::run::run_langflow))
        .routes(routes!(
            langflow::flows::list_langflow_flows,
            langflow::flows::create_langflow_flow
        ))
        .routes(routes!(
            langflow::flows::get_langflow_flow,
            langflow::flows::change_langflow_flow,
            langflow::flows::put_langflow_flow,
            langflow::flows::delete_langflow_flow
        ))
        .routes(routes!(langflow::bundle::upload_langflow_flows))
        .routes(routes!(langflow::bundle::create_langflow_flows))
        .routes(routes!(langflow::bundle::download_langflow_flows))
        .routes(routes!(
            langflow::projects::list_projects,
            langflow::projects::create_project
        ))
        .routes(routes!(
            langflow::projects::get_project,
            langflow::projects::change_project,
            langflow::projects::delete_project
        ))
        .routes(routes!(langflow::projects::download_project))
        .routes(routes!(langflow::projects::upload_project))
        .routes(routes!(langflow::files::upload_flow_file))
        .routes(routes!(langflow::files::download_flow_file))
        .routes(routes!(langflow::files::list_flow_files))
        .routes(routes!(langflow::files::delete_flow_file))
        .routes(routes!(langflow::files::list_files, langflow::files::upload_file))
        .routes(routes!(langflow::files::delete_file))
        .routes(routes!(langflow::about::logs))
        .routes(routes!(langflow::about::logs_stream))
        .routes(routes!(langflow::webhook::call_webhook))
        .routes(routes!(
            langflow::workflows::jobs::workflow_status,
            langflow::workflows::execute::execute_workflow
        ))
        .routes(routes!(langflow::workflows::jobs::stop_workflow))
        .routes(routes!(langflow::workflows::jobs::pending_workflows))
        .routes(routes!(langflow::workflows::jobs::workflow_events))
        .routes(routes!(langflow::workflows::jobs::resume_workflow))
        .routes(routes!(
            langflow::knowledge::list_knowledge_bases,
            langflow::knowledge::create_knowledge_base
        ))
        .routes(routes!(
            langflow::knowledge::get_knowledge_base,
            langflow::knowledge::delete_knowledge_base
        ))
        .routes(routes!(langflow::monitor::list_messages))
        .routes(routes!(langflow::monitor::list_sessions))
        .routes(routes!(langflow::monitor::forget_session))
        .routes(routes!(langflow::about::version))
        .routes(routes!(langflow::about::health))
        .routes(routes!(langflow::about::health_check))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(docs::openapi).layer(Extension(rendered.clone())))
        .routes(routes!(docs::docs))
        .routes(routes!(docs::landing))
        .split_for_parts();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    answers::describe(&mut document);
    rendered.set(serde_json::to_vec(&document)?);
    Ok(router
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(Surround::new(app.clone()))
        .with_state(app))
}

async fn no_such_path(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::not_found(format!(
        "there is no call {method} {path}: see /docs for those there are"
    ))
}

async fn wrong_method(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    let detail = format!(
        "{path} does not take {}: the header Allow has what it takes",
        request.method()
    );
    Problem::new(Code::MethodNotAllowed, detail)
}
