//! Knowledge bases, as Langflow's clients make, list and delete them: `/api/v1/knowledge_bases`. What lies in them is
//! brought and found by flows.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use flowfleet_core::knowledge::{BASES, Knowledge, MODEL_BYTES, NewKnowledge, SETTINGS_BYTES};
use flowfleet_core::{Kind, KnowledgeName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::auth::{Read, Submit};
use crate::api::body;
use crate::api::problem::{Code, ErrorItem, Problem};
use crate::api::query::NoQuery;
use crate::app::Shared;

/// Embedding models that flows can ask.
const MODELS: [&str; 3] = [
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
];

/// A base to make. Members that Langflow's clients send beside these are kept, and not read.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewKnowledgeBase {
    /// Letters, digits, `-`, `_`, `.` and spaces, which become `_`.
    pub name: String,
    /// `OpenAI`.
    pub embedding_provider: String,
    /// `text-embedding-3-small`, `text-embedding-3-large` or `text-embedding-ada-002`.
    pub embedding_model: String,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub model_selection: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    pub column_config: Option<Value>,
}

/// A knowledge base as Langflow shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowKnowledgeBase {
    pub id: Uuid,
    /// What flows call it.
    pub dir_name: String,
    pub name: String,
    pub embedding_provider: String,
    pub embedding_model: String,
    /// About how many bytes it takes.
    pub size: u64,
    pub words: u64,
    pub characters: u64,
    pub chunks: u64,
    pub avg_chunk_size: f64,
    pub chunk_size: Option<u32>,
    pub chunk_overlap: Option<u32>,
    pub separator: Option<String>,
    /// `empty` or `ready`.
    pub status: &'static str,
    pub failure_reason: Option<String>,
    pub last_job_id: Option<String>,
    pub source_types: Vec<String>,
    #[schema(value_type = Option<Vec<Object>>)]
    pub column_config: Option<Value>,
    pub backend_type: &'static str,
    #[schema(value_type = Object)]
    pub backend_config: Value,
    pub storage_state: &'static str,
    pub storage_generation: u32,
    pub active_migration_id: Option<String>,
}

/// What became of a base.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KnowledgeBaseDeleted {
    pub message: String,
}

/// The knowledge bases, by name.
#[utoipa::path(
    get, path = "/api/v1/knowledge_bases", tag = "langflow",
    responses((status = 200, description = "All of them", body = Vec<LangflowKnowledgeBase>)),
)]
pub(crate) async fn list_knowledge_bases(
    Read(caller): Read,
    State(app): State<Shared>,
    _: NoQuery,
) -> Result<Json<Vec<LangflowKnowledgeBase>>, Problem> {
    let bases = app.store.knowledge_list(&caller.tenant, None, BASES).await?;
    Ok(Json(bases.items.into_iter().map(shown).collect()))
}

