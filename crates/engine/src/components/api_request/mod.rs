//! API Request: one request to any HTTP interface, and its answer as data. What fails on the way is data too.

mod address;
mod body;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Url};
use serde_json::{Map, Value as Json, json};

use super::loads::{Unread, loads};
use super::{dumps, params, wants};
use crate::component::{Kind, NodeCall, NodeContext, NodeError, NodeOutput, Param};
use crate::node::Field;
use crate::outbound::{Answer, Charset, Fetch, FetchError, decoded, keeps_credentials};
use crate::params::truthy;
use crate::value::{Value, bytes};

use address::Address;

pub(crate) const OUTPUT: &str = "data";

const MAX_ANSWER_BYTES: usize = 10 << 20;
const MAX_REDIRECTS: usize = 20;
const TIMEOUT: f64 = 30.0;

/// Why a node with these fields needs the Python engine.
pub(crate) fn needs_python(kind: Kind, fields: &BTreeMap<String, Field>) -> Option<String> {
    let is_on = |name: &str| fields.get(name).is_some_and(|field| truthy(&field.value));
    if is_on("save_to_file") {
        return Some("saves answers to temporary files".to_owned());
    }
    // Before lfx 1.10.1 another rule says which headers go along.
    (kind == Kind::EarlyApiRequest && is_on("follow_redirects"))
        .then(|| "follows redirects as older releases did".to_owned())
}

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let mut output = NodeOutput::default();
    if wants(call, OUTPUT) {
        let data = Box::pin(Asked::of(call)?.answer(ctx)).await?;
        output.values.insert(OUTPUT.to_owned(), Value::Data(data));
    }
    Ok(output)
}

/// What is asked, and what was answered so far.
#[derive(Debug)]
struct Asked {
    address: Address,
    method: Method,
    headers: Map<String, Json>,
    body: Option<Vec<u8>>,
    timeout: Duration,
    redirects: bool,
    with_headers: bool,
    history: Vec<Json>,
}

