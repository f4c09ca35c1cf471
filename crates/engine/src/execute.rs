//! The driver: awaits what the schedule says is ready, with as much parallelism as the graph allows.
//!
//! All nodes of a run share one task: they wait for models far more than they compute. A node that fails for good ends
//! the run at once. After a failure that another attempt may mend, nodes already running may finish first: their
//! outputs are reported, so the next attempt does not pay for them again.

mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tracing::Instrument;

use crate::compile::Body;
use crate::component::{Kind, NodeCall, NodeContext, NodeError, NodeOutput, RunContext};
use crate::components;
use crate::graph::NodeIdx;
use crate::hold::{Control, Hold};
use crate::langflow::{self, Made};
use crate::metrics::NODES_REUSED_TOTAL;
use crate::outcome::{self, Counts};
use crate::plan::{NodeInfo, Plan};
use crate::prepare::Prepared;
use crate::request::Request;
use crate::run::{Outcome, Progress, RunError, Services};
use crate::schedule::Schedule;
use crate::variables;

/// Nodes of one run that run at once; more wait their turn.
const MAX_PARALLEL: usize = 64;

/// Runs a flow. `resume` holds outputs of nodes that an earlier attempt finished: they are not executed again.
/// Everything that happens is reported to `on_progress` in order, from this task. `control` ends it early.
pub async fn execute(
    plan: &Arc<Plan>,
    request: &Request,
    resume: BTreeMap<String, NodeOutput>,
    run_id: &str,
    services: &Services,
    on_progress: Arc<dyn Fn(Progress) + Send + Sync>,
    control: impl Into<Control>,
) -> Result<Outcome, RunError> {
    if !plan.unsupported().is_empty() {
        return Err(RunError::Unsupported(plan.unsupported().to_vec()));
    }
    let Control { cancel, hold } = control.into();
    let prepared = Arc::new(Prepared::new(plan, request, run_id)?);
    // Whatever a component left running ends with the run, however the run ends.
    let token = cancel.child_token();
    let _stop = token.clone().drop_guard();
    let context = Arc::new(RunContext {
        http: services.http.clone(),
        environment: Arc::clone(&services.environment),
        clock: Arc::clone(&services.clock),
        model: Arc::clone(&services.model),
        files: Arc::clone(&services.files),
        outbound: Arc::clone(&services.outbound),
        memory: services.memory.clone(),
        knowledge: services.knowledge.clone(),
        voices: Arc::default(),
        place: Arc::default(),
        run_id: run_id.to_owned(),
        session_id: prepared.session_id.clone(),
        flow_id: flow_id(plan, request).to_owned(),
        variables: variables::lookup(&request.variables, &services.environment),
        on_progress,
        cancel: token,
    });
    let run = Run {
        plan: Arc::clone(plan),
        prepared: Arc::clone(&prepared),
        shared: Arc::new(Mutex::new(Shared {
            resume,
            counts: Counts::default(),
        })),
        context,
        hold,
    };
    let mut driver = Driver::new(&run, None);
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(RunError::Cancelled),
        result = driver.drive() => result?,
    }
    let ended = driver.ended;
    let langflow = request.langflow_id.as_deref().map(|flow_id| {
        let made = Made {
            run_id,
            flow_id,
            session_id: &prepared.session_id,
            at: jiff::Timestamp::now(),
        };
        langflow::outputs(plan, &prepared, &ended, &made)
    });
    let counts = run.shared().counts;
    Ok(outcome::collect(plan, &prepared, langflow, &ended, counts))
}

/// What messages call the flow.
fn flow_id<'a>(plan: &'a Plan, request: &'a Request) -> &'a str {
    request
        .langflow_id
        .as_deref()
        .or(plan.flow_id())
        .unwrap_or_default()
}

type NodeEnd = (NodeIdx, Duration, Result<NodeOutput, NodeError>);

/// What all of a run shares, its loops included; cheap to clone.
#[derive(Clone)]
struct Run {
    plan: Arc<Plan>,
    prepared: Arc<Prepared>,
    context: Arc<RunContext>,
    shared: Arc<Mutex<Shared>>,
    hold: Hold,
}