/// Make a knowledge base.
///
/// What lies in it is compared by the vectors of one embedding model, which cannot be changed.
#[utoipa::path(
    post, path = "/api/v1/knowledge_bases", tag = "langflow", request_body = NewKnowledgeBase,
    responses(
        (status = 201, description = "Made, and empty", body = LangflowKnowledgeBase),
        (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A bad body", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_knowledge_base(
    Submit(caller): Submit,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<LangflowKnowledgeBase>), Problem> {
    let most = app.config.limits.body_bytes;
    let bytes = body::read(&headers, body, most, "a knowledge base").await?;
    let wanted: NewKnowledgeBase =
        body::json(&bytes).map_err(|error| Problem::of(Code::Invalid, vec![error]))?;
    let new = checked(wanted)?;
    let made = app.store.create_knowledge(&caller.tenant, &new).await;
    let made = made.map_err(|error| match error.kind {
        // The store's own words say which limit it is.
        Kind::Permanent => Problem::new(Code::RequestRefused, error.detail),
        _ => Problem::from(&error),
    })?;
    let Some(made) = made else {
        let detail = format!(
            "there is a knowledge base {:?}: delete it, or choose another name",
            new.name.as_str()
        );
        return Err(Problem::new(Code::NameTaken, detail));
    };
    app.audit(&caller.actor(), "knowledge.create", made.name.as_str())
        .await;
    Ok((StatusCode::CREATED, Json(shown(made))))
}

/// A knowledge base.
#[utoipa::path(
    get, path = "/api/v1/knowledge_bases/{name}", tag = "langflow",
    params(("name" = String, Path, description = "What flows call it")),
    responses(
        (status = 200, description = "The base", body = LangflowKnowledgeBase),
        (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_knowledge_base(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<LangflowKnowledgeBase>, Problem> {
    let parsed = parsed(&name)?;
    let found = app.store.knowledge(&caller.tenant, &parsed).await?;
    found.map(|base| Json(shown(base))).ok_or_else(|| none(&name))
}

/// Delete a knowledge base with all that lies in it.
#[utoipa::path(
    delete, path = "/api/v1/knowledge_bases/{name}", tag = "langflow",
    params(("name" = String, Path, description = "What flows call it")),
    responses(
        (status = 200, description = "It is gone", body = KnowledgeBaseDeleted),
        (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_knowledge_base(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<KnowledgeBaseDeleted>, Problem> {
    let parsed = parsed(&name)?;
    if !app.store.delete_knowledge(&caller.tenant, &parsed).await? {
        return Err(none(&name));
    }
    app.audit(&caller.actor(), "knowledge.delete", &name).await;
    let message = format!("Knowledge base '{name}' deleted successfully");
    Ok(Json(KnowledgeBaseDeleted { message }))
}

fn parsed(name: &str) -> Result<KnowledgeName, Problem> {
    name.parse().map_err(|_| none(name))
}

fn none(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::not_found(format!("there is no knowledge base {name:?}"))
}

fn checked(wanted: NewKnowledgeBase) -> Result<NewKnowledge, Problem> {
    let mut errors = Vec::new();
    let name = wanted.name.trim().replace(' ', "_").parse::<KnowledgeName>();
    let name = name
        .map_err(|error| errors.push(ErrorItem::new("/name", error.to_string())))
        .ok();
    if !wanted.embedding_provider.trim().eq_ignore_ascii_case("OpenAI") {
        let detail = "must be OpenAI: flows ask no other provider for embeddings";
        errors.push(ErrorItem::new("/embedding_provider", detail));
    }
    let model = wanted.embedding_model.trim();
    if !MODELS.contains(&model) || model.len() > MODEL_BYTES {
        errors.push(ErrorItem::new(
            "/embedding_model",
            format!("must be one of {}", MODELS.join(", ")),
        ));
    }
    let settings = json!({"model_selection": wanted.model_selection, "column_config": wanted.column_config});
    if settings.to_string().len() > SETTINGS_BYTES {
        let detail = format!("model_selection and column_config have at most {SETTINGS_BYTES} bytes");
        errors.push(ErrorItem::new("", detail));
    }
    if wanted
        .column_config
        .is_some_and(|config| !config.is_array() && !config.is_null())
    {
        errors.push(ErrorItem::new("/column_config", "must be a list"));
    }
    let (Some(name), true) = (name, errors.is_empty()) else {
        return Err(Problem::of(Code::Invalid, errors));
    };
    Ok(NewKnowledge {
        id: Uuid::now_v7(),
        name,
        provider: "OpenAI".to_owned(),
        model: model.to_owned(),
        settings,
    })
}

fn shown(base: Knowledge) -> LangflowKnowledgeBase {
    let dimensions = u64::from(base.dimensions.unwrap_or_default());
    let average = base.characters as f64 / base.chunks.max(1) as f64;
    LangflowKnowledgeBase {
        id: base.id,
        dir_name: base.name.to_string(),
        name: base.name.to_string().replace('_', " "),
        embedding_provider: base.provider,
        embedding_model: base.model,
        size: base.chunks * dimensions * 4 + base.characters,
        words: base.words,
        characters: base.characters,
        chunks: base.chunks,
        avg_chunk_size: (average * 10.0).round() / 10.0,
        chunk_size: None,
        chunk_overlap: None,
        separator: None,
        status: if base.chunks == 0 { "empty" } else { "ready" },
        failure_reason: None,
        last_job_id: None,
        source_types: Vec::new(),
        column_config: base
            .settings
            .get("column_config")
            .cloned()
            .filter(|config| !config.is_null()),
        backend_type: "flowfleet",
        backend_config: json!({}),
        storage_state: "ready",
        storage_generation: 1,
        active_migration_id: None,
    }
}
