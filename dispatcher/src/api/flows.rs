//! Flows over HTTP: upload, list, show, delete.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use flowfleet_core::FlowName;
use flowfleet_core::flow::FlowRef;
use flowfleet_core::port::{FlowRecord, NewFlow, PutFlow};
use flowfleet_engine::{FlowError, NodeInfo, Plan, Unsupported};
use flowfleet_runtime::payload::hex_sha256;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::{Caller, Read, Submit};
use super::body;
use super::problem::{Code, ErrorItem, Problem};
use super::query::{self, NoQuery, Query, Scope};
use crate::app::{App, Shared};
use crate::identity::flow_id;
use crate::submit::prepare::needs;

/// A stored version of a flow.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Flow {
    pub name: String,
    /// The id in the export, or one made from the name: what Langflow's clients may call the flow by.
    pub id: Uuid,
    pub version: u32,
    /// Lower-case hex sha256 of the document.
    pub digest: String,
    /// Nodes after groups are flattened and notes dropped.
    pub nodes: u32,
    /// What runs it: `native`.
    pub engine: String,
    pub created_at: Timestamp,
}

/// The answer to an upload.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlowStored {
    #[serde(flatten)]
    pub flow: Flow,
    /// Nodes that only Python can run, and why: they make `engine` `python`. Runs of such a flow wait for a worker that
    /// has it.
    pub unsupported: Vec<String>,
    /// What will run, but perhaps not as the author expects.
    pub warnings: Vec<String>,
}

/// A version with its document.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlowDocument {
    #[serde(flatten)]
    pub flow: Flow,
    /// The nodes, in an order in which they may run.
    #[schema(value_type = Vec<Object>)]
    pub node_list: Vec<NodeInfo>,
    pub warnings: Vec<String>,
    /// The export as it was uploaded.
    #[schema(value_type = Object)]
    pub document: Box<RawValue>,
}

/// One page of flows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlowList {
    pub items: Vec<Flow>,
    pub next_cursor: Option<String>,
}

impl From<FlowRecord> for Flow {
    fn from(record: FlowRecord) -> Self {
        Self {
            name: record.flow.name.to_string(),
            id: record.id.0,
            version: record.flow.version,
            digest: record.flow.digest,
            nodes: record.nodes,
            engine: record.engine,
            created_at: record.created_at,
        }
    }
}

/// Upload a flow.
///
/// The body is a Langflow export, as it is. It is compiled and, if it can run, stored as a new immutable version; the
/// same content as the newest version makes no new one (200).
#[utoipa::path(
    put, path = "/v1/flows/{name}", tag = "flows",
    params(("name" = String, Path, description = "1 to 128 of a-z, A-Z, 0-9, '-', '_' and '.'")),
    request_body(content = Object, description = "A Langflow export", content_type = "application/json"),
    responses(
        (status = 201, description = "A new version", body = FlowStored),
        (status = 200, description = "The newest version has this content already", body = FlowStored),
        (status = 413, description = "Too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It cannot run: which node and why. Nothing was stored", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put_flow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(name): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<FlowStored>), Problem> {
    let name = flow_name(&name)?;
    let document = body::read(&headers, body, app.config.limits.flow_bytes, "a flow").await?;
    let (put, plan) = keep(&app, &caller, name, document).await?;
    let status = if put.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let stored = FlowStored {
        flow: put.record.into(),
        unsupported: unsupported(&plan),
        warnings: plan.warnings().to_vec(),
    };
    Ok((status, Json(stored)))
}

/// Compiles a document and stores it as a new version, unless the newest is the same. What cannot run at all is refused.
pub(crate) async fn keep(
    app: &App,
    caller: &Caller,
    name: FlowName,
    document: Bytes,
) -> Result<(PutFlow, Arc<Plan>), Problem> {
    let digest = hex_sha256(&document);
    let compiled = app.flows.compile(&digest, document.clone()).await?;
    let plan = compiled.map_err(|error| refused(&error))?;
    let put = app
        .store
        .put_flow(NewFlow {
            id: flow_id(&caller.tenant, &name, plan.flow_id()),
            tenant: caller.tenant.clone(),
            name,
            digest,
            document,
            nodes: u32::try_from(plan.nodes()).unwrap_or(u32::MAX),
            engine: needs(plan.engine()).to_string(),
        })
        .await?;
    app.flows.changed();
    if put.created {
        let target = format!("{}@{}", put.record.flow.name, put.record.flow.version);
        app.audit(&caller.actor(), "flow.put", &target).await;
    }
    Ok((put, plan))
}

/// The newest version of each flow, by name.
#[utoipa::path(
    get, path = "/v1/flows", tag = "flows",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "50 when absent"),
    ),
    responses((status = 200, description = "One page", body = FlowList)),
)]
pub(crate) async fn list_flows(
    Read(caller): Read,
    State(app): State<Shared>,
    mut query: Query,
) -> Result<Json<FlowList>, Problem> {
    let limit = query.limit()?;
    let scope = Scope::new(&["flows", caller.tenant.as_str()]);
    let after = query
        .one("cursor")?
        .map(|cursor| {
            let name = String::from_utf8(scope.position(&cursor)?)
                .ok()
                .and_then(|name| name.parse().ok());
            name.ok_or_else(|| query::refuse("query parameter \"cursor\" is damaged".to_owned()))
        })
        .transpose()?;
    query.finish()?;
    let page = app.store.flows(&caller.tenant, after.as_ref(), limit).await?;
    let last = page
        .items
        .last()
        .filter(|_| page.more)
        .map(|record| record.flow.name.clone());
    Ok(Json(FlowList {
        items: page.items.into_iter().map(Flow::from).collect(),
        next_cursor: last.map(|name| scope.cursor(name.as_str().as_bytes())),
    }))
}