struct Shared {
    /// What earlier attempts finished and nobody has asked for yet, by id and turn.
    resume: BTreeMap<String, NodeOutput>,
    counts: Counts,
}

impl Run {
    /// All that happens to it is done at once: who panicked has not left it half done.
    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives the nodes of a run, or those of one turn of a loop.
struct Driver<'r> {
    run: &'r Run,
    plan: &'r Plan,
    /// `None` outside of loops.
    body: Option<&'r Body>,
    schedule: Schedule<'r>,
    ended: Vec<Option<Arc<NodeOutput>>>,
    /// Ready, but over the limit of what runs at once.
    waiting: VecDeque<NodeIdx>,
    running: FuturesUnordered<BoxFuture<'static, NodeEnd>>,
}

impl<'r> Driver<'r> {
    fn new(run: &'r Run, body: Option<&'r Body>) -> Self {
        let plan: &Plan = &run.plan;
        let runs = body.map_or(&plan.included, |body| &body.runs);
        Self {
            run,
            plan,
            body,
            schedule: Schedule::new(&plan.graph, runs),
            ended: vec![None; plan.nodes.len()],
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
        }
    }

    async fn drive(&mut self) -> Result<(), RunError> {
        let mut failure: Option<RunError> = None;
        loop {
            if failure.is_none() {
                failure = self.start_ready().err();
            }
            if failure.as_ref().is_some_and(|failure| !failure.retryable()) {
                break;
            }
            let Some((node, elapsed, result)) = self.running.next().await else {
                break;
            };
            self.plan.nodes[node].duration().record(elapsed.as_secs_f64());
            match result {
                Ok(output) => {
                    self.run.shared().counts.run += 1;
                    self.end(node, output, false, elapsed);
                }
                // A component that noticed the cancel before this task did has not failed.
                Err(_) if self.run.context.cancel.is_cancelled() => return Err(RunError::Cancelled),
                Err(error) => failure = Some(prefer(failure, self.fail(node, error))),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if self.schedule.is_done() => Ok(()),
            // Nothing runs, and what waits was not started: that is what holding means.
            None if !self.waiting.is_empty() => Err(RunError::Held),
            None => Err(RunError::Deadlock(self.ids(&self.schedule.stuck()))),
        }
    }

    /// Starts all that may start. Reused nodes end at once and may make more ready.
    fn start_ready(&mut self) -> Result<(), RunError> {
        loop {
            let ready = self.schedule.ready();
            if ready.is_empty() {
                break;
            }
            for node in ready {
                match self.reusable(node) {
                    Some(output) => {
                        self.run.shared().counts.reused += 1;
                        metrics::counter!(NODES_REUSED_TOTAL).increment(1);
                        self.end(node, output, true, Duration::ZERO);
                    }
                    None => self.waiting.push_back(node),
                }
            }
        }
        // A loop is one node to whoever holds the flow: its turns go on.
        if self.body.is_none() && self.run.hold.is_set() {
            return self.start_cheap();
        }
        while self.running.len() < MAX_PARALLEL {
            let Some(node) = self.waiting.pop_front() else {
                break;
            };
            self.start(node)?;
        }
        Ok(())
    }

    /// Starts what takes no time: a flow that lacks nothing else ends here rather than elsewhere.
    fn start_cheap(&mut self) -> Result<(), RunError> {
        for node in std::mem::take(&mut self.waiting) {
            let cheap = self.plan.nodes[node]
                .kind
                .as_ref()
                .is_ok_and(|kind| kind.is_cheap());
            if cheap && self.running.len() < MAX_PARALLEL {
                self.start(node)?;
            } else {
                self.waiting.push_back(node);
            }
        }
        Ok(())
    }

    /// The output of an earlier attempt, if it has what is wanted now.
    fn reusable(&mut self, node: NodeIdx) -> Option<NodeOutput> {
        let mut shared = self.run.shared();
        let output = shared.resume.remove(&self.info(node).id)?;
        let has = |name: &String| output.values.contains_key(name) || output.stopped.contains(name);
        if !self.wanted(node).iter().all(has) {
            return None;
        }
        if self.plan.bodies.contains_key(&node) {
            turns::settle(
                &mut shared,
                &turns::prefix(&self.run.context.place, &self.plan.nodes[node].info.id),
            );
        }
        Some(output)
    }

    fn wanted(&self, node: NodeIdx) -> &Arc<[String]> {
        let inside = self.body.and_then(|body| body.wanted.get(&node));
        inside.unwrap_or(&self.plan.wanted[node])
    }

    fn start(&mut self, node: NodeIdx) -> Result<(), RunError> {
        let info = self.info(node);
        self.report(Progress::NodeStarted {
            node: Arc::clone(&info),
        });
        let ended = |node: NodeIdx| self.ended[node].as_deref();
        let variables = &self.run.context.variables;
        let call = match self
            .run
            .prepared
            .call(self.plan, node, self.body, variables, &ended)
        {
            Ok(call) => call,
            Err(error) => return Err(self.fail(node, error)),
        };
        let span = tracing::info_span!("node", run_id = %self.run.context.run_id, node = %info.id, kind = ?call.kind);
        let work = match call.kind {
            Kind::Loop => turns::take(self.run.clone(), node, call),
            _ => {
                let context = NodeContext {
                    run: Arc::clone(&self.run.context),
                    node: info,
                };
                component(call, context)
            }
        };
        let future = async move {
            let started = Instant::now();
            // A bug in one component must not take the other runs of this process with it.
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = result.unwrap_or_else(|_| {
                let message = "the component failed in a way that is a bug of the engine".to_owned();
                Err(NodeError {
                    code: "component_panicked",
                    message,
                    retryable: false,
                })
            });
            (node, started.elapsed(), result)
        };
        self.running.push(future.instrument(span).boxed());
        Ok(())
    }

    fn end(&mut self, node: NodeIdx, output: NodeOutput, reused: bool, elapsed: Duration) {
        let output = Arc::new(output);
        let skipped = self.schedule.finished(node, &output.stopped);
        if self.body.is_some() {
            self.run.shared().counts.usage += output.usage;
        }
        self.report(Progress::NodeFinished {
            node: self.info(node),
            output: Arc::clone(&output),
            reused,
            elapsed,
        });
        self.ended[node] = Some(output);
        for node in skipped {
            self.report(Progress::NodeSkipped {
                node: self.info(node),
            });
        }
    }

    fn fail(&self, node: NodeIdx, error: NodeError) -> RunError {
        tracing::debug!(run_id = %self.run.context.run_id, node = %self.info(node).id, code = error.code, "node failed");
        self.report(Progress::NodeFailed {
            node: self.info(node),
            error: error.clone(),
        });
        RunError::Node {
            node: self.info(node),
            error,
        }
    }

    fn report(&self, progress: Progress) {
        (self.run.context.on_progress)(progress);
    }

    /// What a node is called here: in a loop each turn's is another.
    fn info(&self, node: NodeIdx) -> Arc<NodeInfo> {
        let (info, place) = (&self.plan.nodes[node].info, &self.run.context.place);
        match place.is_empty() {
            true => Arc::clone(info),
            false => Arc::new(NodeInfo {
                id: format!("{}{place}", info.id),
                ..NodeInfo::clone(info)
            }),
        }
    }

    fn ids(&self, nodes: &[NodeIdx]) -> Vec<String> {
        nodes.iter().map(|node| self.info(*node).id.clone()).collect()
    }
}

fn component(call: NodeCall, context: NodeContext) -> BoxFuture<'static, Result<NodeOutput, NodeError>> {
    async move { components::run(&call, &context).await }.boxed()
}

/// The failure to report when several nodes failed: one that another attempt cannot mend, else the first.
fn prefer(known: Option<RunError>, new: RunError) -> RunError {
    match known {
        Some(known) if !known.retryable() || new.retryable() => known,
        _ => new,
    }
}
