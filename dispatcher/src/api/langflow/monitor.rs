//! What was said in sessions, as Langflow's clients read it: `/api/v1/monitor/messages`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use flowfleet_core::chat::{Recall, Said};
use flowfleet_core::{FlowName, Tenant};
use flowfleet_engine::langflow::{all_properties, timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::auth::{Read, Submit};
use crate::api::problem::Problem;
use crate::api::query::{self, NoQuery, Query};
use crate::app::{App, Shared};

/// Messages or sessions in an answer, if nobody says how many, and at most.
const DEFAULT: u32 = 100;
const MOST: u32 = 200;

/// A message as Langflow shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowMessage {
    pub id: Uuid,
    pub flow_id: Option<Uuid>,
    /// In UTC, as `2026-11-21 23:22:38.966079 UTC`.
    pub timestamp: String,
    pub sender: String,
    pub sender_name: String,
    pub session_id: String,
    pub context_id: String,
    pub text: String,
    /// A list, as JSON text.
    pub files: String,
    pub edit: bool,
    pub duration: Option<f64>,
    #[schema(value_type = Object)]
    pub properties: Value,
    pub category: String,
    /// Steps of agents, in groups.
    #[schema(value_type = Vec<Object>)]
    pub content_blocks: Vec<Value>,
    #[schema(value_type = Option<Object>)]
    pub session_metadata: Option<Value>,
}

/// What was said in sessions.
///
/// The newest messages that match, oldest first unless `order` is `DESC`.
#[utoipa::path(
    get, path = "/api/v1/monitor/messages", tag = "langflow",
    params(
        ("flow_id" = Option<Uuid>, Query, description = "Only of this flow"),
        ("session_id" = Option<String>, Query, description = "Only of this session"),
        ("sender" = Option<String>, Query, description = "`User` or `Machine`"),
        ("sender_name" = Option<String>, Query, description = "Only of this sender"),
        ("order_by" = Option<String>, Query, description = "timestamp, sender, sender_name, session_id or text"),
        ("order" = Option<String>, Query, description = "ASC or DESC"),
        ("limit" = Option<u32>, Query, description = "100 when absent or 0, 200 at most"),
        ("offset" = Option<u32>, Query, description = "Newer ones to pass over"),
    ),
    responses((status = 200, description = "The messages", body = Vec<LangflowMessage>)),
)]
pub(crate) async fn list_messages(
    Read(caller): Read,
    State(app): State<Shared>,
    mut query: Query,
) -> Result<Json<Vec<LangflowMessage>>, Problem> {
    let flow = query.parsed::<Uuid>("flow_id")?;
    let text = |query: &mut Query, name| {
        let given = query.one(name)?;
        Ok::<_, Problem>(given.filter(|text| !text.is_empty()))
    };
    let (session_id, sender) = (text(&mut query, "session_id")?, text(&mut query, "sender")?);
    let sender_name = text(&mut query, "sender_name")?;
    let by = query.one("order_by")?.unwrap_or_else(|| "timestamp".to_owned());
    let order = query.one("order")?.unwrap_or_else(|| "ASC".to_owned());
    let (offset, limit) = window(&mut query)?;
    query.finish()?;
    let descending = match order.to_ascii_uppercase().as_str() {
        "ASC" => false,
        "DESC" => true,
        _ => return Err(query::refuse("order must be ASC or DESC".to_owned())),
    };
    let key = key(&by).ok_or_else(|| {
        query::refuse("order_by must be timestamp, sender, sender_name, session_id or text".to_owned())
    })?;
    let Some(flow) = flow_named(&app, &caller.tenant, flow).await? else {
        return Ok(Json(Vec::new()));
    };
    let wanted = Recall {
        flow,
        session_id,
        context_id: None,
        sender,
        sender_name,
        offset,
        limit,
    };
    let mut messages: Vec<_> = app.store.recall(&caller.tenant, &wanted).await?;
    messages.reverse();
    if by != "timestamp" {
        messages.sort_by(|a, b| key(a).cmp(key(b)));
    }
    if descending {
        messages.reverse();
    }
    Ok(Json(messages.into_iter().map(shown).collect()))
}

