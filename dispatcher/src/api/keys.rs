//! API keys and the audit log: for admins.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use flowfleet_core::port::{KeyRecord, NewKey, Role};
use flowfleet_core::{KeyId, Tenant};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Admin;
use super::body;
use super::problem::{Code, ErrorItem, Problem};
use super::query::{self, NoQuery, Query, Scope};
use crate::app::Shared;
use crate::keys;

const MAX_NAME: usize = 100;

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKeyBody {
    /// For people: what or who uses it.
    pub name: String,
    /// `admin`, `submit` or `read`.
    pub role: String,
    /// Your own when absent. Only admins of the tenant `default` make keys of others.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// A key, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Key {
    pub id: Uuid,
    pub name: String,
    pub role: &'static str,
    pub tenant: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

/// A new key. Its text is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    #[serde(flatten)]
    pub record: Key,
    /// Send it as `Authorization: Bearer ff_...`.
    pub key: String,
}

/// All keys of the tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    pub items: Vec<Key>,
    pub next_cursor: Option<String>,
}

/// One line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Audit {
    pub at: Timestamp,
    /// A key's id, `loopback` or `cli`.
    pub actor: String,
    /// Such as `flow.put`, `run.cancel`, `key.create`.
    pub action: String,
    pub target: String,
}

/// One page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditList {
    pub items: Vec<Audit>,
    pub next_cursor: Option<String>,
}

impl From<KeyRecord> for Key {
    fn from(record: KeyRecord) -> Self {
        Self {
            id: record.id.0,
            name: record.name,
            role: record.role.as_str(),
            tenant: record.tenant.to_string(),
            created_at: record.created_at,
            revoked_at: record.revoked_at,
        }
    }
}

/// Make an API key.
///
/// The first key closes the server to callers without one, so it must be an admin's.
#[utoipa::path(
    post, path = "/v1/keys", tag = "admin", request_body = NewKeyBody,
    responses(
        (status = 201, description = "The key, shown this once", body = CreatedKey),
        (status = 403, description = "Not an admin", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A bad body", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_key(
    Admin(caller): Admin,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    let bytes = body::read(&headers, body, app.config.limits.body_bytes, "a key").await?;
    let wanted: NewKeyBody = body::json(&bytes).map_err(|error| Problem::of(Code::Invalid, vec![error]))?;
    let mut errors = Vec::new();
    if wanted.name.trim().is_empty()
        || wanted.name.len() > MAX_NAME
        || wanted.name.chars().any(char::is_control)
    {
        errors.push(ErrorItem::new(
            "/name",
            format!("must have 1 to {MAX_NAME} bytes"),
        ));
    }
    let role = wanted
        .role
        .parse::<Role>()
        .map_err(|detail| errors.push(ErrorItem::new("/role", detail)))
        .ok();
    let tenant = match wanted.tenant.as_deref().map(str::parse::<Tenant>) {
        None => Some(caller.tenant.clone()),
        Some(Ok(tenant)) => Some(tenant),
        Some(Err(error)) => {
            errors.push(ErrorItem::new("/tenant", error.to_string()));
            None
        }
    };
    let (Some(role), Some(tenant), true) = (role, tenant, errors.is_empty()) else {
        return Err(Problem::of(Code::Invalid, errors));
    };
    if tenant != caller.tenant && caller.tenant != Tenant::default() {
        let detail = "only admins of the tenant default make keys of other tenants";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let first_of_all = app.keys.open().await?;
    if first_of_all && (role != Role::Admin || tenant != Tenant::default()) {
        let detail =
            "the first key must be an admin's of the tenant default: without one, nobody could make another";
        return Err(Problem::invalid("/role", detail));
    }
    let (plaintext, hash) = keys::generate();
    let key = NewKey {
        id: KeyId::generate(),
        tenant,
        name: wanted.name,
        role,
        hash,
    };
    let record = app.store.create_key(key).await?;
    app.keys.forget().await;
    app.audit(&caller.actor(), "key.create", &record.id.to_string())
        .await;
    Ok((
        StatusCode::CREATED,
        Json(CreatedKey {
            record: record.into(),
            key: plaintext,
        }),
    ))
}

/// All keys of the tenant, newest first, revoked ones included.
#[utoipa::path(
    get, path = "/v1/keys", tag = "admin",
    responses((status = 200, description = "Keys without their texts", body = KeyList)),
)]
pub(crate) async fn list_keys(
    Admin(caller): Admin,
    State(app): State<Shared>,
    _: NoQuery,
) -> Result<Json<KeyList>, Problem> {
    let keys = app.store.keys(&caller.tenant).await?;
    Ok(Json(KeyList {
        items: keys.into_iter().map(Key::from).collect(),
        next_cursor: None,
    }))
}

/// Revoke a key. Other dispatchers may honour it for up to ten seconds more.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "admin",
    params(("id" = Uuid, Path, description = "The key")),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "No such live key", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn revoke_key(
    Admin(caller): Admin,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let no_such_key = || Problem::not_found(format!("there is no live key {:.64}", id));
    let key: KeyId = id.parse().map_err(|_| no_such_key())?;
    let revoked = app.store.revoke_key(&caller.tenant, key).await?;
    app.keys.forget().await;
    if !revoked {
        return Err(no_such_key());
    }
    app.audit(&caller.actor(), "key.revoke", &key.to_string()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Who changed what, newest first. Submissions are not here: each is recorded as its run.
#[utoipa::path(
    get, path = "/v1/audit", tag = "admin",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "50 when absent"),
    ),
    responses((status = 200, description = "One page", body = AuditList)),
)]
pub(crate) async fn audit_log(
    Admin(caller): Admin,
    State(app): State<Shared>,
    mut query: Query,
) -> Result<Json<AuditList>, Problem> {
    let limit = query.limit()?;
    let scope = Scope::new(&["audit", caller.tenant.as_str()]);
    let before = query
        .one("cursor")?
        .map(|cursor| {
            let text = String::from_utf8(scope.position(&cursor)?).unwrap_or_default();
            query::value::<Timestamp>("cursor", &text)
        })
        .transpose()?;
    query.finish()?;
    let page = app.store.audit_log(&caller.tenant, before, limit).await?;
    let last = page
        .items
        .last()
        .filter(|_| page.more)
        .map(|entry| entry.at.to_string());
    let items = page.items.into_iter().map(|entry| Audit {
        at: entry.at,
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
    });
    Ok(Json(AuditList {
        items: items.collect(),
        next_cursor: last.map(|at| scope.cursor(at.as_bytes())),
    }))
}
