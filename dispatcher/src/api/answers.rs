//! Answers that the layers around the calls give, written into the OpenAPI document for all calls at once.
//!
//! A call describes what is its own; who may call, how large a body may be and how busy the server is belong to none.

use super::limits::is_probe;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

/// Status, name among the document's components, and what it means.
const ANSWERS: [(&str, &str, &str); 5] = [
    (
        "401",
        "Unauthorized",
        "An API key is needed, and none or an unknown one was sent",
    ),
    (
        "403",
        "Forbidden",
        "The key's role, or a caller from elsewhere without a key, may not do this",
    ),
    ("413", "TooLarge", "The body is larger than the operator allows"),
    (
        "422",
        "Invalid",
        "A parameter or the body is not valid: `errors` has the places",
    ),
    (
        "503",
        "Unavailable",
        "Too busy, or a backend is away: try again after `Retry-After` seconds",
    ),
];

/// Adds to every call the answers it may give and does not describe itself.
pub(crate) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (_, name, description) in ANSWERS {
        components
            .responses
            .insert(name.to_owned(), RefOr::T(problem(description)));
    }
    for (path, item) in &mut document.paths.paths {
        // Health checks and metrics pass every layer: they must answer most of all when the process is busy.
        if is_probe(path) {
            continue;
        }
        for operation in operations(item) {
            add(operation);
        }
    }
}

fn problem(description: &str) -> Response {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

fn add(operation: &mut Operation) {
    // Only pages that are open to all say something about security of their own.
    let secured = operation.security.is_none();
    let has_body = operation.request_body.is_some();
    for (status, name, _) in ANSWERS {
        let may = match status {
            "413" => has_body,
            "503" => true,
            _ => secured,
        };
        if may {
            let answer = RefOr::Ref(Ref::from_response_name(name));
            operation
                .responses
                .responses
                .entry(status.to_owned())
                .or_insert(answer);
        }
    }
}
