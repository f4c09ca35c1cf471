//! Web Search: asks DuckDuckGo, Google News or a feed, and gives what they found as a table.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderValue, USER_AGENT};
use serde_json::{Map, Value as Json};

use super::quoted::quoted;
use super::{params, url, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput};
use crate::html::{self, Rules, strip};
use crate::outbound::{Answer, Charset, Fetch, FetchError, decoded};
use crate::value::Value;

pub(super) const OUTPUT: &str = "results";
pub(super) const MODES: [&str; 3] = ["Web", "News", "RSS"];

const MAX_BYTES: usize = 10 << 20;
const MOST_RESULTS: usize = 5;
const MOST_CHARACTERS: usize = 2000;
const TIMEOUT: f64 = 5.0;
const AGENT: HeaderValue = HeaderValue::from_static("Langflow");

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let search = Search::of(call, ctx)?;
    let rows = match params::text(call, "search_mode", "Web")?.as_str() {
        "News" => search.news(call).await,
        "RSS" => search.feed().await,
        _ => search.web().await,
    }?;
    let mut output = NodeOutput::default();
    if wants(call, OUTPUT) {
        output.values.insert(OUTPUT.to_owned(), Value::Table(rows));
    }
    Ok(output)
}

type Rows = Vec<Map<String, Json>>;

struct Search<'c> {
    ctx: &'c NodeContext,
    query: String,
    timeout: Duration,
    /// `None`: all.
    results: Option<usize>,
    characters: Option<usize>,
}

/// Why a search found nothing. It is told as a result: the flow goes on.
enum Failure {
    Told(String),
    Cancelled,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Cancelled => Self::Cancelled,
            error if error.is_refusal() => Self::Told(format!("SSRF Protection: {error}")),
            error => Self::Told(error.to_string()),
        }
    }
}

impl Failure {
    fn row(self, columns: [&str; 4], place: usize) -> Result<Rows, NodeError> {
        match self {
            Self::Told(text) => {
                let mut cells = ["Error", "", "", ""].map(str::to_owned);
                cells[place] = text;
                Ok(vec![row(columns, cells)])
            }
            Self::Cancelled => Err(NodeError::permanent(
                "cancelled",
                FetchError::Cancelled.to_string(),
            )),
        }
    }
}

const PAGES: [&str; 4] = ["title", "link", "snippet", "content"];
const ARTICLES: [&str; 4] = ["title", "link", "published", "summary"];

fn row(columns: [&str; 4], cells: [String; 4]) -> Map<String, Json> {
    columns
        .into_iter()
        .zip(cells)
        .map(|(column, cell)| (column.to_owned(), cell.into()))
        .collect()
}

impl<'c> Search<'c> {
    fn of(call: &NodeCall, ctx: &'c NodeContext) -> Result<Self, NodeError> {
        let timeout = params::number(call, "timeout").filter(|seconds| *seconds > 0.0);
        Ok(Self {
            ctx,
            query: params::text(call, "query", "")?,
            timeout: Duration::from_secs_f64(timeout.unwrap_or(TIMEOUT).min(3600.0)),
            results: limit(call, "max_results", MOST_RESULTS),
            characters: limit(call, "max_content_length", MOST_CHARACTERS),
        })
    }

    async fn web(&self) -> Result<Rows, NodeError> {
        let query = strip(&self.query).replace(['<', '>', '"', '\''], "");
        if query.is_empty() {
            return Err(NodeError::permanent("field_required", "Empty search query"));
        }
        let page = match self.result_page(&query).await {
            Ok(page) => page,
            Err(failure) => return failure.row(PAGES, 2),
        };
        let Some(page) = page else {
            let cells = ["Error", "", "No results found", ""].map(str::to_owned);
            return Ok(vec![row(PAGES, cells)]);
        };
        let mut rows = Vec::new();
        for found in found_on(&page) {
            if self.results.is_some_and(|most| rows.len() >= most) {
                break;
            }
            let (link, content) = match self.content(&found.link).await {
                Ok((link, content)) => (link, content),
                Err(Failure::Told(detail)) if detail.contains("SSRF Protection") => {
                    (found.link, format!("(Blocked by SSRF protection: {detail})"))
                }
                Err(Failure::Told(detail)) => (found.link, format!("(Failed to fetch: {detail})")),
                Err(cancelled @ Failure::Cancelled) => return cancelled.row(PAGES, 2),
            };
            rows.push(row(PAGES, [found.title, link, found.snippet, self.cut(&content)]));
        }
        Ok(rows)
    }

