//! The flows through this engine, on this thread.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flowfleet_engine::{
    CompileLimits, EngineKind, FileError, Files, Http, ModelSettings, OutboundSettings, Plan, Request,
    Services, compile, execute,
};
use flowfleet_mock_model::Handle;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::cases::Case;
use crate::reference::Ended;

/// Runs that the time is taken of.
const TIMED: u32 = 20;

/// How a flow ran, or why it did not.
#[derive(Debug)]
pub(crate) enum Ours {
    Ran(Ended),
    /// It needs Python, or is refused.
    NotNative(String),
}

pub(crate) fn run(case: &Case, model: &Handle, pages: SocketAddr, folder: &Path) -> Ours {
    let plan = match compile(case.flow.to_string().as_bytes(), &CompileLimits::default()) {
        Ok(plan) if plan.engine() == EngineKind::Native => Arc::new(plan),
        Ok(plan) => {
            let reasons: Vec<&str> = plan
                .unsupported()
                .iter()
                .map(|node| node.reason.as_str())
                .collect();
            return Ours::NotNative(reasons.join("; "));
        }
        Err(error) => return Ours::NotNative(error.to_string()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let services = services(model, pages, folder);
    let ended = runtime.block_on(once(&plan, case, &services));
    let asked = model.bodies();
    let before = cpu_ns();
    for _ in 0..TIMED {
        drop(runtime.block_on(once(&plan, case, &services)));
    }
    Ours::Ran(Ended {
        outputs: ended,
        asked,
        cpu_ms: (cpu_ns() - before) / f64::from(TIMED) / 1e6,
    })
}

async fn once(plan: &Arc<Plan>, case: &Case, services: &Services) -> Result<Json, String> {
    let request = Request {
        input: json!(case.input),
        ..Request::default()
    };
    let (resume, cancel) = (BTreeMap::new(), CancellationToken::new());
    let quiet = Arc::new(|_| ());
    execute(plan, &request, resume, "run", services, quiet, cancel)
        .await
        .map(|outcome| json!(outcome.outputs))
        .map_err(|error| error.to_string())
}

fn services(model: &Handle, pages: SocketAddr, folder: &Path) -> Services {
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
