//! One request to a server that a flow, a run or a model names, with bounds on time and size.
//!
//! A redirect is followed by hand, each hop looked at like the first address, and credentials stay with the origin they
//! were meant for.

use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Method, Url};

use super::Refused;
use super::settings::HOSTS;
use crate::component::RunContext;

const MAX_REDIRECTS: usize = 20;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
    /// For each wait: the answer's first byte, and every further piece of it.
    pub timeout: Duration,
    pub follow_redirects: bool,
}

/// Why nothing came back, or not all of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(
        "{0} has an address where flows may not connect: it is private, reserved or a cloud's metadata service; the \
         operator can allow the host in {HOSTS}"
    )]
    Refused(String),
    #[error("redirected to {0}, which has an address where flows may not connect")]
    RefusedRedirect(String),
    #[error("more than {MAX_REDIRECTS} redirects while requesting {0}")]
    Redirects(Url),
    #[error("{0} did not answer within {1} s")]
    Timeout(Url, f64),
    #[error("{0}: {1}")]
    Unreachable(Url, String),
    /// Nobody listens there.
    #[error("{0}: {1}")]
    NoConnection(Url, String),
    /// Its name leads to no address.
    #[error("{0}: {1}")]
    UnknownHost(Url, String),
    #[error("the answer of {0} is larger than {1} bytes")]
    TooLarge(Url, usize),
    #[error("the answer of {0} is compressed ({1}), although that was not asked for")]
    Compressed(Url, String),
    #[error("the run was cancelled")]
    Cancelled,
}

impl FetchError {
    /// Whether it is a matter of where, not of what happened there.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::RefusedRedirect(_))
    }
}

/// An answer whose body is still on its way.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Where it came from in the end.
    pub url: Url,
    response: reqwest::Response,
    timeout: Duration,
}

impl Fetch {
    /// A page.
    pub(crate) fn page(url: Url, timeout: Duration) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: None,
            timeout,
            follow_redirects: false,
        }
    }

    /// Asks; the answer's head has arrived when this returns.
    pub(crate) async fn open(mut self, ctx: &RunContext) -> Result<Answer, FetchError> {
        let first = self.url.clone();
        for hop in 0..=MAX_REDIRECTS {
            let answer = match self.once(ctx).await {
                Err(FetchError::Refused(host)) if hop > 0 => return Err(FetchError::RefusedRedirect(host)),
                other => other?,
            };
            let Some(next) = answer.redirect().filter(|_| self.follow_redirects) else {
                return Ok(answer);
            };
            self.redirect(answer.status(), next);
        }
        Err(FetchError::Redirects(first))
    }

    async fn once(&self, ctx: &RunContext) -> Result<Answer, FetchError> {
        let refused = || FetchError::Refused(host(&self.url));
        let client = ctx
            .http
            .page_client(&self.url, &ctx.outbound)
            .map_err(|Refused| refused())?;
        let mut request = client
            .request(self.method.clone(), self.url.clone())
            .header(ACCEPT, "*/*")
            .header(ACCEPT_ENCODING, "identity")
            .headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let response = bounded(ctx, self.timeout, &self.url, request.send()).await?;
        let response = response.map_err(|error| match Refused::caused(&error) {
            true => refused(),
            false => unreached(&self.url, &error),
        })?;
        Ok(Answer {
            url: self.url.clone(),
            response,
            timeout: self.timeout,
        })
    }

    fn redirect(&mut self, status: u16, next: Url) {
        if !keeps_credentials(&self.url, &next) {
            for name in ["authorization", "proxy-authorization", "cookie"] {
                self.headers.remove(name);
            }
        }
        let post = self.method == Method::POST;
        if status == 303 && self.method != Method::HEAD || matches!(status, 301 | 302) && post {
            self.method = Method::GET;
            self.body = None;
            self.headers.remove(CONTENT_TYPE);
        }
        self.url = next;
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// What is wrong with the status, if it is not a success: in httpx's words, which models and users of Langflow see.
    pub(crate) fn status_error(&self) -> Option<String> {
        let status = self.response.status();
        let kind = match status.as_u16() {
            200..300 => return None,
            100..200 => "Informational response",
            300..400 => "Redirect response",
            400..500 => "Client error",
            _ => "Server error",
        };
        let line = format!(
            "{} {}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        );
        let location = match self.headers().get(LOCATION) {
            Some(location) if status.is_redirection() => {
                format!(
                    "\nRedirect location: '{}'",
                    String::from_utf8_lossy(location.as_bytes())
                )
            }
            _ => String::new(),
        };
        Some(format!(
            "{kind} '{}' for url '{}'{location}\nFor more information check: \
             https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/{}",
            line.trim_end(),
            shown(&self.url),
            status.as_u16()
        ))
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The type of the content in lower case; empty when the server does not say.
    pub(crate) fn content_type(&self) -> String {
        text_of(self.headers().get(CONTENT_TYPE)).to_lowercase()
    }

    fn redirect(&self) -> Option<Url> {
        let follows = matches!(self.status(), 301 | 302 | 303 | 307 | 308);
        let location = self.headers().get(LOCATION).filter(|_| follows)?;
        let next = self.url.join(location.to_str().ok()?).ok()?;
        matches!(next.scheme(), "http" | "https").then_some(next)
    }

    /// All of the body, if it is not larger than `limit` bytes.
    pub(crate) async fn read(mut self, ctx: &RunContext, limit: usize) -> Result<Vec<u8>, FetchError> {
        let too_large = || FetchError::TooLarge(self.url.clone(), limit);
        let coding = text_of(self.headers().get(CONTENT_ENCODING)).to_lowercase();
        if !matches!(coding.as_str(), "" | "identity") {
            return Err(FetchError::Compressed(self.url.clone(), coding));
        }
        if self
            .response
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_large());
        }
        let mut body = Vec::new();
        loop {
            let piece = bounded(ctx, self.timeout, &self.url, self.response.chunk()).await?;
            let piece = piece.map_err(|error| FetchError::Unreachable(self.url.clone(), reason(&error)))?;
            let Some(piece) = piece else {
                return Ok(body);
            };
            if body.len() + piece.len() > limit {
                return Err(FetchError::TooLarge(self.url.clone(), limit));
            }
            body.extend_from_slice(&piece);
        }
    }
}

