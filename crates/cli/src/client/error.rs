//! What can go wrong between this program and a dispatcher, in words.

use std::time::Duration;

use reqwest::{StatusCode, header};
use serde::Deserialize;
use url::Url;

use crate::failure::Failure;
use crate::text;

/// One thing wrong with a request, as the server points at it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Fault {
    #[serde(default)]
    pub pointer: Option<String>,
    #[serde(default)]
    pub node: Option<String>,
    #[serde(default)]
    pub line: Option<u64>,
    #[serde(default)]
    pub detail: String,
}

/// Problem details (RFC 9457), as far as this program reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Problem {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    errors: Vec<Fault>,
}

/// Why a call was not answered as hoped.
#[derive(Debug, Clone)]
pub(crate) enum ApiError {
    /// No answer.
    Unreachable {
        server: String,
        why: String,
        /// There was not even a connection, so the server knows nothing of the call.
        unconnected: bool,
    },
    /// The server refused.
    Refused {
        status: StatusCode,
        code: String,
        detail: String,
        faults: Vec<Fault>,
        retry_after: Option<Duration>,
    },
    /// The answer does not come from a dispatcher.
    Foreign { server: String, why: String },
}

impl ApiError {
    pub(crate) fn unreachable(url: &Url, error: &reqwest::Error) -> Self {
        let mut why = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            String::new()
        };
        // The innermost source says most: "connection refused", "name or service not known".
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            if inner.source().is_none() && why.is_empty() {
                why = inner.to_string();
            }
            source = inner.source();
        }
        if why.is_empty() {
            why = error.to_string();
        }
        Self::Unreachable {
            server: origin(url),
            why,
            unconnected: error.is_connect(),
        }
    }

    pub(crate) fn foreign(url: &Url, status: StatusCode, why: &str) -> Self {
        Self::Foreign {
            server: origin(url),
            why: format!("it answered {status} with something else ({why})"),
        }
    }

    pub(crate) async fn from_answer(url: &Url, answer: reqwest::Response) -> Self {
        let status = answer.status();
        let retry_after = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_secs);
        let body = answer.bytes().await.unwrap_or_default();
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            if status.is_server_error() {
                let server = origin(url);
                let why = format!("something in between answered {status}");
                return Self::Unreachable {
                    server,
                    why,
                    unconnected: false,
                };
            }
            return Self::foreign(url, status, "no problem details");
        };
        let title = problem.title.unwrap_or_else(|| status.to_string());
        // A detail that only repeats the first error says less than the errors themselves.
        let repeats = |detail: &String| {
            problem
                .errors
                .first()
                .is_some_and(|first| detail.contains(&first.detail))
        };
        let detail = problem.detail.filter(|detail| !repeats(detail)).unwrap_or(title);
        Self::Refused {
            status,
            code: problem.code.unwrap_or_default(),
            detail,
            faults: problem.errors,
            retry_after,
        }
    }

    /// Whether trying again is safe and may help; `patient` waits also for a server that is not there.
    pub(crate) fn may_pass(&self, repeatable: bool, patient: bool) -> bool {
        match self {
            Self::Unreachable {
                unconnected: true, ..
            } => patient,
            Self::Unreachable { .. } => repeatable,
            Self::Refused { status, .. } => match status.as_u16() {
                429 => true,
                502..=504 => repeatable,
                _ => false,
            },
            Self::Foreign { .. } => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unreachable { server, why, .. } => Self::reach(format!("cannot reach {server}: {why}"))
                .advise("start one with `flowfleet up`, or name another with --url or FLOWFLEET_URL"),
            ApiError::Foreign { server, why } => {
                Self::reach(format!("{server} is no Flowfleet dispatcher: {why}"))
                    .advise("name the dispatcher with --url or FLOWFLEET_URL")
            }
            ApiError::Refused {
                status,
                code,
                detail,
                mut faults,
                ..
            } => {
                let detail = match faults.as_slice() {
                    [only] => {
                        let words = only.words();
                        faults.clear();
                        format!("{detail}: {words}")
                    }
                    _ => detail,
                };
                let failure = match status.as_u16() {
                    401 => Self::reach(detail)
                        .advise("set FLOWFLEET_API_KEY or --api-key; `flowfleet keys create --store URL` makes the first key"),
                    403 => Self::reach(detail).advise("use a key with a role that may do this"),
                    429 | 500.. => Self::reach(format!("{detail} ({status})")),
                    _ if code == "flow_not_found" => {
                        Self::usage(detail).advise("`flowfleet flows list` shows what is there, `flowfleet flows push FILE` stores one")
                    }
                    _ => Self::usage(detail),
                };
                let hidden = faults.len().saturating_sub(20);
                let mut failure = faults
                    .iter()
                    .take(20)
                    .fold(failure, |failure, fault| failure.detail(fault.words()));
                if hidden > 0 {
                    failure = failure.detail(format!("and {} more", text::count(hidden as u64)));
                }
                failure
            }
        }
    }
}

