//! Flowfleet's engine as the worker calls it, on a thread whose CPU the kernel counts apart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use flowfleet_engine::{
    CompileLimits, Http, ModelSettings, Plan, Progress, Request, Services, compile as plan,
};
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What one run cost in one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Cost {
    pub(super) cpu_us: f64,
    pub(super) wall_us: f64,
}

/// CPU time of the calling thread in nanoseconds, user and system.
fn thread_cpu_ns() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")
        .context("this kernel does not count the CPU of threads (CONFIG_SCHED_INFO)")?;
    let first = text.split_whitespace().next().context("an empty schedstat")?;
    Ok(first.parse()?)
}

/// Executes the flow so many times, `at_once` side by side, after a tenth as many that are not counted.
pub(super) async fn measure(
    flow: &Value,
    base_url: Option<String>,
    runs: usize,
    at_once: usize,
) -> anyhow::Result<Cost> {
    let document = serde_json::to_vec(flow)?;
    let (answer, answered) = tokio::sync::oneshot::channel();
    // A thread and a runtime of its own: everything a run does happens on this thread and nothing else does.
    std::thread::Builder::new().name("engine".into()).spawn(move || {
        let _ = answer.send(on_this_thread(&document, base_url, runs, at_once));
    })?;
    answered.await.context("the thread of the engine is gone")?
}

fn on_this_thread(
    document: &[u8],
    base_url: Option<String>,
    runs: usize,
    at_once: usize,
) -> anyhow::Result<Cost> {
    let plan = Arc::new(plan(document, &CompileLimits::default())?);
    let services = services(base_url)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        all(&plan, &services, runs / 10, at_once).await?;
        let (began, before) = (Instant::now(), thread_cpu_ns()?);
        all(&plan, &services, runs, at_once).await?;
        let per_run = |total: f64| total / 1000.0 / runs as f64;
        Ok(Cost {
            cpu_us: per_run((thread_cpu_ns()? - before) as f64),
            wall_us: per_run(began.elapsed().as_nanos() as f64),
        })
    })
}

fn services(base_url: Option<String>) -> anyhow::Result<Services> {
    Ok(Services {
        memory: None,
        knowledge: None,
        http: Http::new()?,
        environment: Arc::new(move |name: &str| match name {
            "OPENAI_BASE_URL" => base_url.clone(),
            "OPENAI_API_KEY" => Some("none".to_owned()),
            _ => None,
        }),
        clock: Arc::new(jiff::Timestamp::now),
        model: Arc::new(ModelSettings::from_env()?),
        files: flowfleet_engine::no_files(),
        outbound: Arc::default(),
    })
}

async fn all(plan: &Arc<Plan>, services: &Services, runs: usize, at_once: usize) -> anyhow::Result<()> {
    let mut going = futures::stream::iter(0..runs)
        .map(|number| one(plan, services, number))
        .buffer_unordered(at_once);
    while let Some(ended) = going.next().await {
        ended?;
    }
    Ok(())
}

/// As the worker does it, and what it reports goes where the worker's goes: into a channel.
async fn one(plan: &Arc<Plan>, services: &Services, number: usize) -> anyhow::Result<()> {
    let input = format!("hello {number}");
    let request = Request {
        input: json!(input),
        ..Request::default()
    };
    let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel::<Progress>();
    let reporter = Arc::new(move |progress| {
        let _ = sender.send(progress);
    });
    let outcome = flowfleet_engine::execute(
        plan,
        &request,
        BTreeMap::new(),
        "0190a0b0-0000-7000-8000-000000000000",
        services,
        reporter,
        CancellationToken::new(),
    )
    .await?;
    ensure!(
        outcome.output.as_str().is_some_and(|text| text.contains(&input)),
        "run {number} answered {}",
        outcome.output
    );
    let mut finished = 0;
    while let Some(report) = reports.recv().await {
        finished += usize::from(matches!(report, Progress::NodeFinished { .. }));
    }
    ensure!(
        finished == plan.nodes(),
        "{finished} of {} nodes finished",
        plan.nodes()
    );
    Ok(())
}

/// CPU microseconds of compiling a flow into a plan.
pub(super) fn compile(flow: &Value) -> anyhow::Result<f64> {
    const TIMES: u32 = 200;
    let document = serde_json::to_vec(flow)?;
    let compiled = || plan(&document, &CompileLimits::default());
    for _ in 0..TIMES / 10 {
        compiled()?;
    }
    let before = thread_cpu_ns()?;
    for _ in 0..TIMES {
        std::hint::black_box(compiled()?);
    }
    Ok((thread_cpu_ns()? - before) as f64 / 1000.0 / f64::from(TIMES))
}