/// The sessions that have messages, that with the newest first.
#[utoipa::path(
    get, path = "/api/v1/monitor/messages/sessions", tag = "langflow",
    params(
        ("flow_id" = Option<Uuid>, Query, description = "Only of this flow"),
        ("limit" = Option<u32>, Query, description = "100 when absent or 0, 200 at most"),
        ("offset" = Option<u32>, Query, description = "Sessions to pass over"),
    ),
    responses((status = 200, description = "Their ids", body = Vec<String>)),
)]
pub(crate) async fn list_sessions(
    Read(caller): Read,
    State(app): State<Shared>,
    mut query: Query,
) -> Result<Json<Vec<String>>, Problem> {
    let flow = query.parsed::<Uuid>("flow_id")?;
    let (offset, limit) = window(&mut query)?;
    query.finish()?;
    let Some(flow) = flow_named(&app, &caller.tenant, flow).await? else {
        return Ok(Json(Vec::new()));
    };
    let sessions = app.store.sessions(&caller.tenant, flow.as_ref(), offset, limit);
    Ok(Json(sessions.await?))
}

/// Forget a session, in all flows.
#[utoipa::path(
    delete, path = "/api/v1/monitor/messages/session/{session_id}", tag = "langflow",
    params(("session_id" = String, Path, description = "The session")),
    responses((status = 204, description = "It has no messages any more")),
)]
pub(crate) async fn forget_session(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(session_id): Path<String>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let forgotten = app.store.forget(&caller.tenant, &session_id).await?;
    if forgotten > 0 {
        let session: String = session_id.chars().take(200).collect();
        app.audit(&caller.actor(), "session.forget", &session).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn window(query: &mut Query) -> Result<(u32, u32), Problem> {
    let mut number = |name: &'static str| match query.parsed::<u32>(name)? {
        Some(number) if number > i32::MAX.unsigned_abs() => {
            Err(query::refuse(format!("{name} must be at most {}", i32::MAX)))
        }
        number => Ok(number.unwrap_or(0)),
    };
    let limit = Some(number("limit")?).filter(|limit| *limit > 0);
    Ok((number("offset")?, limit.unwrap_or(DEFAULT).min(MOST)))
}

/// The flow whose messages are wanted; `None` if there is no such flow.
async fn flow_named(
    app: &App,
    tenant: &Tenant,
    id: Option<Uuid>,
) -> Result<Option<Option<FlowName>>, Problem> {
    let Some(id) = id else { return Ok(Some(None)) };
    let record = app.store.flow_by_id(tenant, flowfleet_core::FlowId(id)).await?;
    Ok(record.map(|record| Some(record.flow.name)))
}

/// What messages are sorted by, beside their time.
fn key(name: &str) -> Option<fn(&Said) -> &str> {
    Some(match name {
        "timestamp" => |_| "",
        "sender" => |said| &said.message.sender,
        "sender_name" => |said| &said.message.sender_name,
        "session_id" => |said| &said.message.session_id,
        "text" => |said| &said.message.text,
        _ => return None,
    })
}

fn shown(said: Said) -> LangflowMessage {
    let message = said.message;
    LangflowMessage {
        id: message.id,
        flow_id: message.flow_id.parse().ok(),
        timestamp: timestamp(said.at),
        sender: message.sender,
        sender_name: message.sender_name,
        session_id: message.session_id,
        context_id: message.context_id,
        text: message.text,
        files: json!(message.files).to_string(),
        edit: false,
        duration: None,
        properties: all_properties(Some(&message.properties)),
        category: message.category,
        content_blocks: steps(&message.content_blocks),
        session_metadata: None,
    }
}

/// An agent's steps as one group, if it took any.
fn steps(blocks: &Value) -> Vec<Value> {
    let blocks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
    if !blocks.iter().any(|block| block["type"] == "tool_use") {
        return Vec::new();
    }
    let leaf = |block: &Value| {
        let mut leaf = block.clone();
        if let Some(fields) = leaf.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "id" | "contents"));
        }
        leaf
    };
    let contents: Vec<Value> = blocks.iter().map(leaf).collect();
    vec![json!({"title": "Agent Steps", "contents": contents, "allow_markdown": true, "media_url": null})]
}
