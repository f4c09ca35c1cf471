//! Tasks of ECS: what a task says of itself, and its protection against scale-in (invariant I7).

use std::time::{Duration, Instant};

use flowfleet_engine::Environment;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

/// How long protection lasts unless it is renewed: what a worker that dies leaves behind ends then.
const TERM: Duration = Duration::from_secs(3600);

/// It is renewed when less than this is left.
const RENEW: Duration = Duration::from_secs(1800);

/// Idle for so long, and it is released. Longer than a claim may take.
const IDLE: Duration = Duration::from_secs(30);

/// After a refusal it is not asked for again before this: a task that belongs to no service is never protected, nor
/// scaled in.
const REFUSED: Duration = Duration::from_secs(300);

/// What a task says of itself, as far as it is of use here.
#[derive(Debug, Deserialize)]
pub(super) struct Task {
    #[serde(rename = "TaskARN")]
    pub(super) arn: Option<String>,
    #[serde(rename = "LaunchType")]
    launch_type: Option<String>,
    #[serde(rename = "CapacityProviderName")]
    pub(super) capacity_provider: Option<String>,
    #[serde(rename = "AvailabilityZone")]
    pub(super) zone: Option<String>,
    #[serde(rename = "PullStartedAt")]
    pub(super) pull_started_at: Option<Timestamp>,
}

impl Task {
    pub(super) fn is_fargate(&self) -> bool {
        let begins = |name: &Option<String>| name.as_deref().is_some_and(|name| name.starts_with("FARGATE"));
        begins(&self.launch_type) || begins(&self.capacity_provider)
    }
}

/// The task this runs in, if it runs in one.
pub(super) async fn task(http: &reqwest::Client, environment: &Environment) -> Option<Task> {
    let base = environment("ECS_CONTAINER_METADATA_URI_V4")?;
    let url = format!("{}/task", base.trim_end_matches('/'));
    let asked = async { http.get(url).send().await?.error_for_status()?.json().await };
    match asked.await {
        Ok(task) => Some(task),
        Err(error) => {
            tracing::warn!(%error, "the task does not say what it is");
            None
        }
    }
}

/// Keeps ECS from stopping this task while it executes runs.
#[derive(Debug)]
pub(crate) struct Protection {
    http: reqwest::Client,
    url: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    until: Option<Instant>,
    wanted: Option<Instant>,
    refused: Option<Instant>,
}

impl Protection {
    pub(super) fn new(http: reqwest::Client, agent: &str) -> Self {
        Self {
            http,
            url: format!("{}/task-protection/v1/state", agent.trim_end_matches('/')),
            state: Mutex::default(),
        }
    }

    /// Protects the task, or renews that. Called before each claim and while runs execute; mostly there is nothing to do.
    pub(crate) async fn keep(&self) {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        state.wanted = Some(now);
        let lasts = state.until.is_some_and(|until| until > now + RENEW);
        let refused = state.refused.is_some_and(|at| now.duration_since(at) < REFUSED);
        if lasts || refused {
            return;
        }
        let minutes = TERM.as_secs() / 60;
        let wish = json!({ "ProtectionEnabled": true, "ExpiresInMinutes": minutes });
        match self.put(&wish).await {
            Ok(()) => {
                state.until = Some(now + TERM);
                state.refused = None;
            }
            Err(why) => {
                tracing::warn!(
                    why,
                    "this task is not protected against scale-in; if it is stopped, it drains"
                );
                state.refused = Some(now);
            }
        }
    }

    /// Lets ECS stop the task again, if no run was claimed for a while. Called while none executes.
    pub(crate) async fn rest(&self) {
        let mut state = self.state.lock().await;
        let idle = state.wanted.is_none_or(|at| at.elapsed() >= IDLE);
        if idle && state.until.is_some() {
            self.drop_it(&mut state).await;
        }
    }

    /// The worker has ended its runs.
    pub(crate) async fn end(&self) {
        let mut state = self.state.lock().await;
        if state.until.is_some() {
            self.drop_it(&mut state).await;
        }
    }

    async fn drop_it(&self, state: &mut State) {
        match self.put(&json!({ "ProtectionEnabled": false })).await {
            Ok(()) => state.until = None,
            Err(why) => tracing::debug!(why, "protection is not released yet: it runs out by itself"),
        }
    }

    async fn put(&self, wish: &serde_json::Value) -> Result<(), String> {
        let answer = self.http.put(&self.url).json(wish).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let said = answer.text().await.unwrap_or_default();
        Err(format!(
            "{status}: {}",
            said.chars().take(300).collect::<String>()
        ))
    }
}
