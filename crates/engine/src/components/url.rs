//! URL: fetches pages, and pages they link to, and gives their text.

use std::collections::HashSet;
use std::time::Duration;

use regex::Regex;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value as Json, json};

use super::{from_node, params, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput, Param};
use crate::html::{self, Rules};
use crate::outbound::{Charset, Fetch, FetchError, decoded, shown};
use crate::value::{Message, Value};

pub(super) const TABLE: &str = "page_results";
const TEXT: &str = "raw_results";

const MAX_PAGE_BYTES: usize = 10 << 20;
const MAX_TOTAL_BYTES: usize = 100 << 20;
const MAX_PAGES: usize = 1_000;
/// Links of links of links.
const DEEPEST: usize = 16;
const TIMEOUT: f64 = 30.0;

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let pages = Box::pin(Crawl::of(call)?.pages(call, ctx)).await?;
    let mut output = NodeOutput::default();
    if wants(call, TEXT) {
        let texts: Vec<&str> = pages.iter().map(|page| page.text.as_str()).collect();
        let message = from_node(call, Message::of(texts.join("\n\n")), None);
        output.values.insert(TEXT.to_owned(), Value::Message(message));
    }
    if wants(call, TABLE) {
        let rows = pages.into_iter().map(Page::row).collect();
        output.values.insert(TABLE.to_owned(), Value::Table(rows));
    }
    Ok(output)
}

/// What is read of a page.
#[derive(Debug, Default)]
struct Page {
    text: String,
    url: String,
    title: String,
    description: String,
    content_type: String,
    language: String,
}

