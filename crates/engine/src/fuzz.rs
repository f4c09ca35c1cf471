//! Fuzz targets of the engine: what holds for any bytes. Compiled for tests and for `fuzz/` only.
//!
//! Each target panics when a promise is broken. The tests at the end drive them with damaged seeds; `fuzz/` has the
//! same functions under libFuzzer.

mod flow;
mod request;
mod template;

pub use crate::model::fuzz::stream;
pub use flow::flow;
pub use request::request;
pub use template::{mustache, pattern, template};

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::component::Kind;
use crate::model::ModelSettings;
use crate::outbound::{Http, OutboundSettings};
use crate::problem::{MAX_PROBLEMS, Problem};
use crate::{NodeOutput, Outcome, Plan, Progress, Request, RunError, Services, execute};

/// A run of a small flow without models computes for a few milliseconds.
const LONGEST_RUN: std::time::Duration = std::time::Duration::from_secs(4);

/// Problems are some, few and short, and each names a place of `document`, or one that is missing there.
fn assert_places(problems: &[Problem], document: Option<&Json>) {
    assert!(!problems.is_empty() && problems.len() <= MAX_PROBLEMS);
    for problem in problems {
        assert!(
            !problem.detail.is_empty() && problem.detail.len() < 4_000,
            "{problem:?}"
        );
        assert!(problem.pointer.len() < 4_000, "{problem:?}");
        let (parent, _) = problem.pointer.rsplit_once('/').unwrap_or_default();
        // What is cut says so.
        let cut = problem.pointer.ends_with('…');
        let found = document.is_none_or(|document| cut || document.pointer(parent).is_some());
        assert!(
            found,
            "nothing of the document is at {:?}: {}",
            problem.pointer, problem.detail
        );
    }
}

/// Whether a run of it would call a model.
fn calls_models(plan: &Plan) -> bool {
    plan.nodes
        .iter()
        .any(|node| matches!(node.kind, Ok(Kind::LanguageModel | Kind::OpenAiModel)))
}

/// Runs a plan that calls no models; what finished, by node id.
fn run(
    plan: &Arc<Plan>,
    request: &Request,
    resume: BTreeMap<String, NodeOutput>,
) -> (Result<Outcome, RunError>, BTreeMap<String, NodeOutput>) {
    static SERVICES: LazyLock<Services> = LazyLock::new(|| Services {
        memory: None,
        knowledge: None,
        http: Http::new().unwrap_or_else(|error| panic!("{error}")),
        environment: Arc::new(|_: &str| None),
        clock: Arc::new(|| jiff::Timestamp::UNIX_EPOCH),
        model: Arc::new(ModelSettings::default()),
        files: crate::files::none(),
        outbound: Arc::new(OutboundSettings::default()),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    let finished = Arc::new(Mutex::new(BTreeMap::new()));
    let record = Arc::clone(&finished);
    let on_progress = Arc::new(move |progress: Progress| {
        if let Progress::NodeFinished { node, output, .. } = progress {
            let again = record
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(node.id.clone(), NodeOutput::clone(&output));
            assert!(again.is_none(), "a node finished twice");
        }
    });
    let running = execute(
        plan,
        request,
        resume,
        "run-1",
        &SERVICES,
        on_progress,
        CancellationToken::new(),
    );
    let result = runtime.block_on(async { tokio::time::timeout(LONGEST_RUN, running).await });
    let result = result.unwrap_or_else(|_| panic!("the run does not end"));
    let finished = std::mem::take(&mut *finished.lock().unwrap_or_else(PoisonError::into_inner));
    (result, finished)
}

/// What holds for the end of any run: the schedule is not stuck, and resuming repeats the result without the work.
fn assert_run(plan: &Arc<Plan>, request: &Request) {
    let (result, finished) = run(plan, request, BTreeMap::new());
    match result {
        Err(RunError::Deadlock(nodes)) => panic!("the schedule is stuck at {nodes:?}"),
        Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
        Ok(outcome) => {
            assert!(outcome.nodes_run as usize <= plan.nodes() && outcome.nodes_reused == 0);
            assert!(outcome.outputs.keys().all(|id| plan.find(id).is_some()));
            let done = finished.len();
            let (again, _) = run(plan, request, finished);
            let again = again.unwrap_or_else(|error| panic!("cannot be resumed: {error}"));
            assert_eq!(
                (&again.output, &again.outputs),
                (&outcome.output, &outcome.outputs)
            );
            assert_eq!(
                (
                    outcome.nodes_run as usize,
                    again.nodes_run,
                    again.nodes_reused as usize
                ),
                (done, 0, done)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use flowfleet_mutate::{Driver, example_flows, starter_flows};
    use serde_json::json;

    use super::*;

    /// The examples; the same with handles as text beside the edge's data; and the same inside a group.
    fn flow_seeds() -> Vec<Vec<u8>> {
        let mut seeds = example_flows();
        for example in example_flows() {
            let mut document: Json = serde_json::from_slice(&example).unwrap();
            let inner = document["data"].clone();
            for edge in document["data"]["edges"].as_array_mut().unwrap() {
                let data = edge.as_object_mut().unwrap().remove("data").unwrap();
                for side in ["sourceHandle", "targetHandle"] {
                    edge[side] = data[side].to_string().replace('"', "œ").into();
                }
            }
            seeds.push(serde_json::to_vec(&document).unwrap());
            let group = json!({"id": "Group-g", "type": "genericNode", "data": {"id": "Group-g", "type": "GroupNode",
                "node": {"display_name": "Group", "template": {}, "outputs": [], "flow": {"data": inner}}}});
            seeds.push(serde_json::to_vec(&json!({"data": {"nodes": [group], "edges": []}})).unwrap());
        }
        seeds
    }

    #[test]
    fn flows() {
        for seed in flow_seeds() {
            crate::compile(&seed, &crate::CompileLimits::default()).unwrap();
        }
        Driver::new("flow").seeds(flow_seeds()).cases(1_000).run(flow);
    }

    /// Large documents with code: fewer of them.
    #[test]
    fn starters() {
        Driver::new("flow").seeds(starter_flows()).cases(60).run(flow);
    }

    #[test]
    fn requests() {
        Driver::new("request")
            .seeds(request::SEEDS)
            .cases(20_000)
            .run(request);
    }

    #[test]
    fn streams() {
        Driver::new("stream")
            .seeds(crate::model::fuzz::SEEDS)
            .cases(10_000)
            .run(stream);
    }

    #[test]
    fn templates() {
        Driver::new("template")
            .seeds(template::SEEDS)
            .cases(20_000)
            .run(template);
        Driver::new("mustache")
            .seeds(template::SEEDS)
            .cases(20_000)
            .run(mustache);
    }

    #[test]
    fn patterns() {
        Driver::new("pattern")
            .seeds(template::PATTERNS)
            .cases(1_000)
            .run(pattern);
    }
}
