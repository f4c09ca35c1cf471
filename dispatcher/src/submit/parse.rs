//! The body of a submission, checked without I/O: what is asked for, or everything that is wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

use flowfleet_core::clock::later;
use flowfleet_core::flow::FlowRef;
use flowfleet_core::run::{Idempotency, RunSettings};
use flowfleet_core::{Labels, Limits, Priority, QueueName, RetryPolicy};
use flowfleet_engine::Request;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::api::body;
use crate::api::problem::{Code, ErrorItem, Problem};
use crate::keys::hex;

/// Longest delay and expiry.
const MAX_SECONDS: f64 = 366.0 * 24.0 * 3600.0;
pub(crate) const MAX_SESSION: usize = 255;
const MAX_KEY: usize = 200;
pub(crate) const MAX_VARIABLES: usize = 100;

/// A run to submit. Unknown fields are refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmitRun {
    /// `name` for the newest version, or `name@3`.
    #[schema(
        example = "hello-prompt",
        pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(@[0-9]+)?$"
    )]
    pub flow: String,
    /// Text, or an object: its `input_value`, or all of it as JSON text.
    #[serde(default)]
    pub input: Value,
    /// Values for fields of nodes, by node id or display name.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub tweaks: Value,
    /// Values for fields that read a global variable, and model credentials. Never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub session_id: Option<String>,
    /// The pool of workers: `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub queue: Option<String>,
    /// `high`, `normal` or `low`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(high|normal|low)$")]
    pub priority: Option<String>,
    /// Not before this time (RFC 3339). Excludes `delay_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub run_at: Option<String>,
    /// Not before this many seconds from now. Excludes `run_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub delay_s: Option<f64>,
    /// Longest execution of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0)]
    pub timeout_s: Option<f64>,
    /// A run that has not started this long after it was due is expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0)]
    pub expires_in_s: Option<f64>,
    /// Attempts at most, the first included. Interruptions by lost machines do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryBody>,
    /// The same key and body answer with the same run; so does the header `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub idempotency_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Not available yet: refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<Value>,
    /// Not available yet: refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Not available yet: refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Value>,
}

/// When a failed attempt is tried again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryBody {
    /// Delay before the second attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_s: Option<f64>,
    /// Growth of the delay with each further attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The longest delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_s: Option<f64>,
}

/// When a run may start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    Now,
    At(Timestamp),
    In(Duration),
}

impl Start {
    /// Whether times reckoned from this start depend on what time it is `now`.
    pub(crate) fn is_relative(self, now: Timestamp) -> bool {
        match self {
            Self::Now | Self::In(_) => true,
            Self::At(at) => at <= now,
        }
    }
}

/// A submission that is well-formed; whether its flow exists and accepts it is not known yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub flow: FlowRef,
    pub request: Request,
    pub queue: QueueName,
    pub priority: Priority,
    pub settings: RunSettings,
    pub labels: Labels,
    pub start: Start,
    pub expires_in: Option<Duration>,
    pub idempotency: Option<Idempotency>,
}

/// Why a submission is refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    pub code: Code,
    pub errors: Vec<ErrorItem>,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::of(refused.code, refused.errors)
    }
}

/// Parses and checks one body. `key` is the idempotency key of the request's header.
pub(crate) fn parse(bytes: &[u8], limits: &Limits, key: Option<&str>) -> Result<Wanted, Refused> {
    let body: SubmitRun = body::json(bytes).map_err(|error| Refused {
        code: Code::Invalid,
        errors: vec![error],
    })?;
    body.check(limits, key)
}