/// Waits no longer than `timeout`, nor than the run.
async fn bounded<T>(
    ctx: &RunContext,
    timeout: Duration,
    url: &Url,
    wait: impl Future<Output = T>,
) -> Result<T, FetchError> {
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(FetchError::Cancelled),
        done = tokio::time::timeout(timeout, wait) => {
            done.map_err(|_| FetchError::Timeout(url.clone(), timeout.as_secs_f64()))
        }
    }
}

/// An address as Langflow shows it: without the slash of a path that is nothing else.
pub(crate) fn shown(url: &Url) -> &str {
    let text = url.as_str();
    match url.path() == "/" && url.query().is_none() && url.fragment().is_none() {
        true => text.trim_end_matches('/'),
        false => text,
    }
}

/// Whether headers with credentials go along: to the same origin, and from http to https of the same host.
pub(crate) fn keeps_credentials(from: &Url, to: &Url) -> bool {
    let port = Url::port_or_known_default;
    let upgrade = from.scheme() == "http"
        && to.scheme() == "https"
        && from.host() == to.host()
        && (port(from), port(to)) == (Some(80), Some(443));
    from.origin() == to.origin() || upgrade
}

fn text_of(header: Option<&HeaderValue>) -> String {
    header
        .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
        .unwrap_or_default()
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// Whether it is the name, the machine, or what happened later.
fn unreached(url: &Url, error: &reqwest::Error) -> FetchError {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let reason = reason(error);
    let mut cause: Option<&dyn std::error::Error> = Some(error)
        .filter(|error| error.is_connect())
        .map(|error| error as _);
    while let Some(found) = cause {
        if found.to_string() == "dns error" {
            return FetchError::UnknownHost(url.clone(), reason);
        }
        let kind = found.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(
            kind,
            Some(ConnectionRefused | HostUnreachable | NetworkUnreachable)
        ) {
            return FetchError::NoConnection(url.clone(), reason);
        }
        cause = found.source();
    }
    FetchError::Unreachable(url.clone(), reason)
}

/// The innermost cause: what the system said.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        for (from, to, keeps) in [
            ("http://a/x", "http://a/y", true),
            ("http://a/x", "https://a/x", true),
            ("http://a:8080/x", "https://a/x", false),
            ("http://a/x", "https://a:8443/x", false),
            ("https://a/x", "http://a/x", false),
            ("https://a/x", "https://b/x", false),
            ("https://a/x", "https://a.b/x", false),
        ] {
            assert_eq!(keeps_credentials(&url(from), &url(to)), keeps, "{from} {to}");
        }
    }

    #[test]
    fn a_post_becomes_a_get_where_browsers_make_it_one() {
        for (method, status, then, body) in [
            (Method::POST, 301, Method::GET, false),
            (Method::POST, 302, Method::GET, false),
            (Method::POST, 303, Method::GET, false),
            (Method::POST, 307, Method::POST, true),
            (Method::POST, 308, Method::POST, true),
            (Method::PUT, 302, Method::PUT, true),
            (Method::PUT, 303, Method::GET, false),
            (Method::HEAD, 303, Method::HEAD, true),
        ] {
            let mut fetch = Fetch::page(url("http://a/"), Duration::from_secs(1));
            (fetch.method, fetch.body) = (method.clone(), Some(Vec::new()));
            fetch.redirect(status, url("http://a/b"));
            assert_eq!(
                (fetch.method, fetch.body.is_some()),
                (then, body),
                "{method} {status}"
            );
        }
    }
}
