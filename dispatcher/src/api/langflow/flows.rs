//! Flows as Langflow's clients keep them: `/api/v1/flows/`.
//!
//! Each change of a flow is a new version here; its id and its name stay.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use flowfleet_core::port::FlowRecord;
use flowfleet_core::{FlowId, FlowName, Tenant};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::document::{LangflowFlow, NAMES, Said, numbered, shown};
use super::projects::project_id;
use crate::api::auth::{Caller, Read, Submit};
use crate::api::body;
use crate::api::flows::keep;
use crate::api::problem::{Code, Problem};
use crate::api::query::{self, NoQuery, Query};
use crate::app::{App, Shared};
use crate::submit::resolve::no_such_flow;

/// Flows in one answer at most.
const MOST: usize = 1_000;
/// Bytes of documents in one answer at most.
pub(super) const BYTES: usize = 64 << 20;

/// The answer to a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowDeleted {
    pub message: &'static str,
}

/// The flows, as Langflow lists them.
///
/// All of them, or with `get_all=false` one page. All of them are in the one project that there is.
#[utoipa::path(
    get, path = "/api/v1/flows/", tag = "langflow",
    params(
        ("get_all" = Option<bool>, Query, description = "True when absent: all flows, up to a thousand"),
        ("page" = Option<u32>, Query, minimum = 1, maximum = 1000000, description = "1 when absent"),
        ("size" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Flows on a page; 50 when absent"),
        ("header_flows" = Option<bool>, Query, description = "Without data"),
        ("components_only" = Option<bool>, Query, description = "There are none"),
        ("remove_example_flows" = Option<bool>, Query, description = "There are none to remove"),
        ("folder_id" = Option<Uuid>, Query, description = "A project: others than the one of the tenant have none"),
    ),
    responses((status = 200, description = "The flows", body = Vec<LangflowFlow>)),
)]
pub(crate) async fn list_langflow_flows(
    Read(caller): Read,
    State(app): State<Shared>,
    mut query: Query,
) -> Result<Json<Vec<LangflowFlow>>, Problem> {
    let all = query.parsed::<bool>("get_all")?.unwrap_or(true);
    let page = query.parsed::<u32>("page")?.unwrap_or(1);
    let size = query.parsed::<u32>("size")?.unwrap_or(50);
    let header = query.parsed::<bool>("header_flows")?.unwrap_or(false);
    let components = query.parsed::<bool>("components_only")?.unwrap_or(false);
    let folder = query.parsed::<Uuid>("folder_id")?;
    query.parsed::<bool>("remove_example_flows")?;
    query.finish()?;
    if !(1..=1_000_000).contains(&page) || !(1..=100).contains(&size) {
        return Err(query::refuse(
            "pages count from 1 to 1000000 and have 1 to 100 flows".to_owned(),
        ));
    }
    let elsewhere = folder.is_some_and(|folder| folder != project_id(&caller.tenant));
    if components || elsewhere {
        return Ok(Json(Vec::new()));
    }
    let (skip, take) = match all {
        true => (0, MOST),
        false => ((page as usize - 1).saturating_mul(size as usize), size as usize),
    };
    Ok(Json(some(&app, &caller.tenant, (skip, take), header).await?))
}

/// All flows, as far as one answer may have them.
pub(super) async fn all(app: &App, tenant: &Tenant) -> Result<Vec<LangflowFlow>, Problem> {
    some(app, tenant, (0, MOST), false).await
}

async fn some(
    app: &App,
    tenant: &Tenant,
    (skip, take): (usize, usize),
    header: bool,
) -> Result<Vec<LangflowFlow>, Problem> {
    let (mut flows, mut bytes) = (Vec::new(), 0);
    for record in records(app, tenant, skip, take).await? {
        let (document, size) = document(app, tenant, &record).await?;
        bytes += size;
        if bytes > BYTES && !header {
            let detail =
                "the flows are too large for one answer: ask for pages with get_all=false&page=1&size=10";
            return Err(Problem::new(Code::TooLarge, detail));
        }
        flows.push(shown(&record, document, header));
    }
    Ok(flows)
}

