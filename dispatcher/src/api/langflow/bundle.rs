//! Several flows at once, as Langflow's clients send and take them: `/api/v1/flows/upload/`, `batch/` and `download/`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flowfleet_core::FlowId;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::document::{LangflowFlow, Said, shown};
use super::flows::{create, create_new, document, find};
use super::projects::archived;
use super::{archive, form};
use crate::api::auth::{Caller, Read, Submit};
use crate::api::body;
use crate::api::problem::{Code, ErrorItem, Problem};
use crate::api::query::{NoQuery, Query};
use crate::app::{App, Shared};

/// Upload flows, as Langflow's clients do: the field `file` of a form, an export or `{"flows": [exports]}`.
///
/// A flow whose id is taken gets another. The flows before one that is refused stay.
#[utoipa::path(
    post, path = "/api/v1/flows/upload/", tag = "langflow",
    params(("folder_id" = Option<Uuid>, Query, description = "Ignored: there is one project")),
    request_body(content = Object, description = "The file, in the field `file`", content_type = "multipart/form-data"),
    responses((status = 201, description = "Created", body = Vec<LangflowFlow>)),
)]
pub(crate) async fn upload_langflow_flows(
    Submit(caller): Submit,
    State(app): State<Shared>,
    mut query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Vec<LangflowFlow>>), Problem> {
    query.parsed::<Uuid>("folder_id")?;
    query.finish()?;
    let boundary = form::boundary(&headers)?;
    let form = body::read(&headers, body, app.config.limits.flow_bytes, "a flow").await?;
    let file = form::file(&form, &boundary, "file")?;
    let mut created = Vec::new();
    for said in flows(&Bytes::copy_from_slice(file.bytes))? {
        let taken = match said.id()? {
            Some(id) => app.store.flow_by_id(&caller.tenant, id).await?.is_some(),
            None => true,
        };
        created.push(match taken {
            true => create(&app, &caller, said, FlowId::generate()).await?,
            false => create_new(&app, &caller, said).await?,
        });
    }
    Ok((StatusCode::CREATED, Json(created)))
}

/// Create several flows, as Langflow does: `{"flows": [exports]}`.
///
/// The flows before one that is refused stay.
#[utoipa::path(
    post, path = "/api/v1/flows/batch/", tag = "langflow",
    request_body(content = Object, description = "The flows", content_type = "application/json"),
    responses(
        (status = 201, description = "Created", body = Vec<LangflowFlow>),
        (status = 409, description = "There is a flow with one of the ids", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_langflow_flows(
    Submit(caller): Submit,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Vec<LangflowFlow>>), Problem> {
    let bytes = body::read(&headers, body, app.config.limits.flow_bytes, "flows").await?;
    let created = create_all(&app, &caller, flows(&bytes)?).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

async fn create_all(app: &App, caller: &Caller, flows: Vec<Said>) -> Result<Vec<LangflowFlow>, Problem> {
    let mut created = Vec::with_capacity(flows.len());
    for said in flows {
        created.push(create_new(app, caller, said).await?);
    }
    Ok(created)
}

/// The flows that a document has, all of them checked.
fn flows(bytes: &[u8]) -> Result<Vec<Said>, Problem> {
    let invalid = |error: ErrorItem| Problem::of(Code::Invalid, vec![error]);
    let mut document: Map<String, Value> = body::json(bytes).map_err(invalid)?;
    let found = match document.remove("flows") {
        None => return Ok(vec![Said(document).check()?]),
        Some(Value::Array(flows)) if flows.len() <= archive::MOST => flows,
        Some(Value::Array(_)) => {
            let detail = format!("at most {} flows are taken at once", archive::MOST);
            return Err(Problem::invalid("/flows", detail));
        }
        Some(_) => return Err(Problem::invalid("/flows", "must be a list of flows")),
    };
    let one = |(index, flow): (usize, Value)| match flow {
        Value::Object(flow) => Said(flow).check(),
        _ => Err(Problem::invalid(format!("/flows/{index}"), "must be a flow")),
    };
    found.into_iter().enumerate().map(one).collect()
}

/// Download flows by their ids, as Langflow's clients do: one as it is, several as a ZIP archive.
#[utoipa::path(
    post, path = "/api/v1/flows/download/", tag = "langflow",
    request_body(content = Vec<Uuid>, description = "The ids", content_type = "application/json"),
    responses(
        (status = 200, description = "A flow, or an archive",
            content((LangflowFlow = "application/json"), (String = "application/zip"))),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn download_langflow_flows(
    Read(caller): Read,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = body::read(&headers, body, app.config.limits.body_bytes, "a list of ids").await?;
    let mut ids: Vec<Uuid> = body::json(&bytes).map_err(|error| Problem::of(Code::Invalid, vec![error]))?;
    ids.dedup();
    if ids.is_empty() || ids.len() > archive::MOST {
        let detail = format!("must be 1 to {} ids of flows", archive::MOST);
        return Err(Problem::invalid("", detail));
    }
    let mut found = Vec::with_capacity(ids.len());
    let mut size = 0;
    for id in ids {
        let record = find(&app, &caller.tenant, &id.to_string()).await?;
        let (document, bytes) = document(&app, &caller.tenant, &record).await?;
        size += bytes;
        if size > super::flows::BYTES {
            let detail = "the flows are too large for one answer: ask for fewer";
            return Err(Problem::new(Code::TooLarge, detail));
        }
        found.push(shown(&record, document, false));
    }
    match found.len() {
        1 => Ok(Json(found.remove(0)).into_response()),
        _ => Ok(archived(&found)),
    }
}