    /// The page of results, if there is one.
    async fn result_page(&self, query: &str) -> Result<Option<String>, Failure> {
        let parameters = [("q", query), ("kl", "us-en")];
        let url = Url::parse_with_params(&self.ctx.outbound.web_search, parameters)
            .map_err(|error| Failure::Told(error.to_string()))?;
        let answer = self.get(url).await?;
        let content_type = answer.content_type();
        let body = answer.read(self.ctx, MAX_BYTES).await?;
        let is_page = content_type.contains("text/html") && !body.is_empty();
        Ok(is_page.then(|| decoded(&body, &content_type, Charset::Latin1)))
    }

    /// The words of a page that was found.
    async fn content(&self, link: &str) -> Result<(String, String), Failure> {
        let link = url::address(link).map_err(Failure::Told)?;
        let url = Url::parse(&link).map_err(|error| Failure::Told(error.to_string()))?;
        let answer = self.get(url).await?;
        let content_type = answer.content_type();
        let body = answer.read(self.ctx, MAX_BYTES).await?;
        let words = move || {
            let page = decoded(&body, &content_type, Charset::Utf8);
            html::parse(&page, Rules::Legacy).words_of_page()
        };
        // A large page takes a while; other runs go on.
        let words = tokio::task::spawn_blocking(words).await.unwrap_or_default();
        Ok((link, words))
    }

    async fn get(&self, url: Url) -> Result<Answer, Failure> {
        let mut fetch = Fetch::page(url, self.timeout);
        fetch.headers.insert(USER_AGENT, AGENT);
        let answer = fetch.open(self.ctx).await?;
        match answer.status_error() {
            Some(error) => Err(Failure::Told(error)),
            None => Ok(answer),
        }
    }

    async fn news(&self, call: &NodeCall) -> Result<Rows, NodeError> {
        let text = |field: &str, default: &str| {
            let text = params::text(call, field, default);
            text.map(|text| if text.is_empty() { default.to_owned() } else { text })
        };
        let (language, country) = (text("hl", "en-US")?, text("gl", "US")?);
        let edition = language.split('-').next().unwrap_or_default().to_owned();
        let (topic, place) = (text("topic", "")?, text("location", "")?);
        let base = self.ctx.outbound.news_search.trim_end_matches('/');
        let rest = format!("hl={language}&gl={country}&ceid={country}:{edition}");
        let url = match (topic.as_str(), place.as_str(), self.query.as_str()) {
            ("", "", "") => {
                let cells = ["Error", "", "", "No search parameters provided"].map(str::to_owned);
                return Ok(vec![row(ARTICLES, cells)]);
            }
            ("", "", query) => format!("{base}/search?q={}&{rest}", quoted(query)),
            ("", place, _) => format!("{base}/headlines/section/geo/{}?{rest}", quoted(place)),
            (topic, ..) => format!(
                "{base}/headlines/section/topic/{}?{rest}",
                quoted(&topic.to_uppercase())
            ),
        };
        let items = match self.items(&url).await {
            Ok(items) => items,
            Err(failure) => return failure.row(ARTICLES, 3),
        };
        if items.is_empty() {
            return Ok(vec![row(
                ARTICLES,
                ["No articles found", "", "", ""].map(str::to_owned),
            )]);
        }
        let words = |text: &str| html::parse(text, Rules::Plain).words_of_page();
        Ok(self.articles(items, words))
    }

    async fn feed(&self) -> Result<Rows, NodeError> {
        if self.query.is_empty() {
            let cells = ["Error", "", "", "No RSS URL provided"].map(str::to_owned);
            return Ok(vec![row(ARTICLES, cells)]);
        }
        let url = match url::address(&self.query) {
            Ok(url) => url,
            Err(detail) => return Failure::Told(detail).row(ARTICLES, 3),
        };
        match self.items(&url).await {
            Ok(items) => Ok(self.articles(items, str::to_owned)),
            Err(failure) => failure.row(ARTICLES, 3),
        }
    }

    async fn items(&self, url: &str) -> Result<Vec<[String; 4]>, Failure> {
        let url = Url::parse(url).map_err(|error| Failure::Told(error.to_string()))?;
        let body = self.get(url).await?.read(self.ctx, MAX_BYTES).await?;
        if body.trim_ascii().is_empty() {
            return Err(Failure::Told("Empty response received".to_owned()));
        }
        let soup = html::parse_xml(&body);
        let items = soup.elements().filter(|element| element.name() == "item");
        Ok(items
            .map(|item| {
                ["title", "link", "pubDate", "description"].map(|name| {
                    let found = item.elements().find(|element| element.name() == name);
                    found.map(|element| element.text()).unwrap_or_default()
                })
            })
            .collect())
    }

