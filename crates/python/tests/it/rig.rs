//! One host, one mock model, and what runs on them report.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_engine::{CompileLimits, Outcome, Plan, Progress, Request, RunError, Services, compile};
use flowfleet_mock_model as mock;
use flowfleet_python::{Host, Memory, Settings, State, Work};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

pub(crate) const DEADLINE: Duration = Duration::from_secs(200);

pub(crate) fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"))
}

/// Where the real lfx is.
pub(crate) fn lfx() -> PathBuf {
    std::env::var_os("FLOWFLEET_TEST_LFX")
        .map_or_else(|| cache().join("flowfleet/bench/lfx-1.13.0"), PathBuf::from)
}

pub(crate) struct Rig {
    pub(crate) host: Host,
    pub(crate) mock: mock::Handle,
    pub(crate) services: Services,
}

/// What one run did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Result<Outcome, RunError>,
    pub(crate) progress: Vec<Progress>,
}

impl Ran {
    pub(crate) fn output(&self) -> &Json {
        match &self.outcome {
            Ok(outcome) => &outcome.output,
            Err(error) => panic!("the run failed: {error} [{}]", error.code()),
        }
    }

    /// Code and message of the error.
    pub(crate) fn error(&self) -> (&'static str, String) {
        let error = self.outcome.as_ref().expect_err("the run fails");
        (error.code(), error.to_string())
    }

    pub(crate) fn tokens(&self) -> String {
        let text = |progress: &Progress| match progress {
            Progress::Token { text, .. } => Some(text.clone()),
            _ => None,
        };
        self.progress.iter().filter_map(text).collect()
    }

    /// `started X`, `finished X`, `failed X`, in order.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let word = |progress: &Progress| match progress {
            Progress::NodeStarted { node } => Some(format!("started {}", node.id)),
            Progress::NodeFinished { node, .. } => Some(format!("finished {}", node.id)),
            Progress::NodeFailed { node, .. } => Some(format!("failed {}", node.id)),
            _ => None,
        };
        self.progress.iter().filter_map(word).collect()
    }
}

/// Chat memory of a test: what it gives, and what it was told.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) history: Vec<Json>,
    pub(crate) messages: Mutex<Vec<Json>>,
}

#[async_trait]
impl Memory for Kept {
    async fn history(&self, _session_id: &str) -> Vec<Json> {
        self.history.clone()
    }

    fn message(&self, message: Json) {
        self.messages.lock().unwrap().push(message);
    }

    fn deleted(&self, ids: Vec<String>) {
        let gone = |message: &Json| ids.iter().any(|id| message["id"] == id.as_str());
        self.messages.lock().unwrap().retain(|message| !gone(message));
    }
}

pub(crate) fn plan(document: &Json) -> Plan {
    compile(document.to_string().as_bytes(), &CompileLimits::default()).unwrap()
}

pub(crate) fn request(input: &str) -> Request {
    Request {
        input: input.into(),
        ..Request::default()
    }
}

impl Rig {
    pub(crate) async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            enabled: true,
            venv: lfx(),
            children: 2,
            cancel_grace_s: 1.0,
            // The mock model is on this machine.
            environment: vec!["LANGFLOW_SSRF_PROTECTION_ENABLED=false".to_owned()],
            ..Settings::default()
        };
        change(&mut settings);
        let mock = mock::spawn(mock::Config::default()).await.unwrap();
        let base = mock.base_url().replace("127.0.0.1", "127.1");
        let services = Services {
            environment: Arc::new(move |name: &str| match name {
                "OPENAI_BASE_URL" => Some(base.clone()),
                "OPENAI_API_KEY" => Some("operators-key".to_owned()),
                "FLOWFLEET_STORE_URL" | "AWS_SECRET_ACCESS_KEY" | "DATABASE_URL" => Some("secret".to_owned()),
                _ => None,
            }),
            ..Services::from_env().unwrap()
        };
        let host = Host::start(settings).unwrap();
        match tokio::time::timeout(DEADLINE, host.started()).await.unwrap() {
            State::Ready(ready) => assert_eq!(ready.threads, Vec::<String>::new(), "no thread before a fork"),
            other => panic!("{other:?}: tests/lfx.sh installs what this needs"),
        }
        Self { host, mock, services }
    }

    pub(crate) async fn run(&self, document: &Json, request: &Request) -> Ran {
        self.run_in(
            "default",
            "run",
            document,
            request,
            &Kept::default(),
            CancellationToken::new(),
        )
        .await
    }

    pub(crate) async fn run_in(
        &self,
        realm: &str,
        run_id: &str,
        document: &Json,
        request: &Request,
        memory: &dyn Memory,
        cancel: CancellationToken,
    ) -> Ran {
        let plan = plan(document);
        let text = serde_json::to_vec_pretty(document).unwrap();
        let progress = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&progress);
        let on_progress = Arc::new(move |progress: Progress| heard.lock().unwrap().push(progress));
        let work = Work {
            plan: &plan,
            document: &text,
            request,
            run_id,
            realm,
            services: &self.services,
            memory,
        };
        let execution = self.host.execute(work, on_progress, cancel);
        let outcome = tokio::time::timeout(DEADLINE, execution)
            .await
            .expect("a run ends");
        let progress = std::mem::take(&mut *progress.lock().unwrap());
        Ran { outcome, progress }
    }
}
