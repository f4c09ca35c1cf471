//! The flows through the Python host, as a worker uses it.

use std::sync::Arc;
use std::time::Duration;

use flowfleet_engine::{CompileLimits, Memory, Services, compile};
use flowfleet_python::{Host, Settings, State, Work};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::case::{Case, Ended};
use crate::stage::Stage;
use crate::starters::FILES;
use crate::{ours, wheels};

const DEADLINE: Duration = Duration::from_secs(200);

#[derive(Debug)]
pub(crate) struct Python {
    host: Host,
}

impl Python {
    /// Begins to load lfx.
    pub(crate) fn start(stage: &Stage) -> Self {
        let settings = Settings {
            enabled: true,
            venv: wheels::lfx(),
            children: 1,
            environment: [
                "LANGFLOW_SSRF_PROTECTION_ENABLED=false",
                "LANGFLOW_RESTRICT_LOCAL_FILE_ACCESS=false",
                "LANGFLOW_USER_AGENT=Langflow",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..Settings::default()
        };
        let _entered = stage.servers.enter();
        Self {
            host: Host::start(settings).unwrap(),
        }
    }

    /// Runs a flow, or says why it cannot be run.
    pub(crate) fn run(
        &self,
        stage: &Stage,
        case: &Case,
        run_id: &str,
        memory: Option<Arc<dyn Memory>>,
    ) -> Result<Ended, String> {
        // A child's folder is not the flow's.
        let folder = stage.folder.path().display().to_string();
        let mut flow = case.flow.to_string();
        for (name, _) in FILES {
            flow = flow.replace(
                &json!([name]).to_string(),
                &json!([format!("{folder}/{name}")]).to_string(),
            );
        }
        let plan = compile(flow.as_bytes(), &CompileLimits::default()).map_err(|error| error.to_string())?;
        let model = stage.model(case);
        // lfx takes 127.0.0.1 for something to replace.
        let base = format!("http://127.1:{}/v1", model.addr().port());
        let services = Services {
            environment: Arc::new(move |name: &str| match name {
                "OPENAI_BASE_URL" => Some(base.clone()),
                "OPENAI_API_KEY" => Some("sk-test".to_owned()),
                _ => None,
            }),
            memory,
            ..ours::services(&model, stage.pages, stage.folder.path())
        };
        let request = ours::request(case);
        let work = Work {
            plan: &plan,
            document: flow.as_bytes(),
            request: &request,
            run_id,
            realm: "default",
            services: &services,
        };
        let ran = stage.servers.block_on(async {
            match tokio::time::timeout(DEADLINE, self.host.started()).await {
                Ok(State::Ready(_)) => {}
                other => panic!("{other:?}: tests/lfx.sh installs what this needs"),
            }
            let execution = self
                .host
                .execute(work, Arc::new(|_| {}), CancellationToken::new());
            tokio::time::timeout(DEADLINE, execution)
                .await
                .expect("a run ends")
        });
        let within = |value: Json| -> Json {
            serde_json::from_str(&value.to_string().replace(&format!("{folder}/"), "")).unwrap()
        };
        Ok(Ended {
            outputs: ran
                .map(|outcome| within(json!(outcome.outputs)))
                .map_err(|error| ours::failed(&error)),
            nodes: Default::default(),
            order: Vec::new(),
            asked: model.bodies().into_iter().map(within).collect(),
            cpu_ms: 0.0,
        })
    }
}