/// The newest version of a flow.
#[utoipa::path(
    get, path = "/v1/flows/{name}", tag = "flows",
    params(("name" = String, Path, description = "The flow")),
    responses(
        (status = 200, description = "The newest version, without its document", body = Flow),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_flow(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<Flow>, Problem> {
    let flow = FlowRef {
        name: flow_name(&name)?,
        version: None,
    };
    let record = app
        .store
        .flow(&caller.tenant, &flow.name, None)
        .await?
        .ok_or_else(|| no_such_flow(&flow))?;
    Ok(Json(record.into()))
}

/// One version of a flow with its document.
#[utoipa::path(
    get, path = "/v1/flows/{name}/versions/{version}", tag = "flows",
    params(
        ("name" = String, Path, description = "The flow"),
        ("version" = u32, Path, description = "The version"),
    ),
    responses(
        (status = 200, description = "The version", body = FlowDocument),
        (status = 404, description = "No such version", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_flow_version(
    Read(caller): Read,
    State(app): State<Shared>,
    Path((name, version)): Path<(String, String)>,
    _: NoQuery,
) -> Result<Json<FlowDocument>, Problem> {
    let name = flow_name(&name)?;
    let flow: FlowRef = format!("{name}@{version}")
        .parse()
        .map_err(|_| Problem::not_found(format!("there is no version {:.16} of flow {name}", version)))?;
    let record = app
        .store
        .flow(&caller.tenant, &flow.name, flow.version)
        .await?
        .ok_or_else(|| no_such_flow(&flow))?;
    let plan = app.flows.plan(&caller.tenant, &record.flow).await?;
    let document = app.store.flow_document(&caller.tenant, &record.flow).await?;
    let document = document
        .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
        // The compiler takes a byte order mark, JSON does not.
        .and_then(|text| RawValue::from_string(text.trim_start_matches('\u{feff}').to_owned()).ok())
        .ok_or_else(Problem::internal)?;
    Ok(Json(FlowDocument {
        flow: record.into(),
        node_list: plan.node_list(),
        warnings: plan.warnings().to_vec(),
        document,
    }))
}

/// Delete a flow.
///
/// New runs cannot name it any more; runs that were submitted before still run.
#[utoipa::path(
    delete, path = "/v1/flows/{name}", tag = "flows",
    params(("name" = String, Path, description = "The flow")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_flow(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let flow = FlowRef {
        name: flow_name(&name)?,
        version: None,
    };
    let deleted = app.store.delete_flow(&caller.tenant, &flow.name).await?;
    app.flows.changed();
    if !deleted {
        return Err(no_such_flow(&flow));
    }
    app.audit(&caller.actor(), "flow.delete", flow.name.as_str())
        .await;
    Ok(StatusCode::NO_CONTENT)
}

fn flow_name(text: &str) -> Result<FlowName, Problem> {
    text.parse()
        .map_err(|error: flowfleet_core::name::BadName| Problem::new(Code::Invalid, error.to_string()))
}

fn no_such_flow(flow: &FlowRef) -> Problem {
    Problem::not_found(format!("there is no flow {flow}"))
}

fn refused(error: &FlowError) -> Problem {
    let errors = error
        .problems
        .iter()
        .map(|problem| {
            let detail = match &problem.node {
                Some(node) => format!("node {node}: {}", problem.detail),
                None => problem.detail.clone(),
            };
            ErrorItem::new(problem.pointer.clone(), detail)
        })
        .collect();
    Problem::of(Code::FlowInvalid, errors)
}

/// Each node that the native engine must not stand in for, and why.
fn unsupported(plan: &Plan) -> Vec<String> {
    let say = |node: &Unsupported| format!("node {} ({}): {}", node.node, node.display_name, node.reason);
    plan.unsupported().iter().map(say).collect()
}
