//! arXiv: asks its API for papers, and gives them as a table.

mod feed;

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderValue, USER_AGENT};
use serde_json::{Map, Value as Json};

use super::{params, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput};
use crate::outbound::{Fetch, FetchError};
use crate::template::to_text;
use crate::value::Value;

pub(crate) const OUTPUT: &str = "dataframe";

const MAX_BYTES: usize = 10 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
const AGENT: HeaderValue = HeaderValue::from_static("Langflow");

type Row = Map<String, Json>;

/// Why there are no papers.
enum Failure {
    /// Told as a row: the flow goes on.
    Told(String),
    Node(NodeError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Cancelled => Self::Node(NodeError::permanent("cancelled", error.to_string())),
            FetchError::Timeout(..) => Self::Told("timed out".to_owned()),
            error => Self::Told(format!("<urlopen error {error}>")),
        }
    }
}

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let rows = match papers(call, ctx).await {
        Ok(rows) => rows,
        Err(Failure::Told(detail)) => {
            vec![Row::from_iter([(
                "error".to_owned(),
                format!("Request error: {detail}").into(),
            )])]
        }
        Err(Failure::Node(error)) => return Err(error),
    };
    let mut output = NodeOutput::default();
    if wants(call, OUTPUT) {
        output.values.insert(OUTPUT.to_owned(), Value::Table(rows));
    }
    Ok(output)
}

async fn papers(call: &NodeCall, ctx: &NodeContext) -> Result<Vec<Row>, Failure> {
    let text = |field, default| params::text(call, field, default).map_err(Failure::Node);
    let most = params::json(call, "max_results").map_or_else(|| "None".to_owned(), to_text);
    let query = query(&text("search_query", "")?, &text("search_type", "all")?, &most);
    let address = format!("{}?{query}", ctx.outbound.arxiv);
    let url = Url::parse(&address).map_err(|error| Failure::Told(error.to_string()))?;
    let mut fetch = Fetch::page(url, TIMEOUT);
    fetch.follow_redirects = true;
    fetch.headers.insert(USER_AGENT, AGENT);
    let answer = fetch.open(ctx).await?;
    let status = answer.status();
    if !(200..300).contains(&status) {
        let reason = reqwest::StatusCode::from_u16(status).ok();
        let reason = reason
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default();
        return Err(Failure::Told(format!("HTTP Error {status}: {reason}")));
    }
    let body = answer.read(ctx, MAX_BYTES).await?;
    let feed = String::from_utf8(body)
        .map_err(|error| Failure::Told(format!("the answer is not UTF-8: {}", error.utf8_error())))?;
    feed::papers(&feed).map_err(|error| match error {
        feed::Error::Entities(name) => Failure::Told(format!(
            "EntitiesForbidden(name='{name}', system_id=None, public_id=None)"
        )),
        error => Failure::Node(NodeError::permanent(
            "feed_invalid",
            format!("{}: {error}", call.node.display_name),
        )),
    })
}

/// The parameters of the API, as Python quotes them.
fn query(query: &str, field: &str, most: &str) -> String {
    let prefix = match field {
        "all" => None,
        "title" => Some("ti"),
        "abstract" => Some("abs"),
        "author" => Some("au"),
        "cat" => Some("cat"),
        _ => Some(""),
    };
    let query = match prefix {
        Some(prefix) => format!("{prefix}:{query}"),
        None => query.to_owned(),
    };
    format!("search_query={}&max_results={}", quoted(&query), quoted(most))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => {
                quoted.push(char::from(byte));
            }
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_quoted() {
        for (text, field, most, expected) in [
            (
                "quantum computing",
                "all",
                "10",
                "search_query=quantum%20computing&max_results=10",
            ),
            (
                "a/b:é&",
                "title",
                "3",
                "search_query=ti%3Aa/b%3A%C3%A9%26&max_results=3",
            ),
            ("x", "cat", "None", "search_query=cat%3Ax&max_results=None"),
            ("x", "elsewhere", "1", "search_query=%3Ax&max_results=1"),
            ("", "all", "1", "search_query=&max_results=1"),
        ] {
            assert_eq!(query(text, field, most), expected);
        }
    }
}
