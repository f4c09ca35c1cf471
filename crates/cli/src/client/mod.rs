//! The client of a dispatcher: calls with bounded time, retries that repeat nothing, errors in words.

mod error;
mod events;
mod types;

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

pub(crate) use error::ApiError;
#[cfg(test)]
pub(crate) use error::Fault;
pub(crate) use events::{Event, Events};
pub(crate) use types::{Flow, Page, Run, RunFault, Worker};

use crate::failure::{Failure, Result};

/// Long enough for a busy server, short enough to be told.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Added to what a call was told to wait, before the client gives up by itself.
const GRACE: Duration = Duration::from_secs(30);
/// The longest pause a server may ask for between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A dispatcher, reached over HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
}

impl Client {
    pub(crate) fn new(base: &str, key: Option<String>) -> Result<Self> {
        let refused = |why: &str| {
            Failure::usage(format!("the server's URL {base:?} {why}"))
                .advise("--url http://127.0.0.1:7700, or set FLOWFLEET_URL")
        };
        let url = Url::parse(base).map_err(|error| refused(&format!("is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(refused("is not an http or https address"));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("flowfleet/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::reach(format!("cannot make an HTTP client: {error}")))?;
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        if key
            .as_deref()
            .is_some_and(flowfleet_runtime::settings::is_reference)
        {
            return Err(Failure::usage(
                "the API key is a reference (aws-secret:...), which is not available in this build",
            )
            .advise("--api-key KEY, or the key itself in FLOWFLEET_API_KEY"));
        }
        if key
            .as_deref()
            .is_some_and(|key| header::HeaderValue::from_str(key).is_err())
        {
            return Err(Failure::usage("the API key has characters that no key has"));
        }
        Ok(Self { http, base: url, key })
    }

    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A call to a path, given by its segments.
    pub(crate) fn call(&self, method: Method, segments: &[&str]) -> Call<'_> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        // GET, PUT and DELETE may be repeated by their nature; a POST only with an idempotency key.
        let repeatable = method != Method::POST;
        Call {
            client: self,
            method,
            url,
            body: None,
            key: None,
            headers: Vec::new(),
            timeout: TIMEOUT,
            tries: 2,
            repeatable,
            patient: false,
        }
    }

    pub(crate) fn get(&self, segments: &[&str]) -> Call<'_> {
        self.call(Method::GET, segments)
    }

    /// One run; with `wait`, answers when it ends or that time is over.
    pub(crate) async fn run(&self, id: &str, wait: Option<Duration>) -> std::result::Result<Value, ApiError> {
        let call = self.get(&["v1", "runs", id]);
        match wait {
            Some(wait) => {
                call.query("wait_s", &wait.as_secs().to_string())
                    .timeout(wait + GRACE)
                    .tries(6)
                    .patient()
                    .send()
                    .await
            }
            None => call.send().await,
        }
    }

    /// The events of a run after `after`, followed to its end.
    pub(crate) fn events(&self, id: &str, after: Option<u64>) -> Events {
        Events::new(self.clone(), id.to_owned(), after)
    }

    /// Walks a listing: pages of 1000 until `limit` items or its end.
    pub(crate) async fn list(
        &self,
        segments: &[&str],
        query: &[(&'static str, String)],
        limit: usize,
    ) -> std::result::Result<Page<Value>, ApiError> {
        let mut all = Page::default();
        loop {
            let wanted = (limit - all.items.len()).min(1000);
            let mut call = self.get(segments).query("limit", &wanted.to_string()).tries(4);
            for (key, value) in query {
                call = call.query(key, value);
            }
            if let Some(cursor) = &all.next_cursor {
                call = call.query("cursor", cursor);
            }
            let page: Page<Value> = call.send().await?;
            let empty = page.items.is_empty();
            all.items.extend(page.items);
            all.next_cursor = page.next_cursor;
            if all.next_cursor.is_none() || empty || all.items.len() >= limit {
                return Ok(all);
            }
        }
    }
}

/// One call being put together.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    body: Option<(Bytes, &'static str)>,
    key: Option<String>,
    headers: Vec<(&'static str, String)>,
    timeout: Duration,
    tries: u32,
    repeatable: bool,
    patient: bool,
}

impl Call<'_> {
    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(key, value);
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(Bytes::from(body.to_string()), "application/json")
    }

    pub(crate) fn body(mut self, body: Bytes, content_type: &'static str) -> Self {
        self.body = Some((body, content_type));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Makes the call safe to repeat.
    pub(crate) fn idempotency_key(mut self, key: String) -> Self {
        self.key = Some(key);
        self.repeatable = true;
        self
    }

    /// The body itself carries idempotency keys.
    pub(crate) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Waits also for a server that is not there: it was, a moment ago.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// How often to try while the server is away or busy.
    pub(crate) fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// The answer's JSON.
    pub(crate) async fn send<T: DeserializeOwned>(self) -> std::result::Result<T, ApiError> {
        self.send_with_status().await.map(|(_, answer)| answer)
    }

    pub(crate) async fn send_with_status<T: DeserializeOwned>(
        self,
    ) -> std::result::Result<(StatusCode, T), ApiError> {
        let url = self.url.clone();
        let answer = self.response().await?;
        let status = answer.status();
        let body = answer
            .bytes()
            .await
            .map_err(|error| ApiError::unreachable(&url, &error))?;
        // Some calls answer nothing (204).
        let text: &[u8] = if body.is_empty() { b"null" } else { &body };
        let value = serde_json::from_slice(text)
            .map_err(|error| ApiError::foreign(&url, status, &error.to_string()))?;
        Ok((status, value))
    }

    /// The answer, its body not yet read. Tries again while that is safe and may help.
    pub(crate) async fn response(self) -> std::result::Result<reqwest::Response, ApiError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let error = match self.once().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if tried >= self.tries || !error.may_pass(self.repeatable, self.patient) {
                return Err(error);
            }
            let own = Duration::from_millis(250 << tried.min(5));
            tokio::time::sleep(error.retry_after().unwrap_or(own).min(LONGEST_PAUSE)).await;
        }
    }

    async fn once(&self) -> std::result::Result<reqwest::Response, ApiError> {
        let mut request = self.client.http.request(self.method.clone(), self.url.clone());
        request = request.timeout(self.timeout);
        if let Some(key) = &self.client.key {
            request = request.bearer_auth(key);
        }
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some((body, content_type)) = &self.body {
            request = request
                .header(header::CONTENT_TYPE, *content_type)
                .body(body.clone());
        }
        let answer = request
            .send()
            .await
            .map_err(|error| ApiError::unreachable(&self.url, &error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(ApiError::from_answer(&self.url, answer).await)
    }
}
