//! Files that flows read: uploaded as Langflow's clients do, kept among the blobs, named by the path that an upload
//! answers with.
//!
//! The path `{folder}/{file}` is the blob `langflow-files/{tenant}/{folder}/{file}`. Names carry the time and a hash of
//! the bytes, since a blob is never overwritten.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flowfleet_core::port::BlobInfo;
use flowfleet_core::{FlowId, Tenant};
use flowfleet_runtime::payload::hex_sha256;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::{Builder, Uuid};

use super::form;
use crate::api::auth::{Read, Submit};
use crate::api::body;
use crate::api::problem::Problem;
use crate::api::query::NoQuery;
use crate::app::{App, Shared};

/// Files in one answer.
const MOST: usize = 10_000;
/// Characters of a file's name that are kept: its end, where its kind is.
const NAME: usize = 100;

/// A file of a flow, uploaded.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LangflowFlowFile {
    pub flow_id: Uuid,
    /// What a component of the flow reads it by.
    #[serde(rename = "file_path")]
    pub file_path: String,
}

/// The files of a flow.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowFlowFiles {
    pub files: Vec<String>,
}

/// A file was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowFileDeleted {
    pub message: &'static str,
}

/// A file of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LangflowFile {
    pub id: Uuid,
    /// Without its ending.
    pub name: String,
    /// What a component reads it by.
    pub path: String,
    pub size: u64,
    pub provider: Option<String>,
    pub user_id: Uuid,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Upload a file for a flow, as Langflow's clients do: the field `file` of a form.
#[utoipa::path(
    post, path = "/api/v1/files/upload/{flow}", tag = "langflow",
    params(("flow" = String, Path, description = "Its id or its name")),
    request_body(content = Object, description = "The file, in the field `file`", content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "Stored", body = LangflowFlowFile),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn upload_flow_file(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(flow): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<LangflowFlowFile>), Problem> {
    let name = app.flows.find(&caller.tenant, &flow).await?;
    let flow = app.flows.named(&caller.tenant, &name).await?.id;
    let stored = store(&app, &caller.tenant, flow.0, &headers, body).await?;
    app.audit(&caller.actor(), "file.upload", &stored.path).await;
    let answer = LangflowFlowFile {
        flow_id: flow.0,
        file_path: stored.path,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Upload a file for all flows, as Langflow's clients do: the field `file` of a form.
#[utoipa::path(
    post, path = "/api/v2/files", tag = "langflow",
    request_body(content = Object, description = "The file, in the field `file`", content_type = "multipart/form-data"),
    responses((status = 201, description = "Stored", body = LangflowFile)),
)]
pub(crate) async fn upload_file(
    Submit(caller): Submit,
    State(app): State<Shared>,
    _: NoQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<LangflowFile>), Problem> {
    let owner = owner(&caller.tenant);
    let stored = store(&app, &caller.tenant, owner, &headers, body).await?;
    app.audit(&caller.actor(), "file.upload", &stored.path).await;
    let at = Timestamp::now();
    let answer = LangflowFile {
        id: made_of(&stored.path),
        name: stem(&stored.called).to_owned(),
        path: stored.path,
        size: stored.size,
        provider: None,
        user_id: owner,
        created_at: at,
        updated_at: at,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The files for all flows, oldest first, up to ten thousand.
#[utoipa::path(
    get, path = "/api/v2/files", tag = "langflow",
    responses((status = 200, description = "The files", body = Vec<LangflowFile>)),
)]
pub(crate) async fn list_files(
    Read(caller): Read,
    State(app): State<Shared>,
    _: NoQuery,
) -> Result<Json<Vec<LangflowFile>>, Problem> {
    let files = own(&app, &caller.tenant).await?;
    Ok(Json(files.into_iter().map(|(file, _)| file).collect()))
}