impl Fault {
    fn words(&self) -> String {
        let mut words = String::new();
        if let Some(line) = self.line {
            words.push_str(&format!("line {line}: "));
        }
        if let Some(node) = self.node.as_deref().filter(|node| !self.detail.contains(node)) {
            words.push_str(&format!("{node}: "));
        }
        words.push_str(&self.detail);
        if let Some(pointer) = self.pointer.as_deref().filter(|pointer| !pointer.is_empty()) {
            words.push_str(&format!(" (at {pointer})"));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    fn refused(status: u16, code: &str) -> ApiError {
        ApiError::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.to_owned(),
            detail: "a sentence".to_owned(),
            faults: vec![Fault {
                pointer: Some("/input".to_owned()),
                node: None,
                line: Some(7),
                detail: "is too long".to_owned(),
            }],
            retry_after: None,
        }
    }

    #[test]
    fn statuses_become_exit_codes() {
        for (status, code) in [
            (400, Code::Usage),
            (401, Code::Reach),
            (403, Code::Reach),
            (404, Code::Usage),
            (409, Code::Usage),
            (413, Code::Usage),
            (422, Code::Usage),
            (429, Code::Reach),
            (500, Code::Reach),
            (503, Code::Reach),
        ] {
            assert_eq!(Failure::from(refused(status, "")).code, code, "{status}");
        }
    }

    #[test]
    fn faults_are_said_with_line_and_pointer() {
        let failure = Failure::from(refused(422, "invalid"));
        assert_eq!(failure.message, "a sentence: line 7: is too long (at /input)");
        let ApiError::Refused {
            status,
            code,
            detail,
            mut faults,
            retry_after,
        } = refused(422, "invalid")
        else {
            panic!("it is refused");
        };
        faults.push(Fault {
            pointer: None,
            node: Some("n".to_owned()),
            line: None,
            detail: "is bad".to_owned(),
        });
        let failure = Failure::from(ApiError::Refused {
            status,
            code,
            detail,
            faults,
            retry_after,
        });
        assert_eq!(failure.message, "a sentence");
        assert_eq!(failure.details, ["line 7: is too long (at /input)", "n: is bad"]);
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let lost = |unconnected| ApiError::Unreachable {
            server: String::new(),
            why: String::new(),
            unconnected,
        };
        for (error, repeatable, patient, again) in [
            (lost(false), true, false, true),
            (lost(false), false, true, false),
            (lost(true), true, false, false),
            (lost(true), false, true, true),
            (refused(503, ""), true, false, true),
            (refused(503, ""), false, true, false),
            (refused(429, ""), false, false, true),
            (refused(422, ""), true, true, false),
        ] {
            assert_eq!(
                error.may_pass(repeatable, patient),
                again,
                "{error:?} {repeatable} {patient}"
            );
        }
    }
}
