//! What went wrong with one try, whether another can help, and what the user can do about it.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value as Json;

use super::openai::Dialect;
use super::settings::HOSTS;
use super::{Chat, Endpoint, Protocol, retry, stream};
use crate::component::NodeError;
use crate::outbound::Refused;

/// A flow's base URL leads where flows may not connect.
const ADDRESS_REFUSED: &str = "model_address_refused";
/// Longest piece of a server's own words that is passed on.
const MAX_WORDS: usize = 500;
const MAX_ERROR_BYTES: usize = 64 << 10;

/// One failed try.
#[derive(Debug)]
pub(super) struct Fault {
    pub code: &'static str,
    /// What happened, without names.
    detail: String,
    /// Another try of this call may help.
    pub again: bool,
    /// Another attempt of the run may help.
    later: bool,
    pub retry_after: Option<Duration>,
    /// The parameter the server says it does not take.
    pub refused: Option<String>,
}

impl Fault {
    fn new(code: &'static str, detail: String) -> Self {
        Self {
            code,
            detail,
            again: false,
            later: false,
            retry_after: None,
            refused: None,
        }
    }

    pub(super) fn timeout(what: &str, after: Duration) -> Self {
        let detail = format!("did not send {what} within {} s", after.as_secs_f64());
        Self {
            later: true,
            ..Self::new("model_timeout", detail)
        }
    }

    pub(super) fn bad_key() -> Self {
        Self::new(
            "model_unauthorized",
            "the key contains characters that cannot be sent".to_owned(),
        )
    }

    /// The connection failed before an answer.
    pub(super) fn unreachable(error: &reqwest::Error) -> Self {
        if Refused::caused(error) {
            return Self::new(ADDRESS_REFUSED, String::new());
        }
        if error.is_timeout() {
            return Self {
                later: true,
                ..Self::new("model_timeout", "timed out".to_owned())
            };
        }
        if error.is_builder() || error.is_redirect() {
            return Self::new("model_bad_request", root_cause(error));
        }
        Self {
            again: true,
            later: true,
            ..Self::new("model_unreachable", root_cause(error))
        }
    }

    /// The answer broke off or made no sense.
    pub(super) fn broken(detail: impl Into<String>) -> Self {
        Self {
            again: true,
            later: true,
            ..Self::new("model_error", shortened(&detail.into()))
        }
    }

    /// The same after some text was passed on.
    pub(super) fn after(mut self, passed_on: bool) -> Self {
        self.again &= !passed_on;
        self
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new("model_error", format!("sent more than {limit} bytes"))
    }

    /// An error object in a stream that began well.
    pub(super) fn in_stream(error: &Json) -> Self {
        Self::broken(format!("broke off with an error: {}", words(error)))
    }

    /// How to say it so that this server understands, if it named what it does not.
    pub(super) fn simpler(&self, dialect: Dialect) -> Option<Dialect> {
        dialect.without(self.refused.as_deref()?)
    }

    pub(super) fn into_error(self, chat: &Chat, retries: u32) -> NodeError {
        self.told(&chat.endpoint, &chat.model, retries)
    }

    /// What the user is told of it.
    pub(super) fn told(self, endpoint: &Endpoint, model: &str, retries: u32) -> NodeError {
        let host = endpoint.host();
        let Self {
            code,
            detail,
            later,
            retry_after,
            ..
        } = self;
        let tries = match retries {
            0 => String::new(),
            n => format!(" (after {} tries)", n + 1),
        };
        let provider = endpoint.provider;
        let message = match code {
            "model_unauthorized" => match provider.key_variable() {
                Some(variable) => format!(
                    "the model server {host} refused the API key: {detail}. Check the node's key, or {variable} in the \
                     worker's environment"
                ),
                None => format!(
                    "the model server {host} refused the request: {detail}. Check whether it wants a key or another \
                     address"
                ),
            },
            "model_rate_limited" => {
                let wait =
                    retry_after.map(|wait| format!(" and asks to wait {} s", wait.as_secs_f64().ceil()));
                format!(
                    "the model server {host} limits requests{}{tries}: {detail}. Run fewer at once, raise the limit of \
                     the account, or let the run be retried later",
                    wait.unwrap_or_default()
                )
            }
            ADDRESS_REFUSED => return refused_address(&host),
            "model_timeout" => format!(
                "the model server {host} {detail}{tries}. If the model needs longer, the operator can raise \
                 FLOWFLEET_MODEL_TIMEOUT_S, FLOWFLEET_MODEL_FIRST_BYTE_TIMEOUT_S or \
                 FLOWFLEET_MODEL_IDLE_TIMEOUT_S of the workers"
            ),
            "model_unreachable" => {
                let check = provider.base_variable();
                let check = check
                    .map(|variable| format!("{variable} and "))
                    .unwrap_or_default();
                format!("cannot reach the model server {host}{tries}: {detail}. Check {check}the network")
            }
            "model_bad_request" => format!(
                "the model server {host} refused the request for model {model:?}: {detail}. Check the model's name and \
                 the node's settings"
            ),
            _ => format!("the model server {host} failed{tries}: {detail}. If it stays so, ask its operator"),
        };
        let message = match &endpoint.key {
            Some(key) if key.reveal().len() > 3 => message.replace(key.reveal(), "***"),
            _ => message,
        };
        NodeError {
            code,
            message,
            retryable: later,
        }
    }
}

/// Says that a flow may not connect there, and who can allow it.
pub(super) fn refused_address(host: &str) -> NodeError {
    NodeError::permanent(
        ADDRESS_REFUSED,
        format!(
            "the model server {host} may not be asked: {Refused}. Give the flow another base URL, or let the operator \
             add the host to {HOSTS}"
        ),
    )
}

