//! Runs over HTTP: how a run is shown, and the calls, one a file.

pub(crate) mod batch;
pub(crate) mod cancel;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod follow;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod replay;
pub(crate) mod sentences;
pub(crate) mod submit;

use std::collections::BTreeMap;

use flowfleet_core::clock::seconds_between;
use flowfleet_core::port::BlobStore;
use flowfleet_core::run::{AttemptView, RunError, RunView};
use flowfleet_core::{Payload, RunId};
use flowfleet_runtime::payload;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::problem::Problem;

/// A run as the API shows it. Lists leave `input`, `output`, `outputs` and `attempts` out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Run {
    pub id: Uuid,
    pub flow: String,
    pub version: u32,
    pub queue: String,
    /// `high`, `normal` or `low`.
    pub priority: &'static str,
    /// `scheduled`, `blocked`, `queued`, `running`, `succeeded`, `failed`, `cancelled` or `expired`.
    pub state: &'static str,
    pub attempt: u32,
    pub max_attempts: u32,
    /// Attempts ended by a lost or drained machine; they do not count against `max_attempts`.
    pub interruptions: u32,
    pub session_id: Option<String>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Text or JSON of the flow's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Every output node's result, by node id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Value>,
    pub error: Option<RunFault>,
    pub created_at: Timestamp,
    pub queued_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub run_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// From queued to started.
    pub wait_s: Option<f64>,
    /// From the first start to the end, or to now.
    pub duration_s: Option<f64>,
    pub timeout_s: f64,
    pub usage: UsageBody,
    /// What the run cost; null while prices are not known.
    pub cost_usd: Option<f64>,
    pub worker: Option<Uuid>,
    pub cancel_requested: bool,
    pub replay_of: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Attempt>>,
    /// Sequence of the newest event.
    pub last_event: u64,
}

/// Why a run failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunFault {
    /// `node`, `timeout`, `request`, `infrastructure` or `internal`.
    pub kind: Value,
    /// Stable and machine-readable, such as `model_timeout`.
    pub code: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Tokens paid for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageBody {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// One attempt to execute a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Attempt {
    pub attempt: u32,
    pub worker: Uuid,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// `succeeded`, `failed`, `cancelled`, `timed_out`, `interrupted`, `spot_notice`, `handed_off` or `worker_lost`; null while it
    /// runs.
    pub ended_because: Option<&'static str>,
    pub nodes_reused: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunFault>,
}

/// The answer to a submission.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Submitted {
    pub id: Uuid,
    pub state: &'static str,
    pub flow: String,
    pub version: u32,
    pub queue: String,
    pub priority: &'static str,
    /// False when the idempotency key was used before: this is the run of that time.
    pub created: bool,
}

/// One page of runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunList {
    pub items: Vec<Run>,
    pub next_cursor: Option<String>,
}

impl From<RunError> for RunFault {
    fn from(error: RunError) -> Self {
        let kind = serde_json::to_value(error.kind).unwrap_or_default();
        Self {
            kind,
            code: error.code,
            message: error.message,
            node: error.node,
        }
    }
}

impl From<AttemptView> for Attempt {
    fn from(view: AttemptView) -> Self {
        Self {
            attempt: view.attempt,
            worker: view.worker.0,
            started_at: view.started_at,
            ended_at: view.ended_at,
            ended_because: view.ended_because.map(|because| because.as_str()),
            nodes_reused: view.nodes_reused,
            error: view.error.map(RunFault::from),
        }
    }
}

impl Run {
    /// Without payloads and attempts.
    pub(crate) fn brief(view: RunView, now: Timestamp) -> Self {
        let end = view.finished_at.unwrap_or(now);
        Self {
            id: view.id.0,
            flow: view.flow.name.to_string(),
            version: view.flow.version,
            queue: view.queue.to_string(),
            priority: view.priority.as_str(),
            state: view.state.as_str(),
            attempt: view.attempt,
            max_attempts: view.settings.max_attempts,
            interruptions: view.interruptions,
            session_id: view.session_id,
            labels: view.labels.into(),
            input: None,
            output: None,
            outputs: None,
            error: view.error.map(RunFault::from),
            created_at: view.created_at,
            queued_at: view.queued_at,
            started_at: view.started_at,
            finished_at: view.finished_at,
            run_at: view.run_at,
            expires_at: view.expires_at,
            wait_s: match (view.queued_at, view.started_at) {
                // A run that was queued again after it had started says so in its attempts.
                (Some(queued), Some(started)) if queued <= started => Some(seconds_between(queued, started)),
                _ => None,
            },
            duration_s: view.started_at.map(|started| seconds_between(started, end)),
            timeout_s: view.settings.timeout_s,
            usage: UsageBody {
                input_tokens: view.usage.input_tokens,
                output_tokens: view.usage.output_tokens,
            },
            cost_usd: None,
            worker: view.worker.map(|worker| worker.0),
            cancel_requested: view.cancel_requested,
            replay_of: view.replay_of.map(|run| run.0),
            attempts: None,
            last_event: view.last_seq,
        }
    }

    /// With payloads, read from the blob store where they lie there, and attempts.
    pub(crate) async fn full(mut view: RunView, blob: &dyn BlobStore) -> Result<Self, Problem> {
        // Only the input is shown of what was stored with it: variables may hold credentials.
        let input = match open(blob, view.input.take()).await? {
            Value::Object(mut stored) => stored.remove("input").unwrap_or_default(),
            _ => Value::Null,
        };
        let output = open(blob, view.output.take()).await?;
        let outputs = open(blob, view.outputs.take()).await?;
        let attempts = std::mem::take(&mut view.attempts);
        let mut run = Self::brief(view, Timestamp::now());
        run.input = Some(input);
        run.output = Some(output);
        run.outputs = Some(outputs);
        run.attempts = Some(attempts.into_iter().map(Attempt::from).collect());
        Ok(run)
    }
}

/// A payload, read from the blob store if it lies there.
pub(crate) async fn open(blob: &dyn BlobStore, payload: Option<Payload>) -> Result<Value, Problem> {
    match payload {
        None => Ok(Value::Null),
        Some(Payload::Inline(value)) => Ok(value),
        Some(stored) => Ok(payload::open(blob, &stored).await?),
    }
}

/// A run's id from a path: what is no id names no run.
pub(crate) fn run_id(text: &str) -> Result<RunId, Problem> {
    text.parse().map_err(|_| no_such_run(text))
}

pub(crate) fn no_such_run(id: impl std::fmt::Display) -> Problem {
    let id: String = id.to_string().chars().take(64).collect();
    Problem::not_found(format!("there is no run {id}"))
}
