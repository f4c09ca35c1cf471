//! Refusals as Langflow's server words them: a `detail` that is an object, or a list of the fields that are wrong.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::api::problem::{Code, Problem};

/// Why a call of `/api/v2/workflows` was refused.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// An object with `error`, `code` and `message`, or for a bad body or parameter a list of `{type, loc, msg}`.
    #[schema(value_type = Value)]
    pub detail: Value,
    #[serde(skip)]
    pub status: StatusCode,
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: &str, code: &str, message: impl Into<String>) -> Self {
        Self {
            detail: json!({"error": error, "code": code, "message": message.into()}),
            status,
            retry_after: None,
        }
    }

    pub(super) fn of(status: StatusCode, detail: Value) -> Self {
        Self {
            detail,
            status,
            retry_after: None,
        }
    }

    /// Says one thing more.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(detail) = &mut self.detail {
            detail.insert(name.to_owned(), value.into());
        }
        self
    }

    /// 422 for what is wrong with a body or a parameter.
    pub(super) fn fields(wrong: Vec<Wrong>) -> Self {
        Self {
            detail: wrong.into_iter().map(|wrong| wrong.0).collect(),
            status: StatusCode::UNPROCESSABLE_ENTITY,
            retry_after: None,
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrong(Value);

impl Wrong {
    pub(super) fn new(kind: &str, place: &[&str], detail: impl Into<String>) -> Self {
        Self(json!({"type": kind, "loc": place, "msg": detail.into()}))
    }

    /// What was expected, for machines.
    pub(super) fn expected(mut self, what: &str) -> Self {
        self.0["ctx"] = json!({"expected": what});
        self
    }

    pub(super) fn missing(place: &[&str]) -> Self {
        Self::new("missing", place, "Field required")
    }

    pub(super) fn no_uuid(place: &[&str], name: &str) -> Self {
        let detail = format!("Value error, Invalid {name}, must be a UUID");
        Self::new("value_error", place, detail)
    }

    /// At which byte a body stops being JSON.
    pub(super) fn no_json(at: usize) -> Self {
        Self(json!({"type": "json_invalid", "loc": ["body", at], "msg": "JSON decode error"}))
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let code = problem.code.to_ascii_uppercase();
        let mut detail = Map::new();
        detail.insert("error".to_owned(), problem.title.into());
        detail.insert("code".to_owned(), code.into());
        detail.insert("message".to_owned(), problem.detail.into());
        Self {
            detail: Value::Object(detail),
            status: StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            retry_after: problem.retry_after,
        }
    }
}

impl From<flowfleet_core::PortError> for Refusal {
    fn from(error: flowfleet_core::PortError) -> Self {
        Problem::from(error).into()
    }
}

impl From<crate::submit::parse::Refused> for Refusal {
    fn from(refused: crate::submit::parse::Refused) -> Self {
        Problem::from(refused).into()
    }
}

/// Whether a problem says that a flow is not there.
pub(super) fn is_missing(problem: &Problem) -> bool {
    problem.code == Code::NotFound.as_str()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self)).into_response();
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}
