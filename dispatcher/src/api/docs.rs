//! The OpenAPI document, the page that renders it, and the landing page. Nothing is fetched from elsewhere.

use std::sync::{Arc, OnceLock};

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

const DOCS: &str = include_str!("../docs.html");
const LANDING: &str = include_str!("../landing.html");

/// Only what the page itself carries may run, and it may talk to this server only.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the document says beside the calls.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flowfleet",
        description = "Runs Langflow flows at fleet scale. Times are RFC 3339 in UTC, durations seconds, ids UUIDv7. \
            Lists are newest first, with `next_cursor`. Every error is `application/problem+json`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "runs", description = "Submit, watch, explain, cancel and replay runs"),
        (name = "flows", description = "Langflow exports and their immutable versions"),
        (name = "langflow", description = "Langflow's own API, for its clients: runs go through the queue like any other"),
        (name = "fleet", description = "Workers, slots and backlog"),
        (name = "admin", description = "API keys and the audit log"),
        (name = "operations", description = "Health, metrics and documentation"),
    ),
    security(("bearer" = []), ("api_key" = [])),
    modifiers(&Schemes),
)]
pub(crate) struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An API key (`ff_...`). Not needed while no key exists and the server is on loopback.",
            ))
            .build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let header = ApiKey::Header(ApiKeyValue::new("x-api-key"));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(header));
    }
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(crate) async fn openapi(document: axum::Extension<Rendered>) -> Response {
    let bytes = document.0.0.get().cloned().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

/// The document as it is sent: known once all calls are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rendered(Arc<OnceLock<Bytes>>);

impl Rendered {
    pub(crate) fn set(&self, document: Vec<u8>) {
        self.0.get_or_init(|| document.into());
    }
}

/// The API as a page.
#[utoipa::path(
    get, path = "/docs", tag = "operations", security(()),
    responses((status = 200, description = "A page", body = String, content_type = "text/html")),
)]
pub(crate) async fn docs() -> Response {
    page(DOCS)
}

/// Where to go, and the newest runs.
#[utoipa::path(
    get, path = "/", tag = "operations", security(()),
    responses((status = 200, description = "A page", body = String, content_type = "text/html")),
)]
pub(crate) async fn landing() -> Response {
    page(LANDING)
}

fn page(html: &'static str) -> Response {
    let mut response = Html(html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        HeaderName::from_static("referrer-policy"),
        HeaderValue::from_static("no-referrer"),
    );
    response
}