impl Asked {
    fn of(call: &NodeCall) -> Result<Self, NodeError> {
        let redirects = params::boolean(call, "follow_redirects", false);
        if params::boolean(call, "save_to_file", false) || redirects && call.kind == Kind::EarlyApiRequest {
            let detail =
                "saving answers, and redirects in releases before lfx 1.10.1, need the Python engine";
            return Err(NodeError::permanent(
                "not_native",
                format!("{}: {detail}", call.node.display_name),
            ));
        }
        let checked = Address::checked(&params::text(call, "url_input", "")?)?;
        let parameters = match call.params.get("query_params") {
            Some(Param::Edge(Value::Data(data))) => data.clone(),
            Some(Param::Edges(values)) => match values.last() {
                Some(Value::Data(data)) => data.clone(),
                _ => Map::new(),
            },
            _ => Map::new(),
        };
        let headers = body::headers(call)?;
        let body = body::body(call)?;
        let method = params::text(call, "method", "GET")?.to_uppercase();
        let method = match method.as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PATCH" => Method::PATCH,
            "PUT" => Method::PUT,
            "DELETE" => Method::DELETE,
            _ => {
                return Err(NodeError::permanent(
                    "field_invalid",
                    format!("Unsupported method: {method}"),
                ));
            }
        };
        let timeout = params::number(call, "timeout").unwrap_or(TIMEOUT);
        Ok(Self {
            address: Address::of(&checked, &parameters)?,
            body: (method != Method::GET).then(|| dumps::dense(&Json::Object(body)).into_bytes()),
            method,
            headers,
            timeout: Duration::from_secs_f64(timeout.clamp(0.0, 3600.0)),
            redirects,
            with_headers: params::boolean(call, "include_httpx_metadata", false),
            history: Vec::new(),
        })
    }

    /// The answer, or what went wrong, as data.
    async fn answer(mut self, ctx: &NodeContext) -> Result<Map<String, Json>, NodeError> {
        for hop in 0..=MAX_REDIRECTS {
            let answer = match self.fetch()?.open(ctx).await {
                Ok(answer) => answer,
                Err(error) => return self.unanswered(error, hop),
            };
            let next = next(&answer)?;
            match next.filter(|_| self.redirects) {
                Some((location, next)) => self.redirect(answer.status(), &location, next)?,
                None => return self.read(answer, ctx, hop).await,
            }
        }
        Err(refused(&format!(
            "exceeded the maximum of {MAX_REDIRECTS} redirects while requesting {}",
            self.address.text
        )))
    }

    fn fetch(&self) -> Result<Fetch, NodeError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let pair = HeaderName::try_from(name)
                .ok()
                .zip(HeaderValue::try_from(value.as_str().unwrap_or_default()).ok());
            let Some((name, value)) = pair else {
                let detail = format!("field headers has {name}, which cannot be sent");
                return Err(NodeError::permanent("field_invalid", detail));
            };
            headers.append(name, value);
        }
        // Bodies are asked for as they are; a password in the address goes before the header.
        headers.remove(ACCEPT_ENCODING);
        if !self.address.url.username().is_empty() || self.address.url.password().is_some() {
            headers.remove(AUTHORIZATION);
        }
        if self.body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Fetch {
            method: self.method.clone(),
            url: self.address.url.clone(),
            headers,
            body: self.body.clone(),
            timeout: self.timeout,
            follow_redirects: false,
        })
    }

    fn redirect(&mut self, status: u16, location: &str, next: Url) -> Result<(), NodeError> {
        self.history.push(json!({"url": location, "status_code": status}));
        if !matches!(next.scheme(), "http" | "https") {
            return Err(refused(&format!(
                "blocked redirect to {location}: only http and https are allowed"
            )));
        }
        if !keeps_credentials(&self.address.url, &next) {
            self.headers.retain(|name, _| {
                let name = name.to_ascii_lowercase();
                !["authorization", "proxy-authorization", "cookie"].contains(&name.as_str())
            });
        }
        if status == 303 || matches!(status, 301 | 302) && self.method == Method::POST {
            self.method = Method::GET;
            self.body = None;
        }
        self.address.url = next;
        Ok(())
    }

    async fn read(
        self,
        answer: Answer,
        ctx: &NodeContext,
        hop: usize,
    ) -> Result<Map<String, Json>, NodeError> {
        let content_type = text_of(&answer, CONTENT_TYPE.as_str());
        let mut data = Map::new();
        data.insert("source".to_owned(), self.address.text.as_str().into());
        data.insert("status_code".to_owned(), answer.status().into());
        data.insert("response_headers".to_owned(), Json::Object(headers_of(&answer)));
        if !self.history.is_empty() {
            data.insert(
                "redirection_history".to_owned(),
                Json::Array(self.history.clone()),
            );
        }
        let body = match answer.read(ctx, MAX_ANSWER_BYTES).await {
            Ok(body) => body,
            Err(error) => return self.unanswered(error, hop),
        };
        let is_binary = ["application/octet-stream", "application/binary"]
            .iter()
            .any(|name| content_type.contains(name));
        data.insert("result".to_owned(), result(&body, &content_type, is_binary)?);
        if self.with_headers {
            data.insert("headers".to_owned(), Json::Object(self.headers));
        }
        Ok(data)
    }

    /// Langflow's data for a request that got no answer, in httpx's words as far as they are known.
    fn unanswered(self, error: FetchError, hop: usize) -> Result<Map<String, Json>, NodeError> {
        match error {
            FetchError::Timeout(..) => Ok(self.failed("")),
            FetchError::NoConnection(..) => Ok(self.failed("All connection attempts failed")),
            FetchError::Unreachable(_, words) if words.starts_with("connection closed before message") => {
                Ok(self.failed("Server disconnected without sending a response."))
            }
            FetchError::Unreachable(_, words) => Ok(self.failed(&words)),
            FetchError::Refused(_) | FetchError::RefusedRedirect(_) | FetchError::Redirects(_) => {
                Err(refused(&match hop {
                    0 => error.to_string(),
                    _ => format!("blocked redirect: {error}"),
                }))
            }
            FetchError::Cancelled => Err(NodeError::permanent("cancelled", error.to_string())),
            FetchError::UnknownHost(..) => Err(NodeError {
                code: "fetch_failed",
                message: format!("SSRF Protection: {error}"),
                retryable: true,
            }),
            FetchError::TooLarge(..) => Err(NodeError::permanent("answer_too_large", error.to_string())),
            FetchError::Compressed(..) => Err(NodeError::permanent("answer_compressed", error.to_string())),
        }
    }

    fn failed(self, words: &str) -> Map<String, Json> {
        let mut data = Map::new();
        data.insert("source".to_owned(), self.address.text.into());
        data.insert("headers".to_owned(), Json::Object(self.headers));
        data.insert("status_code".to_owned(), 500.into());
        data.insert("error".to_owned(), words.into());
        if !self.history.is_empty() {
            data.insert("redirection_history".to_owned(), Json::Array(self.history));
        }
        data
    }
}