impl SubmitRun {
    fn check(self, limits: &Limits, key: Option<&str>) -> Result<Wanted, Refused> {
        let mut errors = Vec::new();
        self.refuse_unavailable()?;
        let idempotency = self.idempotency(key, &mut errors);
        let flow = keep(self.flow.parse::<FlowRef>(), "/flow", &mut errors);
        if !matches!(self.input, Value::Null | Value::String(_) | Value::Object(_)) {
            errors.push(ErrorItem::new("/input", "must be text or an object"));
        }
        if !matches!(self.tweaks, Value::Null | Value::Object(_)) {
            errors.push(ErrorItem::new("/tweaks", "must be an object"));
        }
        let variables = self.variables.unwrap_or_default();
        if variables.len() > MAX_VARIABLES {
            errors.push(ErrorItem::new(
                "/variables",
                format!("at most {MAX_VARIABLES} variables are allowed"),
            ));
        }
        if self
            .session_id
            .as_ref()
            .is_some_and(|id| id.is_empty() || id.len() > MAX_SESSION || id.chars().any(char::is_control))
        {
            errors.push(ErrorItem::new(
                "/session_id",
                format!("must have 1 to {MAX_SESSION} bytes without control characters"),
            ));
        }
        let queue = self
            .queue
            .map(|text| keep(text.parse::<QueueName>(), "/queue", &mut errors));
        let priority = self
            .priority
            .map(|text| keep(text.parse::<Priority>(), "/priority", &mut errors));
        let start = start(self.run_at.as_deref(), self.delay_s, &mut errors);
        let expires_in = seconds(self.expires_in_s, "/expires_in_s", MAX_SECONDS, &mut errors);
        let timeout = seconds(self.timeout_s, "/timeout_s", limits.timeout_s as f64, &mut errors);
        let mut settings = RunSettings::default();
        settings.timeout_s = timeout.map_or(settings.timeout_s.min(limits.timeout_s as f64), |t| {
            t.as_secs_f64()
        });
        settings.max_attempts = self
            .max_attempts
            .unwrap_or(settings.max_attempts.min(limits.max_attempts));
        if !(1..=limits.max_attempts).contains(&settings.max_attempts) {
            let most = limits.max_attempts;
            errors.push(ErrorItem::new(
                "/max_attempts",
                format!("must be between 1 and {most}"),
            ));
        }
        settings.retry = retry(self.retry, &mut errors);
        let labels = keep(
            Labels::try_from(self.labels.unwrap_or_default()),
            "/labels",
            &mut errors,
        );
        let (Some(flow), Some(labels), true) = (flow, labels, errors.is_empty()) else {
            return Err(Refused {
                code: Code::Invalid,
                errors,
            });
        };
        Ok(Wanted {
            flow,
            request: Request {
                input: self.input,
                tweaks: self.tweaks,
                session_id: self.session_id,
                variables,
                ..Request::default()
            },
            queue: queue.flatten().unwrap_or_default(),
            priority: priority.flatten().unwrap_or_default(),
            settings,
            labels,
            start,
            expires_in,
            idempotency,
        })
    }

    /// Fields of the contract whose behaviour is not built yet: never silently ignored.
    fn refuse_unavailable(&self) -> Result<(), Refused> {
        let fields = [
            (
                "/concurrency_key",
                self.concurrency_key.is_some(),
                "limiting runs by a concurrency key",
            ),
            ("/after", self.after.is_some(), "waiting for other runs"),
            ("/webhook", self.webhook.is_some(), "calling a webhook"),
        ];
        let errors: Vec<_> = fields
            .into_iter()
            .filter(|(_, used, _)| *used)
            .map(|(pointer, _, what)| {
                ErrorItem::new(
                    pointer,
                    format!("{what} is not available in this version: leave the field out"),
                )
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Refused {
                code: Code::NotAvailable,
                errors,
            })
        }
    }

    fn idempotency(&self, header: Option<&str>, errors: &mut Vec<ErrorItem>) -> Option<Idempotency> {
        if let (Some(header), Some(field)) = (header, &self.idempotency_key)
            && header != field
        {
            errors.push(ErrorItem::new(
                "/idempotency_key",
                "differs from the header Idempotency-Key",
            ));
        }
        let key = self.idempotency_key.as_deref().or(header)?;
        if let Err(detail) = check_key(key) {
            errors.push(ErrorItem::new("/idempotency_key", detail));
        }
        let asked = Self {
            idempotency_key: None,
            ..self.clone()
        };
        let digest = digest(&serde_json::to_value(asked).unwrap_or_default());
        Some(Idempotency {
            key: key.to_owned(),
            digest,
        })
    }
}

