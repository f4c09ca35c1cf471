//! Projects as Langflow's clients ask for them: a tenant has one, with all its flows.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use flowfleet_core::Tenant;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::archive;
use super::document::LangflowFlow;
use super::files::made_of;
use super::flows::all;
use crate::api::auth::{Caller, Read, Submit};
use crate::api::body;
use crate::api::problem::{Code, Problem};
use crate::api::query::NoQuery;
use crate::app::{App, Shared};

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowProject {
    pub id: Uuid,
    pub name: String,
    pub description: &'static str,
    pub parent_id: Option<Uuid>,
}

/// A project and its flows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowProjectFlows {
    #[serde(flatten)]
    pub project: LangflowProject,
    pub flows: Vec<LangflowFlow>,
}

/// The id of the one project that a tenant has.
pub(super) fn project_id(tenant: &Tenant) -> Uuid {
    made_of(&format!("project {tenant}"))
}

fn project(tenant: &Tenant) -> LangflowProject {
    LangflowProject {
        id: project_id(tenant),
        name: tenant.to_string(),
        description: "All flows.",
        parent_id: None,
    }
}

fn find(caller: &Caller, id: &str) -> Result<LangflowProject, Problem> {
    let project = project(&caller.tenant);
    if id.parse::<Uuid>().ok() == Some(project.id) {
        return Ok(project);
    }
    let id: String = id.chars().take(64).collect();
    Err(Problem::not_found(format!(
        "there is no project {id}: all flows are in {}",
        project.id
    )))
}

/// Reads what was sent: a connection with the rest of a body in it would have to be closed.
async fn refuse(app: &App, request: Request) -> Problem {
    let (parts, body) = request.into_parts();
    let most = app.config.limits.body_bytes;
    match body::read(&parts.headers, body, most, "a project").await {
        Ok(_) => only_one(),
        Err(problem) => problem,
    }
}

fn only_one() -> Problem {
    let detail = "all flows are in one project here, which cannot be changed: put flows with /api/v1/flows/";
    Problem::new(Code::NotAvailable, detail)
}

/// The projects: one, with all flows.
#[utoipa::path(
    get, path = "/api/v1/projects/", tag = "langflow",
    responses((status = 200, description = "One project", body = Vec<LangflowProject>)),
)]
pub(crate) async fn list_projects(Read(caller): Read, _: NoQuery) -> Json<Vec<LangflowProject>> {
    Json(vec![project(&caller.tenant)])
}

/// Not available: there is one project.
#[utoipa::path(
    post, path = "/api/v1/projects/", tag = "langflow",
    request_body(content = Value, description = "Refused", content_type = "application/json"),
    responses((status = 422, description = "Not available", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn create_project(
    Submit(_): Submit,
    State(app): State<Shared>,
    request: Request,
) -> Problem {
    refuse(&app, request).await
}

/// Not available: send flows to `/api/v1/flows/upload/`.
#[utoipa::path(
    post, path = "/api/v1/projects/upload/", tag = "langflow",
    request_body(content = Value, description = "Refused", content_type = "application/json"),
    responses((status = 422, description = "Not available", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn upload_project(
    Submit(_): Submit,
    State(app): State<Shared>,
    request: Request,
) -> Problem {
    refuse(&app, request).await
}

/// A project with its flows.
#[utoipa::path(
    get, path = "/api/v1/projects/{id}", tag = "langflow",
    params(("id" = Uuid, Path, description = "The project")),
    responses(
        (status = 200, description = "The project", body = LangflowProjectFlows),
        (status = 404, description = "No such project", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_project(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<LangflowProjectFlows>, Problem> {
    let project = find(&caller, &id)?;
    let flows = all(&app, &caller.tenant).await?;
    Ok(Json(LangflowProjectFlows { project, flows }))
}

/// Not available: the one project cannot be changed.
#[utoipa::path(
    patch, path = "/api/v1/projects/{id}", tag = "langflow",
    params(("id" = Uuid, Path, description = "The project")),
    request_body(content = Value, description = "Refused", content_type = "application/json"),
    responses((status = 422, description = "Not available", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn change_project(
    Submit(_): Submit,
    State(app): State<Shared>,
    Path(_): Path<String>,
    request: Request,
) -> Problem {
    refuse(&app, request).await
}

/// Not available: the one project cannot be deleted.
#[utoipa::path(
    delete, path = "/api/v1/projects/{id}", tag = "langflow",
    params(("id" = Uuid, Path, description = "The project")),
    responses((status = 422, description = "Not available", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn delete_project(Submit(_): Submit, Path(_): Path<String>) -> Problem {
    only_one()
}

/// All flows of a project as a ZIP archive of exports.
#[utoipa::path(
    get, path = "/api/v1/projects/download/{id}", tag = "langflow",
    params(("id" = Uuid, Path, description = "The project")),
    responses(
        (status = 200, description = "An archive", body = String, content_type = "application/zip"),
        (status = 404, description = "No such project", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn download_project(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Response, Problem> {
    find(&caller, &id)?;
    let flows = all(&app, &caller.tenant).await?;
    if flows.len() > archive::MOST {
        let detail = format!(
            "an archive may have at most {} flows, there are {}: read them with /api/v1/flows/",
            archive::MOST,
            flows.len()
        );
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok(archived(&flows))
}

/// An archive of flows by their names here, of which no two are the same.
pub(super) fn archived(flows: &[LangflowFlow]) -> Response {
    let file = |flow: &LangflowFlow| {
        let name = format!("{}.json", flow.endpoint_name);
        // Nothing in it can fail to be written.
        (name, serde_json::to_vec(flow).unwrap_or_default())
    };
    let files: Vec<_> = flows.iter().map(file).collect();
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"flows.zip\""),
    ];
    (headers, archive::zip(&files)).into_response()
}