/// Delete a file for all flows.
#[utoipa::path(
    delete, path = "/api/v2/files/{id}", tag = "langflow",
    params(("id" = Uuid, Path, description = "The file")),
    responses(
        (status = 200, description = "Deleted", body = LangflowFileDeleted),
        (status = 404, description = "No such file", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_file(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<LangflowFileDeleted>, Problem> {
    let id = id.parse::<Uuid>().ok();
    let files = own(&app, &caller.tenant).await?;
    let found = files.into_iter().find(|(file, _)| Some(file.id) == id);
    let (file, key) = found.ok_or_else(|| Problem::not_found("there is no such file"))?;
    app.blob.delete(&key).await?;
    app.audit(&caller.actor(), "file.delete", &file.path).await;
    Ok(Json(LangflowFileDeleted {
        message: "the file is deleted",
    }))
}

/// The files for all flows, with the keys of their blobs.
async fn own(app: &App, tenant: &Tenant) -> Result<Vec<(LangflowFile, String)>, Problem> {
    let owner = owner(tenant);
    let folder = key(tenant, &owner.to_string());
    let file = |blob: BlobInfo| {
        let name = blob.key.rsplit('/').next().unwrap_or_default();
        let path = path(owner, name);
        // Date, time and hash come first.
        let called = name.splitn(4, '_').nth(3).unwrap_or(name);
        let file = LangflowFile {
            id: made_of(&path),
            name: stem(called).to_owned(),
            path,
            size: blob.size,
            provider: None,
            user_id: owner,
            created_at: blob.stored_at,
            updated_at: blob.stored_at,
        };
        (file, blob.key)
    };
    let blobs = app.blob.list(&folder, MOST).await?;
    Ok(blobs.into_iter().map(file).collect())
}

/// The names of the files of a flow, up to ten thousand.
#[utoipa::path(
    get, path = "/api/v1/files/list/{flow}", tag = "langflow",
    params(("flow" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, description = "The names", body = LangflowFlowFiles),
        (status = 404, description = "No such flow", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_flow_files(
    Read(caller): Read,
    State(app): State<Shared>,
    Path(flow): Path<String>,
    _: NoQuery,
) -> Result<Json<LangflowFlowFiles>, Problem> {
    let name = app.flows.find(&caller.tenant, &flow).await?;
    let flow = app.flows.named(&caller.tenant, &name).await?.id;
    let folder = key(&caller.tenant, &flow.to_string());
    let blobs = app.blob.list(&folder, MOST).await?;
    let name = |blob: BlobInfo| blob.key.rsplit('/').next().map(str::to_owned);
    let files = blobs.into_iter().filter_map(name).collect();
    Ok(Json(LangflowFlowFiles { files }))
}

/// Delete a file of a flow.
#[utoipa::path(
    delete, path = "/api/v1/files/delete/{flow}/{file}", tag = "langflow",
    params(
        ("flow" = Uuid, Path, description = "The id of its flow"),
        ("file" = String, Path, description = "Its name in the path"),
    ),
    responses(
        (status = 200, description = "Deleted, or not there", body = LangflowFileDeleted),
        (status = 404, description = "No such file", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_flow_file(
    Submit(caller): Submit,
    State(app): State<Shared>,
    Path((flow, file)): Path<(String, String)>,
    _: NoQuery,
) -> Result<Json<LangflowFileDeleted>, Problem> {
    let path = known(&flow, &file)?;
    app.blob.delete(&key(&caller.tenant, &path)).await?;
    app.audit(&caller.actor(), "file.delete", &path).await;
    Ok(Json(LangflowFileDeleted {
        message: "the file is deleted",
    }))
}

/// Download a file by the path its upload answered with.
#[utoipa::path(
    get, path = "/api/v1/files/download/{flow}/{file}", tag = "langflow",
    params(
        ("flow" = Uuid, Path, description = "The id of its flow"),
        ("file" = String, Path, description = "Its name in the path"),
    ),
    responses(
        (status = 200, description = "The file", body = String, content_type = "application/octet-stream"),
        (status = 404, description = "No such file", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn download_flow_file(
    Read(caller): Read,
    State(app): State<Shared>,
    Path((flow, file)): Path<(String, String)>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let path = known(&flow, &file)?;
    let bytes = app.blob.get(&key(&caller.tenant, &path)).await?;
    let bytes = bytes.ok_or_else(|| no_such_file(&file))?;
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    let stream = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, stream);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(HeaderName::from_static("x-content-type-options"), nosniff);
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{file}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

fn no_such_file(file: &str) -> Problem {
    let file: String = file.chars().take(NAME).collect();
    Problem::not_found(format!("there is no file {file} of this flow"))
}

/// The path of a file of a flow. What an upload never made is not asked for.
fn known(flow: &str, file: &str) -> Result<String, Problem> {
    let is_plain =
        file == plain(file) && !file.is_empty() && !file.starts_with('.') && file.len() <= 2 * NAME;
    match flow.parse::<FlowId>() {
        Ok(flow) if is_plain => Ok(path(flow.0, file)),
        _ => Err(no_such_file(file)),
    }
}

/// A name without its ending.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

struct Stored {
    path: String,
    /// As the client calls it.
    called: String,
    size: u64,
}

async fn store(
    app: &App,
    tenant: &Tenant,
    folder: Uuid,
    headers: &HeaderMap,
    body: Body,
) -> Result<Stored, Problem> {
    let boundary = form::boundary(headers)?;
    let form = body::read(headers, body, app.config.limits.file_bytes, "a file").await?;
    let found = form::file(&form, &boundary, "file")?;
    let name = called(found.name, found.bytes, Timestamp::now());
    let path = path(folder, &name);
    let bytes = Bytes::copy_from_slice(found.bytes);
    let (called, size) = (found.name.to_owned(), bytes.len() as u64);
    app.blob.put(&key(tenant, &path), bytes).await?;
    Ok(Stored { path, called, size })
}

/// What a file is called here.
fn called(name: &str, bytes: &[u8], at: Timestamp) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: Vec<char> = plain(name).chars().collect();
    let end: String = kept[kept.len().saturating_sub(NAME)..].iter().collect();
    let sum = hex_sha256(bytes);
    format!("{}_{}_{end}", at.strftime("%Y-%m-%d_%H-%M-%S"), &sum[..16])
}

/// Only characters that a blob's key may have.
fn plain(name: &str) -> String {
    let keep = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
        _ => '_',
    };
    name.chars().map(keep).collect()
}

fn path(folder: Uuid, file: &str) -> String {
    format!("{folder}/{file}")
}

fn key(tenant: &Tenant, path: &str) -> String {
    format!("langflow-files/{tenant}/{path}")
}

/// Langflow's files belong to users, those here to a tenant.
pub(super) fn owner(tenant: &Tenant) -> Uuid {
    made_of(&format!("owner {tenant}"))
}

/// An id that the same text always has.
pub(super) fn made_of(text: &str) -> Uuid {
    let mut bytes = [0; 16];
    let sum = hex_sha256(text.as_bytes());
    for (byte, digits) in bytes.iter_mut().zip(sum.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_blobs_and_keep_their_kind() {
        let at = "2026-11-21T23:57:19Z".parse().unwrap();
        let of = |name: &str| called(name, b"hello", at);
        assert_eq!(of("a.txt"), "2026-11-21_23-57-19_2cf24dba5fb0a30e_a.txt");
        assert!(of("../../etc/pass wd").ends_with("_pass_wd"));
        assert!(of("C:\\x\\y.csv").ends_with("_y.csv"));
        assert!(of(&"é".repeat(500)).len() <= 2 * NAME);
        assert!(of(&format!("{}.csv", "n".repeat(500))).ends_with("n.csv"));
        assert_ne!(called("a", b"1", at), called("a", b"2", at));
        assert_eq!(of("").len(), of("x").len() - 1);
    }

    #[test]
    fn the_same_text_has_the_same_id() {
        assert_eq!(made_of("a"), made_of("a"));
        assert_ne!(made_of("a"), made_of("b"));
        assert_eq!(made_of("a").get_version_num(), 4);
    }
}
