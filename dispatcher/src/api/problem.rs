//! Every error of the API as problem details (RFC 9457): the one place where errors become statuses.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flowfleet_core::PortError;
use flowfleet_core::error::Kind;
use serde::Serialize;
use utoipa::ToSchema;

/// Entries in `errors` at most.
pub(crate) const MAX_ERRORS: usize = 100;

/// Why a request was refused and what to do.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// A reference to the code's entry in the documentation.
    #[serde(rename = "type")]
    #[schema(example = "/docs#problem-invalid")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    pub detail: String,
    /// Stable and machine-readable.
    pub code: &'static str,
    /// What is wrong with a body or a parameter, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorItem>,
    /// Seconds, for the header `Retry-After`.
    #[serde(skip)]
    pub(crate) retry_after: Option<u32>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorItem {
    /// RFC 6901 pointer into the body; empty for the body as a whole or a query parameter.
    pub pointer: String,
    pub detail: String,
    /// The line of an NDJSON batch, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl ErrorItem {
    pub(crate) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
            line: None,
        }
    }
}

/// Codes with their status and title.
macro_rules! codes {
    ($($name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// Every code an answer may carry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $($name),* }

        impl Code {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

codes! {
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "the request is not valid";
    NotAvailable = "not_available", UNPROCESSABLE_ENTITY, "not available in this version";
    FlowInvalid = "flow_invalid", UNPROCESSABLE_ENTITY, "the document is not a flow that can run";
    FlowUnsupported = "flow_unsupported", UNPROCESSABLE_ENTITY, "the flow needs an engine that is not available";
    FlowNotFound = "flow_not_found", UNPROCESSABLE_ENTITY, "there is no such flow";
    RequestRefused = "request_refused", UNPROCESSABLE_ENTITY, "the flow does not accept this request";
    BodyMissing = "body_missing", BAD_REQUEST, "a body is needed";
    NotFound = "not_found", NOT_FOUND, "not found";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "method not allowed";
    Unauthorized = "unauthorized", UNAUTHORIZED, "an API key is needed";
    Forbidden = "forbidden", FORBIDDEN, "not allowed";
    IdempotencyConflict = "idempotency_conflict", CONFLICT, "the idempotency key was used for another request";
    NameTaken = "name_taken", CONFLICT, "the name is taken";
    WrongState = "wrong_state", CONFLICT, "the run is in the wrong state";
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "too large";
    RunFailed = "run_failed", INTERNAL_SERVER_ERROR, "the run failed";
    RunUnfinished = "run_unfinished", GATEWAY_TIMEOUT, "the run has not ended yet";
    Timeout = "timeout", SERVICE_UNAVAILABLE, "took too long";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "too busy";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "a backend is away";
    Internal = "internal", INTERNAL_SERVER_ERROR, "internal error";
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after = match code {
            Code::Overloaded => Some(1),
            Code::Unavailable | Code::Timeout => Some(2),
            _ => None,
        };
        Self {
            kind: format!("/docs#problem-{}", code.as_str()),
            title: code.title(),
            status: code.status().as_u16(),
            detail: detail.into(),
            code: code.as_str(),
            errors: Vec::new(),
            retry_after,
        }
    }

    /// 422 for one place of the body.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::of(Code::Invalid, vec![ErrorItem::new(pointer, detail)])
    }

    /// A code with its errors; the detail names the first and how many more there are.
    pub(crate) fn of(code: Code, errors: Vec<ErrorItem>) -> Self {
        let mut problem = Self::new(code, summary(&errors));
        problem.errors = errors;
        problem.errors.truncate(MAX_ERRORS);
        problem
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            Code::Internal,
            "an unexpected fault; the log of the dispatcher has the details",
        )
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn summary(errors: &[ErrorItem]) -> String {
    let Some(first) = errors.first() else {
        return "the request is not valid".to_owned();
    };
    let mut text = String::new();
    if let Some(line) = first.line {
        text = format!("line {line}: ");
    }
    if !first.pointer.is_empty() {
        text.push_str(&format!("{}: ", first.pointer));
    }
    text.push_str(&first.detail);
    match errors.len() {
        1 => text,
        n => format!("{text} (and {} more)", n - 1),
    }
}

impl From<PortError> for Problem {
    /// A backend that is away is said to be; anything else is logged and not shown.
    fn from(error: PortError) -> Self {
        Self::from(&error)
    }
}

impl From<&PortError> for Problem {
    fn from(error: &PortError) -> Self {
        if error.kind == Kind::Retryable {
            tracing::warn!(operation = error.operation, detail = %error.detail, "a backend is away");
            return Self::new(
                Code::Unavailable,
                "the store is not available right now: try again shortly",
            );
        }
        tracing::error!(operation = error.operation, detail = %error.detail, kind = ?error.kind, "a backend refused");
        Self::internal()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let retry_after = self.retry_after;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read.
            headers.insert(
                HeaderName::from_static("connection"),
                HeaderValue::from_static("close"),
            );
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowfleet_core::PortError;

    #[test]
    fn codes_are_distinct_and_documented() {
        let docs = include_str!("../docs.html");
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()));
            assert!(
                docs.contains(&format!("\"{}\"", code.as_str())),
                "{} is not in docs.html",
                code.as_str()
            );
        }
    }

    #[test]
    fn the_detail_names_the_first_error_and_its_line() {
        let mut first = ErrorItem::new("/flow", "is missing");
        first.line = Some(3);
        let problem = Problem::of(Code::Invalid, vec![first, ErrorItem::new("", "x")]);
        assert_eq!(problem.detail, "line 3: /flow: is missing (and 1 more)");
        assert_eq!(problem.status, 422);
    }

    #[test]
    fn internals_are_not_shown() {
        let secret = PortError::new(Kind::Permanent, "get", "password=hunter2");
        let problem = Problem::from(secret);
        assert_eq!(problem.status, 500);
        assert!(!problem.detail.contains("hunter2"));
        let away = PortError::new(Kind::Retryable, "get", "10.0.0.1 refused");
        let problem = Problem::from(away);
        assert_eq!((problem.status, problem.retry_after), (503, Some(2)));
        assert!(!problem.detail.contains("10.0.0.1"));
    }
}
