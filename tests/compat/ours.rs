//! The flows through this engine, on this thread.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flowfleet_engine::{
    CompileLimits, EngineKind, FileError, Files, Http, InputType, Knowledge, Memory, ModelSettings,
    NodeOutput, OutboundSettings, OutputType, Plan, Progress, Request, RunError, Services, Value, compile,
    execute,
};
use flowfleet_mock_model::Handle;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::case::{Case, Ended, Failed};

/// Runs that the time is taken of.
const TIMED: u32 = 20;

/// How a flow ran, or why it did not.
#[derive(Debug)]
pub(crate) enum Ours {
    Ran(Ended),
    /// What is missing for it to run natively.
    NotNative(String),
}

pub(crate) fn plan(flow: &Json) -> Result<Arc<Plan>, String> {
    match compile(flow.to_string().as_bytes(), &CompileLimits::default()) {
        Ok(plan) if plan.engine() == EngineKind::Native => Ok(Arc::new(plan)),
        Ok(plan) => {
            let reasons: Vec<&str> = plan
                .unsupported()
                .iter()
                .map(|node| node.reason.as_str())
                .collect();
            Err(reasons.join("; "))
        }
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn run(case: &Case, model: &Handle, pages: SocketAddr, folder: &Path) -> Ours {
    run_as(case, "run", model, pages, folder, None)
}

/// A run of this id, with what others of its tenant know.
pub(crate) fn run_as(
    case: &Case,
    run_id: &str,
    model: &Handle,
    pages: SocketAddr,
    folder: &Path,
    knowledge: Option<Arc<dyn Knowledge>>,
) -> Ours {
    let plan = match plan(&case.flow) {
        Ok(plan) => plan,
        Err(reason) => return Ours::NotNative(reason),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let services = Services {
        knowledge,
        ..services(model, pages, folder)
    };
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let hear = Arc::new(move |progress| hears.lock().unwrap().push(progress));
    let outputs = runtime.block_on(once(&plan, case, run_id, &services, hear));
    let asked = model.bodies();
    let before = cpu_ns();
    for _ in 0..if case.nodes { 0 } else { TIMED } {
        drop(runtime.block_on(once(&plan, case, run_id, &services, Arc::new(|_| {}))));
    }
    let cpu_ms = (cpu_ns() - before) / f64::from(TIMED) / 1e6;
    let (mut nodes, mut order) = (BTreeMap::new(), Vec::new());
    for progress in &*heard.lock().unwrap() {
        match progress {
            Progress::NodeStarted { node } => order.push(node.id.clone()),
            Progress::NodeFinished { node, output, .. } => {
                nodes.insert(node.id.clone(), typed_values(output));
            }
            _ => {}
        }
    }
    Ours::Ran(Ended {
        outputs,
        nodes,
        order,
        asked,
        cpu_ms,
    })
}

/// As `reference.py` tells of values.
fn typed_values(output: &NodeOutput) -> Json {
    let typed = |value: &Value| match value {
        Value::Message(message) => json!(["message", {
            "text": message.text, "sender": message.sender, "sender_name": message.sender_name, "files": message.files,
        }]),
        Value::Data(data) => json!(["data", data]),
        // pandas writes rows without columns as none.
        Value::Table(rows) if rows.iter().all(serde_json::Map::is_empty) => json!(["table", []]),
        Value::Table(rows) => json!(["table", rows]),
        Value::Json(value) => json!(["json", value]),
    };
    let values = output.values.iter();
    // A tool is made for agents, not to be looked at.
    let values = values.filter(|(name, _)| *name != "component_as_tool");
    values.map(|(name, value)| (name.clone(), typed(value))).collect()
}

/// One run that is part of a conversation.
pub(crate) fn in_conversation(
    case: &Case,
    model: &Handle,
    pages: SocketAddr,
    folder: &Path,
    run_id: &str,
    memory: Arc<dyn Memory>,
) -> Ended {
    let plan = plan(&case.flow).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let services = Services {
        memory: Some(memory),
        ..services(model, pages, folder)
    };
    let outputs = runtime.block_on(once(&plan, case, run_id, &services, Arc::new(|_| {})));
    Ended {
        outputs,
        nodes: BTreeMap::new(),
        order: Vec::new(),
        asked: model.bodies(),
        cpu_ms: 0.0,
    }
}

async fn once(
    plan: &Arc<Plan>,
    case: &Case,
    run_id: &str,
    services: &Services,
    hear: Arc<dyn Fn(Progress) + Send + Sync>,
) -> Result<Json, Failed> {
    let (resume, cancel) = (BTreeMap::new(), CancellationToken::new());
    execute(plan, &request(case), resume, run_id, services, hear, cancel)
        .await
        .map(|outcome| json!(outcome.outputs))
        .map_err(|error| failed(&error))
}

pub(crate) fn request(case: &Case) -> Request {
    Request {
        input: json!(case.input),
        input_type: match case.input_type {
            "chat" => InputType::Chat,
            "text" => InputType::Text,
            _ => InputType::Any,
        },
        output_type: match case.nodes {
            true => OutputType::Debug,
            false => OutputType::Chat,
        },
        tweaks: case.tweaks.clone(),
        ..Request::default()
    }
}

pub(crate) fn failed(error: &RunError) -> Failed {
    Failed {
        nodes: match error {
            // Fields that are missing are all named before anything runs.
            RunError::Request(error) => error
                .problems
                .iter()
                .filter_map(|problem| problem.node.clone())
                .collect(),
            error => error.node().map(str::to_owned).into_iter().collect(),
        },
        text: error.to_string(),
    }
}

pub(crate) fn services(model: &Handle, pages: SocketAddr, folder: &Path) -> Services {
    let base = model.base_url();
    Services {
        http: Http::new().unwrap(),
        environment: Arc::new(move |name: &str| match name {
            "OPENAI_BASE_URL" => Some(base.clone()),
            "OPENAI_API_KEY" => Some("sk-test".to_owned()),
            _ => None,
        }),
        clock: Arc::new(jiff::Timestamp::now),
        model: Arc::new(ModelSettings::default()),
        outbound: Arc::new(OutboundSettings {
            hosts: vec![pages.to_string().parse().unwrap()],
            web_search: format!("http://{pages}/html/"),
            news_search: format!("http://{pages}/rss"),
            arxiv: format!("http://{pages}/api/query"),
        }),
        memory: None,
        knowledge: None,
        files: Arc::new(Folder(folder.to_owned())),
    }
}

/// The files beside the flows.
#[derive(Debug)]
struct Folder(PathBuf);

impl Files for Folder {
    fn read<'f>(&'f self, path: &'f str, _: usize) -> BoxFuture<'f, Result<Bytes, FileError>> {
        let read = std::fs::read(self.0.join(path)).map(Bytes::from);
        async move { read.map_err(|_| FileError::Missing) }.boxed()
    }

    fn write<'f>(&'f self, path: &'f str, bytes: Bytes) -> BoxFuture<'f, Result<String, FileError>> {
        let written = std::fs::write(self.0.join(path), &bytes);
        async move {
            let written = written.map_err(|error| FileError::Away(error.to_string()));
            written.map(|()| path.to_owned())
        }
        .boxed()
    }
}

/// What this thread has used of a processor.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
