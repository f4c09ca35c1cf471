//! Runs flows and records what they report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flowfleet_engine::{
    CompileLimits, Files, Http, Memory, ModelSettings, NodeOutput, OutboundSettings, Outcome, Plan, Progress,
    Request, RunError, Services, compile, execute, no_files,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::draw::Draw;

pub(crate) fn plan(draw: &Draw) -> Arc<Plan> {
    Arc::new(compile(&draw.bytes(), &CompileLimits::default()).unwrap_or_else(|e| panic!("{e}: {e:?}")))
}

/// What a run did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) result: Result<Outcome, RunError>,
    /// Ids in the order in which nodes started.
    pub(crate) started: Vec<String>,
    pub(crate) finished: BTreeMap<String, NodeOutput>,
    pub(crate) reused: Vec<String>,
    pub(crate) skipped: Vec<String>,
    pub(crate) failed: Vec<String>,
    pub(crate) tokens: String,
}

impl Ran {
    pub(crate) fn text(&self) -> &str {
        self.result.as_ref().unwrap().output.as_str().unwrap()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Runner {
    pub(crate) request: Request,
    pub(crate) resume: BTreeMap<String, NodeOutput>,
    pub(crate) cancel: CancellationToken,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) model_settings: ModelSettings,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) memory: Option<Arc<dyn Memory>>,
    pub(crate) run_id: String,
    pub(crate) outbound: OutboundSettings,
    http: Http,
}

impl Runner {
    pub(crate) fn new(input: &str) -> Self {
        Self {
            request: Request {
                input: json!(input),
                ..Request::default()
            },
            resume: BTreeMap::new(),
            cancel: CancellationToken::new(),
            environment: BTreeMap::new(),
            model_settings: ModelSettings::default(),
            files: no_files(),
            memory: None,
            run_id: "run-1".to_owned(),
            outbound: OutboundSettings::default(),
            http: Http::new().unwrap(),
        }
    }

    pub(crate) fn model(mut self, base_url: &str) -> Self {
        self.environment
            .insert("OPENAI_BASE_URL".to_owned(), base_url.to_owned());
        self.environment
            .insert("OPENAI_API_KEY".to_owned(), "sk-test".to_owned());
        self
    }

    pub(crate) async fn run(&self, plan: &Arc<Plan>) -> Ran {
        self.run_with(plan, |_| ()).await
    }

    /// `watch` sees everything as it happens.
    pub(crate) async fn run_with(
        &self,
        plan: &Arc<Plan>,
        watch: impl Fn(&Progress) + Send + Sync + 'static,
    ) -> Ran {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let environment = self.environment.clone();
        let services = Services {
            memory: self.memory.clone(),
            knowledge: None,
            http: self.http.clone(),
            environment: Arc::new(move |name: &str| environment.get(name).cloned()),
            clock: Arc::new(|| "2026-11-21T20:48:03Z".parse().unwrap()),
            model: Arc::new(self.model_settings.clone()),
            files: Arc::clone(&self.files),
            outbound: Arc::new(self.outbound.clone()),
        };
        let on_progress = Arc::new(move |progress: Progress| {
            watch(&progress);
            record.lock().unwrap().push(progress);
        });
        let result = execute(
            plan,
            &self.request,
            self.resume.clone(),
            &self.run_id,
            &services,
            on_progress,
            self.cancel.clone(),
        )
        .await;
        let mut ran = Ran {
            result,
            started: Vec::new(),
            finished: BTreeMap::new(),
            reused: Vec::new(),
            skipped: Vec::new(),
            failed: Vec::new(),
            tokens: String::new(),
        };
        for progress in seen.lock().unwrap().drain(..) {
            match progress {
                Progress::NodeStarted { node } => ran.started.push(node.id.clone()),
                Progress::Token { text, .. } => ran.tokens.push_str(&text),
                Progress::NodeFinished {
                    node, output, reused, ..
                } => {
                    if reused {
                        ran.reused.push(node.id.clone());
                    }
                    assert!(
                        ran.finished
                            .insert(node.id.clone(), NodeOutput::clone(&output))
                            .is_none(),
                        "{} ended twice",
                        node.id
                    );
                }
                Progress::NodeFailed { node, .. } => ran.failed.push(node.id.clone()),
                Progress::NodeSkipped { node } => ran.skipped.push(node.id.clone()),
            }
        }
        ran
    }
}