/// An answer that is not a success.
pub(super) async fn of_response(
    response: reqwest::Response,
    patience: Duration,
    protocol: Protocol,
) -> Fault {
    let status = response.status();
    let headers = response.headers().clone();
    let retry_after = retry::asked(&headers, jiff::Timestamp::now());
    let body = stream::read_all(response, patience, MAX_ERROR_BYTES)
        .await
        .unwrap_or_default();
    let json: Option<Json> = serde_json::from_slice(&body).ok();
    let error = json.as_ref().map(|json| json.get("error").unwrap_or(json));
    let said = match error {
        Some(error) => words(error),
        None => shortened(String::from_utf8_lossy(&body).trim()),
    };
    let field = |name: &str| error.and_then(|error| error.get(name)).and_then(Json::as_str);
    let mut fault = classified(status, field("code").or(field("type")));
    fault.detail = if said.is_empty() {
        format!("HTTP {}", status.as_u16())
    } else {
        format!("HTTP {}: {said}", status.as_u16())
    };
    fault.retry_after = retry_after;
    if matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) {
        fault.refused = match protocol {
            Protocol::OpenAi => field("param").map(str::to_owned).or_else(|| named(&said)),
            // As Langflow does where a model has no say in it; a value out of its range is the user's.
            Protocol::Anthropic => is_without_temperature(&said).then(|| "temperature".to_owned()),
            Protocol::Ollama => None,
        };
    }
    match headers
        .get("x-should-retry")
        .map(reqwest::header::HeaderValue::as_bytes)
    {
        Some(b"true") => (fault.again, fault.later) = (true, true),
        Some(b"false") => fault.again = false,
        _ => {}
    }
    fault
}

fn classified(status: StatusCode, code: Option<&str>) -> Fault {
    let fault = |code, again, later| Fault {
        again,
        later,
        ..Fault::new(code, String::new())
    };
    match status.as_u16() {
        401 | 403 => fault("model_unauthorized", false, false),
        // A used-up quota does not come back by waiting.
        402 => fault("model_rate_limited", false, false),
        429 if matches!(code, Some("insufficient_quota" | "billing_hard_limit_reached")) => {
            fault("model_rate_limited", false, false)
        }
        429 => fault("model_rate_limited", true, true),
        408 | 504 => fault("model_timeout", true, true),
        409 => fault("model_error", true, true),
        500.. => fault("model_error", true, true),
        _ => fault("model_bad_request", false, false),
    }
}

/// Whether a model says that it takes no temperature but its own.
fn is_without_temperature(said: &str) -> bool {
    let said = said.to_lowercase();
    [
        "`temperature` is deprecated",
        "temperature is deprecated",
        "'temperature' is not supported",
        "'temperature' does not support",
    ]
    .iter()
    .any(|marker| said.contains(marker))
}

/// Parameters we can do without, as servers without a `param` member name them.
fn named(said: &str) -> Option<String> {
    ["stream_options", "max_completion_tokens", "temperature"]
        .into_iter()
        .find(|name| said.contains(name))
        .map(str::to_owned)
}

/// The words of an error object, in any of the shapes servers use.
fn words(error: &Json) -> String {
    let text = match error {
        Json::String(text) => text.clone(),
        Json::Object(object) => match ["message", "detail", "error"]
            .iter()
            .find_map(|key| object.get(*key))
        {
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => error.to_string(),
        },
        other => other.to_string(),
    };
    shortened(text.trim())
}

fn shortened(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_WORDS)
        .collect();
    if text.chars().nth(MAX_WORDS).is_some() {
        let kept = clean.char_indices().nth(MAX_WORDS - 3).map_or(0, |(at, _)| at);
        clean.truncate(kept);
        clean.push_str("...");
    }
    clean
}

fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    shortened(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let cases = [
            (400, None, "model_bad_request", false, false),
            (401, None, "model_unauthorized", false, false),
            (402, None, "model_rate_limited", false, false),
            (403, None, "model_unauthorized", false, false),
            (404, None, "model_bad_request", false, false),
            (408, None, "model_timeout", true, true),
            (409, None, "model_error", true, true),
            (422, None, "model_bad_request", false, false),
            (429, None, "model_rate_limited", true, true),
            (
                429,
                Some("insufficient_quota"),
                "model_rate_limited",
                false,
                false,
            ),
            (500, None, "model_error", true, true),
            (503, None, "model_error", true, true),
            (504, None, "model_timeout", true, true),
            (529, None, "model_error", true, true),
        ];
        for (status, code, expected, again, later) in cases {
            let fault = classified(StatusCode::from_u16(status).unwrap(), code);
            assert_eq!(
                (fault.code, fault.again, fault.later),
                (expected, again, later),
                "{status} {code:?}"
            );
        }
    }

    #[test]
    fn words_are_found_in_any_shape_and_kept_short() {
        let json = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        assert_eq!(words(&json(r#"{"message":"no\nway"}"#)), "no way");
        assert_eq!(words(&json(r#"{"detail":[{"msg":"x"}]}"#)), r#"[{"msg":"x"}]"#);
        assert_eq!(words(&json(r#""plain""#)), "plain");
        assert_eq!(words(&Json::String("x".repeat(1000))).len(), MAX_WORDS);
        let long = shortened(&"é".repeat(MAX_WORDS + 1));
        assert_eq!(long.chars().count(), MAX_WORDS);
        assert!(long.ends_with("é..."));
        assert_eq!(shortened(&"é".repeat(MAX_WORDS)), "é".repeat(MAX_WORDS));
        let broken = Fault::broken("x".repeat(1000));
        assert_eq!(broken.detail.len(), MAX_WORDS);
    }
}