impl Page {
    fn row(self) -> Map<String, Json> {
        let row = json!({
            "text": self.text, "url": self.url, "title": self.title, "description": self.description,
            "content_type": self.content_type, "language": self.language,
        });
        match row {
            Json::Object(row) => row,
            _ => Map::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Html,
}

/// How pages are fetched.
#[derive(Debug)]
struct Crawl {
    depth: usize,
    stays: bool,
    redirects: bool,
    format: Format,
    timeout: Duration,
    headers: HeaderMap,
    skips_styles: bool,
    goes_on: bool,
    checks_status: bool,
    bytes_left: usize,
    pages: Vec<Page>,
    refused: Option<String>,
}

fn failed(detail: &str) -> NodeError {
    NodeError {
        code: "fetch_failed",
        message: format!("Error loading documents: {detail}"),
        retryable: true,
    }
}

fn refused(detail: &str) -> NodeError {
    NodeError::permanent("fetch_refused", format!("Error loading documents: {detail}"))
}

impl Crawl {
    fn of(call: &NodeCall) -> Result<Self, NodeError> {
        let format = match params::text(call, "format", "Text")?.as_str() {
            "HTML" => Format::Html,
            "Markdown" => {
                return Err(NodeError::permanent(
                    "not_native",
                    format!(
                        "{}: pages as Markdown need the Python engine; choose Text or HTML",
                        call.node.display_name
                    ),
                ));
            }
            _ => Format::Text,
        };
        let depth = params::number(call, "max_depth").unwrap_or(1.0).ceil();
        let timeout = params::number(call, "timeout").filter(|seconds| *seconds > 0.0);
        Ok(Self {
            depth: (depth.max(0.0) as usize).min(DEEPEST),
            stays: params::boolean(call, "prevent_outside", true),
            redirects: params::boolean(call, "follow_redirects", true),
            format,
            timeout: Duration::from_secs_f64(timeout.unwrap_or(TIMEOUT).min(3600.0)),
            headers: headers(call)?,
            skips_styles: params::boolean(call, "filter_text_html", true),
            goes_on: params::boolean(call, "continue_on_failure", true),
            checks_status: params::boolean(call, "check_response_status", false),
            bytes_left: MAX_TOTAL_BYTES,
            pages: Vec::new(),
            refused: None,
        })
    }

    async fn pages(mut self, call: &NodeCall, ctx: &NodeContext) -> Result<Vec<Page>, NodeError> {
        let mut addresses: Vec<String> = Vec::new();
        let mut invalid = None;
        for text in params::texts(call, "urls")? {
            if text.trim().is_empty() {
                continue;
            }
            match address(&text) {
                Ok(url) if addresses.contains(&url) => {}
                Ok(url) => addresses.push(url),
                Err(detail) if self.goes_on => invalid = invalid.or(Some(detail)),
                Err(detail) => return Err(refused(&detail)),
            }
        }
        if addresses.is_empty() {
            return Err(refused(invalid.as_deref().unwrap_or("No valid URLs provided.")));
        }
        for url in addresses {
            self.crawl(&url, ctx).await?;
        }
        match self.pages.is_empty() {
            true => Err(match self.refused {
                Some(detail) => refused(&detail),
                None => failed("No documents were successfully loaded from any URL"),
            }),
            false => Ok(self.pages),
        }
    }

    /// One of the given addresses, then what it links to, depth first in the order of the links.
    async fn crawl(&mut self, start: &str, ctx: &NodeContext) -> Result<(), NodeError> {
        let mut visited = HashSet::new();
        // Of each page on the way down: the links that are left.
        let mut waiting: Vec<std::vec::IntoIter<String>> = vec![vec![start.to_owned()].into_iter()];
        while let Some(links) = waiting.last_mut() {
            let Some(url) = links.next() else {
                waiting.pop();
                continue;
            };
            let depth = waiting.len();
            let exhausted = self.bytes_left == 0 || self.pages.len() == MAX_PAGES;
            if depth > self.depth || exhausted || !visited.insert(url.clone()) {
                continue;
            }
            match self.page(&url, depth < self.depth, ctx).await {
                Ok(Some((page, links))) => {
                    visited.insert(page.url.clone());
                    self.pages.push(page);
                    waiting.push(links.into_iter());
                }
                Ok(None) => {}
                Err(error) if error == FetchError::Cancelled => {
                    return Err(NodeError::permanent("cancelled", error.to_string()));
                }
                Err(error) => {
                    let detail = match error.is_refusal() {
                        true => format!("SSRF Protection: {error}"),
                        false => format!("Error loading documents from {url}: {error}"),
                    };
                    match (self.goes_on, error.is_refusal()) {
                        (true, true) => self.refused = self.refused.take().or(Some(detail)),
                        (true, false) => {}
                        // A page that another links to never fails the whole; the links after it are left out.
                        (false, _) if depth > 1 => {
                            waiting.truncate(depth - 1);
                        }
                        (false, true) => return Err(refused(&detail)),
                        (false, false) => return Err(failed(&detail)),
                    }
                }
            }
        }
        Ok(())
    }

    /// One page and the addresses it links to; nothing if it is empty or of a type that is left out.
    async fn page(
        &mut self,
        url: &str,
        with_links: bool,
        ctx: &NodeContext,
    ) -> Result<Option<(Page, Vec<String>)>, FetchError> {
        let Ok(parsed) = Url::parse(url) else {
            return Ok(None);
        };
        let fetch = Fetch {
            headers: self.headers.clone(),
            follow_redirects: self.redirects,
            ..Fetch::page(parsed, self.timeout)
        };
        let answer = fetch.open(ctx).await?;
        if let Some(error) = answer.status_error().filter(|_| self.checks_status) {
            return Err(FetchError::Unreachable(answer.url.clone(), error));
        }
        let content_type = answer.content_type();
        if self.skips_styles && content_type.contains("text/css") {
            return Ok(None);
        }
        let base = answer.url.clone();
        let limit = MAX_PAGE_BYTES.min(self.bytes_left);
        let body = match answer.read(ctx, limit).await {
            Err(error @ FetchError::TooLarge(..)) => {
                self.bytes_left -= limit;
                return Err(error);
            }
            body => body?,
        };
        self.bytes_left -= body.len();
        let (format, stays) = (self.format, self.stays);
        let read = move || {
            let source = decoded(&body, &content_type, Charset::Utf8);
            (!source.is_empty()).then(|| {
                let (mut page, links) = read(&source, format);
                page.url = shown(&base).to_owned();
                page.content_type = content_type;
                let links = match with_links {
                    true => links
                        .iter()
                        .filter_map(|href| linked(&base, href, stays))
                        .collect(),
                    false => Vec::new(),
                };
                (page, links)
            })
        };
        // A large page takes a while; other runs go on.
        Ok(tokio::task::spawn_blocking(read).await.unwrap_or_default())
    }
}

/// What a page says, and where its links lead.
fn read(source: &str, format: Format) -> (Page, Vec<String>) {
    let soup = html::parse(source, Rules::Legacy);
    let description = soup
        .elements()
        .find(|element| element.name() == "meta" && element.attribute("name") == Some("description"))
        .and_then(|meta| meta.attribute("content"));
    let language = soup.first("html").and_then(|html| html.attribute("lang"));
    let links = soup
        .elements()
        .filter(|element| element.name() == "a")
        .filter_map(|link| link.attribute("href").map(str::to_owned))
        .collect();
    let text = match format {
        Format::Text => clean(&soup.text_of_page()),
        Format::Html => clean(source),
    };
    let page = Page {
        text,
        title: soup
            .first("title")
            .and_then(|title| title.only_string())
            .unwrap_or_default()
            .to_owned(),
        description: description.unwrap_or_default().to_owned(),
        language: language.unwrap_or_default().to_owned(),
        ..Page::default()
    };
    (page, links)
}

/// Where a link of a page leads, if it may be followed.
fn linked(base: &Url, href: &str, stays: bool) -> Option<String> {
    let url = base.join(href).ok()?;
    let same = url.host_str() == base.host_str()
        && url.port_or_known_default() == base.port_or_known_default()
        && url.username() == base.username();
    if stays && !same {
        return None;
    }
    address(shown(&url)).ok()
}

/// Lines of only space are nothing, and more than two line ends are two.
fn clean(text: &str) -> String {
    static EMPTY: std::sync::LazyLock<Option<[Regex; 2]>> = std::sync::LazyLock::new(|| {
        let regex = |pattern| Regex::new(pattern).ok();
        Some([regex(r"(?m)^[\s\x1c-\x1f]*$")?, regex(r"\n{3,}")?])
    });
    match &*EMPTY {
        Some([lines, ends]) => {
            let text = lines.replace_all(text, "");
            ends.replace_all(&text, "\n\n").into_owned()
        }
        None => text.to_owned(),
    }
}

/// An address as people write it, with or without a scheme.
pub(super) fn address(text: &str) -> Result<String, String> {
    static PATTERN: std::sync::LazyLock<Option<Regex>> = std::sync::LazyLock::new(|| {
        let pattern = r"(?i)^(https?://)?(www\.)?([a-z0-9.-]+)(\.[a-z]{2,})?(:\d+)?(/\S*)?$";
        Regex::new(pattern).ok()
    });
    let text = text.trim();
    let url = match text.starts_with("http://") || text.starts_with("https://") {
        true => text.to_owned(),
        false => format!("https://{text}"),
    };
    match &*PATTERN {
        Some(pattern) if pattern.is_match(&url) => Ok(url),
        _ => Err(format!("Invalid URL: {url}")),
    }
}

/// The headers of the table field: rows of `key` and `value`.
fn headers(call: &NodeCall) -> Result<HeaderMap, NodeError> {
    let mut headers = HeaderMap::new();
    let rows: Vec<Map<String, Json>> = match call.params.get("headers") {
        Some(Param::Edge(Value::Table(rows))) => rows.clone(),
        Some(Param::Field(Json::Array(rows))) => {
            rows.iter().filter_map(|row| row.as_object().cloned()).collect()
        }
        _ => Vec::new(),
    };
    for row in rows {
        let (Some(key), Some(value)) = (
            row.get("key").and_then(Json::as_str),
            row.get("value").and_then(Json::as_str),
        ) else {
            continue;
        };
        let pair = HeaderName::try_from(key)
            .ok()
            .zip(HeaderValue::try_from(value).ok());
        let Some((name, value)) = pair else {
            return Err(refused(&format!("{key:?} is not a header that can be sent")));
        };
        headers.insert(name, value);
    }
    Ok(headers)
}