/// The newest versions by name, some left out at the beginning.
async fn records(app: &App, tenant: &Tenant, skip: usize, take: usize) -> Result<Vec<FlowRecord>, Problem> {
    let mut found = Vec::new();
    let (mut after, mut left) = (None, skip);
    while found.len() < take {
        let page = app.store.flows(tenant, after.as_ref(), 1_000).await?;
        after = page.items.last().map(|record| record.flow.name.clone());
        let passed = left.min(page.items.len());
        left -= passed;
        let room = take - found.len();
        found.extend(page.items.into_iter().skip(passed).take(room));
        if !page.more {
            break;
        }
    }
    Ok(found)
}

/// A flow as Langflow shows it.
#[utoipa::path(
    get, path = "/api/v1/flows/{id}", tag = "langflow",
    params(("id" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, description = "The flow", body = LangflowFlow),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_langflow_flow(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<LangflowFlow>, Problem> {
    let record = find(&app, &caller.tenant, &id).await?;
    let (document, _) = document(&app, &caller.tenant, &record).await?;
    Ok(Json(shown(&record, document, false)))
}

/// Create a flow, as Langflow does.
///
/// Its name for calls is its `endpoint_name`, or made of its name; one that is taken gets a number behind. A flow that
/// cannot run here is refused, and so is one without nodes.
#[utoipa::path(
    post, path = "/api/v1/flows/", tag = "langflow",
    request_body(content = Object, description = "An export, or what Langflow's clients send", content_type = "application/json"),
    responses(
        (status = 201, description = "Created", body = LangflowFlow),
        (status = 409, description = "There is a flow with this id", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_langflow_flow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<LangflowFlow>), Problem> {
    let said = read(&app, &headers, body).await?;
    let created = create_new(&app, &caller, said).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Creates a flow under the id it brings, which nobody may have.
pub(super) async fn create_new(app: &App, caller: &Caller, said: Said) -> Result<LangflowFlow, Problem> {
    let id = match said.id()? {
        Some(id) if app.store.flow_by_id(&caller.tenant, id).await?.is_some() => {
            let detail =
                format!("there is a flow with the id {id}: PATCH or PUT /api/v1/flows/{id} changes it");
            return Err(Problem::new(Code::WrongState, detail));
        }
        Some(id) => id,
        None => FlowId::generate(),
    };
    create(app, caller, said, id).await
}

/// Change a flow, as Langflow does: what is given replaces what was, in a new version.
#[utoipa::path(
    patch, path = "/api/v1/flows/{id}", tag = "langflow",
    params(("id" = String, Path, description = "Its id or its name")),
    request_body(content = Object, description = "The fields to change", content_type = "application/json"),
    responses(
        (status = 200, description = "Changed", body = LangflowFlow),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change_langflow_flow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LangflowFlow>, Problem> {
    let said = read(&app, &headers, body).await?;
    let record = find(&app, &caller.tenant, &id).await?;
    Ok(Json(change(&app, &caller, said, &record).await?))
}

/// Create or change the flow with this id, as Langflow does.
#[utoipa::path(
    put, path = "/api/v1/flows/{id}", tag = "langflow",
    params(("id" = Uuid, Path, description = "Its id")),
    request_body(content = Object, description = "An export, or what Langflow's clients send", content_type = "application/json"),
    responses(
        (status = 200, description = "Changed", body = LangflowFlow),
        (status = 201, description = "Created", body = LangflowFlow),
    ),
)]
pub(crate) async fn put_langflow_flow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<LangflowFlow>), Problem> {
    let id: FlowId = id
        .parse()
        .map_err(|_| Problem::new(Code::Invalid, "the id of a flow must be a UUID"))?;
    let said = read(&app, &headers, body).await?;
    match app.store.flow_by_id(&caller.tenant, id).await? {
        Some(record) => {
            let changed = change(&app, &caller, said, &record).await?;
            Ok((StatusCode::OK, Json(changed)))
        }
        None => {
            let created = create(&app, &caller, said, id).await?;
            Ok((StatusCode::CREATED, Json(created)))
        }
    }
}

/// Delete a flow, as Langflow does. Runs that were submitted before still run.
#[utoipa::path(
    delete, path = "/api/v1/flows/{id}", tag = "langflow",
    params(("id" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, description = "Deleted", body = LangflowDeleted),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_langflow_flow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<LangflowDeleted>, Problem> {
    let record = find(&app, &caller.tenant, &id).await?;
    let name = record.flow.name;
    let deleted = app.store.delete_flow(&caller.tenant, &name).await?;
    app.flows.changed();
    if !deleted {
        return Err(no_such_flow(&id));
    }
    app.audit(&caller.actor(), "flow.delete", name.as_str()).await;
    Ok(Json(LangflowDeleted {
        message: "the flow is deleted",
    }))
}

async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Said, Problem> {
    let bytes = body::read(headers, body, app.config.limits.flow_bytes, "a flow").await?;
    let said = body::json(&bytes).map_err(|error| Problem::of(Code::Invalid, vec![error]))?;
    Said(said).check()
}

pub(super) async fn create(
    app: &App,
    caller: &Caller,
    said: Said,
    id: FlowId,
) -> Result<LangflowFlow, Problem> {
    let wanted = said.flow_name()?;
    let name = free(app, &caller.tenant, &wanted).await?;
    store(app, caller, &name, said.document(id, &name)).await
}

/// The name, or the name with the smallest number that nobody has.
async fn free(app: &App, tenant: &Tenant, wanted: &FlowName) -> Result<FlowName, Problem> {
    for name in (0..NAMES).filter_map(|n| numbered(wanted, n)) {
        if app.store.flow(tenant, &name, None).await?.is_none() {
            return Ok(name);
        }
    }
    let detail =
        format!("there are {NAMES} flows with the name {wanted} and a number behind: choose another name");
    Err(Problem::invalid("/name", detail))
}

async fn change(
    app: &App,
    caller: &Caller,
    said: Said,
    record: &FlowRecord,
) -> Result<LangflowFlow, Problem> {
    let name = &record.flow.name;
    let endpoint = said.0.get("endpoint_name").and_then(Value::as_str);
    if endpoint.is_some_and(|endpoint| !endpoint.is_empty() && endpoint != name.as_str()) {
        let detail = format!(
            "the name of a flow cannot be changed, since its runs and versions go by it: keep {name}"
        );
        return Err(Problem::invalid("/endpoint_name", detail));
    }
    let (stored, _) = document(app, &caller.tenant, record).await?;
    let document = said.over(stored).document(record.id, name);
    store(app, caller, name, document).await
}

async fn store(
    app: &App,
    caller: &Caller,
    name: &FlowName,
    document: Vec<u8>,
) -> Result<LangflowFlow, Problem> {
    let document = Bytes::from(document);
    let (put, _) = keep(app, caller, name.clone(), document.clone()).await?;
    Ok(shown(&put.record, object(&document)?, false))
}

/// The flow with an id or a name.
pub(super) async fn find(app: &App, tenant: &Tenant, text: &str) -> Result<FlowRecord, Problem> {
    let name = app.flows.find(tenant, text).await?;
    let record = app.store.flow(tenant, &name, None).await?;
    record.ok_or_else(|| no_such_flow(text))
}

/// A flow's document and how many bytes it has.
pub(super) async fn document(
    app: &App,
    tenant: &Tenant,
    record: &FlowRecord,
) -> Result<(Map<String, Value>, usize), Problem> {
    let document = app.store.flow_document(tenant, &record.flow).await?;
    let document = document.ok_or_else(Problem::internal)?;
    Ok((object(&document)?, document.len()))
}

fn object(document: &[u8]) -> Result<Map<String, Value>, Problem> {
    // The compiler takes a byte order mark, JSON does not.
    let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    serde_json::from_slice(document).map_err(|_| Problem::internal())
}