/// Where an answer leads, whether it is followed or not: httpx reads the address in any case.
fn next(answer: &Answer) -> Result<Option<(String, Url)>, NodeError> {
    let location = text_of(answer, LOCATION.as_str());
    if location.is_empty() || !matches!(answer.status(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    match answer.url.join(&location) {
        Ok(next) if next.has_host() => Ok(Some((location, next))),
        _ => Err(NodeError::permanent(
            "redirect_invalid",
            format!("{} redirects to {location}, which is no address", answer.url),
        )),
    }
}

fn refused(detail: &str) -> NodeError {
    NodeError::permanent("fetch_refused", format!("SSRF Protection: {detail}"))
}

/// JSON is what it says, anything else are bytes.
fn result(body: &[u8], content_type: &str, is_binary: bool) -> Result<Json, NodeError> {
    let beyond = |what: &str| {
        NodeError::permanent(
            "answer_unsupported",
            format!("the answer has {what}: it can be had in the Python engine only"),
        )
    };
    if is_binary {
        return match std::str::from_utf8(body) {
            Ok(text) => Ok(bytes(text)),
            Err(_) => Err(beyond("bytes that are no text")),
        };
    }
    let is_wide = body.starts_with(b"\xff\xfe")
        || body.starts_with(b"\xfe\xff")
        || body.iter().take(4).any(|b| *b == 0);
    if is_wide {
        return Err(beyond("text in UTF-16 or UTF-32"));
    }
    let text = std::str::from_utf8(body).ok();
    let text = text.map(|text| text.strip_prefix('\u{feff}').unwrap_or(text));
    match text.map_or(Err(Unread::NotJson), loads) {
        Ok(value) => Ok(value),
        Err(Unread::NotJson) => Ok(bytes(&decoded(body, content_type, Charset::Utf8))),
        Err(Unread::Beyond(what)) => Err(beyond(what)),
    }
}

/// A header's values as httpx joins them.
fn text_of(answer: &Answer, name: &str) -> String {
    let values = answer.headers().get_all(name).iter();
    let values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    values.join(", ")
}

fn headers_of(answer: &Answer) -> Map<String, Json> {
    let names = answer.headers().keys();
    names
        .map(|name| (name.as_str().to_owned(), text_of(answer, name.as_str()).into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_say() {
        for (body, content_type, expected) in [
            (&b"{\"a\": 1}"[..], "text/html", json!({"a": 1})),
            (b"\xef\xbb\xbf[1]", "", json!([1])),
            (b"<p>", "text/html", bytes("<p>")),
            (b"caf\xe9", "text/plain; charset=latin-1", bytes("caf\u{e9}")),
            (b"caf\xe9", "text/plain", bytes("caf\u{fffd}")),
            (b"", "application/json", bytes("")),
        ] {
            assert_eq!(result(body, content_type, false).unwrap(), expected);
        }
        assert_eq!(result(b"[1]", "", true).unwrap(), bytes("[1]"));
        for (body, is_binary) in [(&b"\xff"[..], true), (b"NaN", false), (b"a\0b\0", false)] {
            assert_eq!(
                result(body, "", is_binary).unwrap_err().code,
                "answer_unsupported"
            );
        }
    }
}