    fn articles(&self, items: Vec<[String; 4]>, words: impl Fn(&str) -> String) -> Rows {
        let most = self.results.unwrap_or(items.len());
        items
            .into_iter()
            .take(most)
            .map(|[title, link, published, summary]| {
                let cells = [words(&title), link, published, words(&summary)];
                row(ARTICLES, cells.map(|cell| self.cut(&cell)))
            })
            .collect()
    }

    fn cut(&self, text: &str) -> String {
        match self.characters {
            Some(limit) => cut(text, limit),
            None => text.to_owned(),
        }
    }
}

/// A text of at most `limit` characters, which says that it was cut.
fn cut(text: &str, limit: usize) -> String {
    const MARK: &str = "... [truncated]";
    const SHORT: &str = "…";
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mark = if limit < MARK.len() { SHORT } else { MARK };
    let kept = limit - mark.chars().count();
    text.chars().take(kept).chain(mark.chars()).collect()
}

/// A limit of a field: 0 is none, and what is no limit is the default.
fn limit(call: &NodeCall, field: &str, default: usize) -> Option<usize> {
    let number = match params::json(call, field) {
        Some(Json::Bool(_)) => None,
        _ => params::number(call, field),
    };
    let limit = number.filter(|number| *number >= 0.0 && number.fract() == 0.0);
    match limit.map_or(default, |number| number as usize) {
        0 => None,
        limit => Some(limit),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    title: String,
    link: String,
    snippet: String,
}

/// The results on DuckDuckGo's page.
fn found_on(page: &str) -> Vec<Found> {
    let soup = html::parse(page, Rules::Plain);
    let results = soup
        .elements()
        .filter(|element| element.name() == "div" && element.has_class("result"));
    results
        .filter_map(|result| {
            let part = |class: &str| {
                result
                    .elements()
                    .find(|element| element.name() == "a" && element.has_class(class))
            };
            let title = part("result__a")?;
            Some(Found {
                title: title.stripped_text(),
                link: target(title.attribute("href").unwrap_or_default()),
                snippet: part("result__snippet")
                    .map(|snippet| snippet.stripped_text())
                    .unwrap_or_default(),
            })
        })
        .collect()
}

/// Where a result leads: its links go by way of DuckDuckGo.
fn target(link: &str) -> String {
    let query = link
        .split_once('#')
        .map_or(link, |(before, _)| before)
        .split_once('?')
        .map_or("", |(_, query)| query);
    let mut pairs = Url::parse(&format!("http://query/?{query}"))
        .map(|url| url.query_pairs().into_owned().collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter();
    match pairs.find(|(name, value)| name == "uddg" && !value.is_empty()) {
        Some((_, value)) => percent_decoded(&value),
        None => link.to_owned(),
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_on_the_page() {
        let page = r#"<html><body><div class="result results_links web-result">
            <h2 class="result__title"><a rel="nofollow" class="result__a"
              href="//duckduckgo.com/l/?uddg=https%3A%2F%2Fexample.org%2Fa%253Fb&amp;rut=1">A <b>title</b> here</a></h2>
            <a class="result__snippet" href="x">What <b>it</b> says &amp; more</a></div>
            <div class="result"><a class="result__a" href="https://plain.example/">Plain</a></div>
            <div class="result result--ad"><a href="nothing">no title</a></div></body></html>"#;
        let expected = [
            ("Atitlehere", "https://example.org/a?b", "Whatitsays & more"),
            ("Plain", "https://plain.example/", ""),
        ];
        let expected = expected.map(|(title, link, snippet)| Found {
            title: title.to_owned(),
            link: link.to_owned(),
            snippet: snippet.to_owned(),
        });
        assert_eq!(found_on(page), expected);
    }

    #[test]
    fn texts_are_cut() {
        for (text, limit, expected) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("longer", 1, "…"),
            ("a text of many words", 15, "... [truncated]"),
            ("a text of many words", 17, "a ... [truncated]"),
            ("ééééééééééééééééééééé", 16, "é... [truncated]"),
        ] {
            assert_eq!(cut(text, limit), expected);
        }
    }

    #[test]
    fn words_in_addresses() {
        assert_eq!(quoted("a b+c/é~"), "a+b%2Bc%2F%C3%A9~");
        assert_eq!(percent_decoded("a%20b%2"), "a b%2");
        assert_eq!(percent_decoded("%C3%A9%zz%"), "é%zz%");
    }
}