/// Whether an idempotency key is one.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        return Err(format!(
            "an idempotency key must have 1 to {MAX_KEY} bytes without control characters"
        ));
    }
    Ok(())
}

/// The start and the expiry as points in time.
pub(crate) fn times(
    start: Start,
    expires_in: Option<Duration>,
    now: Timestamp,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let run_at = match start {
        Start::Now => None,
        Start::At(at) => Some(at),
        Start::In(delay) => Some(later(now, delay)),
    }
    .filter(|at| *at > now);
    (
        run_at,
        expires_in.map(|after| later(run_at.unwrap_or(now), after)),
    )
}

fn keep<T, E: std::fmt::Display>(
    parsed: Result<T, E>,
    pointer: &str,
    errors: &mut Vec<ErrorItem>,
) -> Option<T> {
    parsed
        .map_err(|error| errors.push(ErrorItem::new(pointer, error.to_string())))
        .ok()
}

fn seconds(value: Option<f64>, pointer: &str, most: f64, errors: &mut Vec<ErrorItem>) -> Option<Duration> {
    let value = value?;
    if value > 0.0 && value <= most {
        return Some(Duration::from_secs_f64(value));
    }
    errors.push(ErrorItem::new(
        pointer,
        format!("must be more than 0 and at most {most} seconds, found {value}"),
    ));
    None
}

fn start(run_at: Option<&str>, delay_s: Option<f64>, errors: &mut Vec<ErrorItem>) -> Start {
    match (run_at, delay_s) {
        (Some(_), Some(_)) => {
            errors.push(ErrorItem::new("/delay_s", "give either run_at or delay_s"));
            Start::Now
        }
        (Some(text), None) => keep(text.parse::<Timestamp>(), "/run_at", errors).map_or(Start::Now, |at| {
            let most = later(Timestamp::now(), Duration::from_secs_f64(MAX_SECONDS));
            if at > most {
                errors.push(ErrorItem::new("/run_at", "is more than a year away"));
            }
            Start::At(at)
        }),
        (None, Some(0.0)) => Start::Now,
        (None, Some(delay)) => {
            seconds(Some(delay), "/delay_s", MAX_SECONDS, errors).map_or(Start::Now, Start::In)
        }
        (None, None) => Start::Now,
    }
}

fn retry(body: Option<RetryBody>, errors: &mut Vec<ErrorItem>) -> RetryPolicy {
    let Some(body) = body else {
        return RetryPolicy::default();
    };
    let default = RetryPolicy::default();
    let backoff_s = body.backoff_s.unwrap_or(default.backoff_s);
    let policy = RetryPolicy {
        backoff_s,
        factor: body.factor.unwrap_or(default.factor),
        max_s: body.max_s.unwrap_or(default.max_s.max(backoff_s)),
    };
    if let Err(error) = policy.check() {
        errors.push(ErrorItem::new("/retry", error.to_string()));
    }
    policy
}

/// Lower-case hex sha256 of a value whose objects are taken in key order: equal requests have equal digests.
pub(crate) fn digest(value: &Value) -> String {
    let mut hash = Sha256::new();
    canonical(value, &mut hash);
    hex(&hash.finalize())
}

/// Every piece is preceded by its kind and length, so that no two values give the same bytes. The depth is bounded
/// by the parser that made the value.
fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Number(number) => piece(b"d", number.to_string().as_bytes(), hash),
        Value::String(text) => piece(b"s", text.as_bytes(), hash),
        Value::Array(items) => {
            piece(b"a", items.len().to_string().as_bytes(), hash);
            for item in items {
                canonical(item, hash);
            }
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            piece(b"o", keys.len().to_string().as_bytes(), hash);
            for key in keys {
                piece(b"k", key.as_bytes(), hash);
                canonical(&map[key], hash);
            }
        }
    }
}

fn piece(kind: &[u8], bytes: &[u8], hash: &mut Sha256) {
    hash.update(kind);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
