//! One attempt: from a claimed run to its end, whatever happens in between. A panic fails the run, never the worker.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flowfleet_core::clock::seconds_between;
use flowfleet_core::run::{ClaimedRun, RunInput, Usage};
use flowfleet_core::{Payload, PortError, TraceContext};
use flowfleet_engine::{Control, NodeOutput, Outcome, Plan, Request, RunError, Services};
use flowfleet_python::Work;
use flowfleet_runtime::backoff::Backoff;
use flowfleet_runtime::{payload, trace};
use futures::FutureExt as _;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::Inner;
use crate::files::TenantFiles;
use crate::held::{HeldRun, Stop};
use crate::journal::Written;
use crate::knowledge::RunKnowledge;
use crate::memory::RunMemory;
use crate::outcome::{self, Leavings, Verdict};
use crate::plans::{Kept, NoPlan};
use crate::progress::{Reporter, Reports, until_there};
use crate::telling::Telling;

/// A timeout longer than any clock: what cannot be waited for is not waited for.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Executes a claimed run and writes its end. The slot is free once that is committed.
pub(crate) async fn run(
    inner: Arc<Inner>,
    mut run: Box<ClaimedRun>,
    held: HeldRun,
    traced: Option<TraceContext>,
    slot: Option<OwnedSemaphorePermit>,
) {
    let span = tracing::info_span!(
        "run",
        run = %run.lease.run,
        attempt = run.lease.attempt,
        epoch = run.lease.epoch,
        flow = format!("{}@{}", run.flow.name, run.flow.version),
        queue = %run.queue,
    );
    if let Some(parent) = traced.as_ref().or(run.trace.as_ref()) {
        trace::set_parent(&span, parent);
    }
    let input = std::mem::replace(&mut run.input, Payload::null());
    attempt(&inner, &run, input, &held).instrument(span).await;
    drop(held);
    inner.vigil.active();
    inner.show_slots();
    if inner.busy() == 0 && inner.steering.is_draining() {
        inner.changed.notify_one();
    }
    drop(slot);
}

async fn attempt(inner: &Inner, run: &ClaimedRun, input: Payload, held: &HeldRun) {
    let began = Instant::now();
    let waited_s = seconds_between(run.queued_at, Timestamp::now());
    inner.runs.started(&run.queue, waited_s);
    inner.journal.begin(run.lease, run.last_seq);
    let (mut reports, reporter) = Reports::new(run.lease, Arc::clone(&inner.live));
    let timeout = Duration::try_from_secs_f64(run.settings.timeout_s)
        .unwrap_or(NEVER)
        .min(NEVER);
    let verdict = {
        let acting =
            Box::pin(AssertUnwindSafe(act(inner, run, input, &mut reports, reporter)).catch_unwind());
        tokio::select! {
            biased;
            why = held.stopped() => Verdict::Stopped(why),
            verdict = acting => verdict.unwrap_or_else(|panic| panicked(&*panic)),
            () = tokio::time::sleep(timeout) => Verdict::TimedOut,
        }
    };
    if let Verdict::Stopped(Stop::Lost) = verdict {
        inner.journal.forget(&run.lease);
        tracing::warn!("stopped: the lease is lost, nothing more is written");
        return;
    }
    held.ending();
    let (nodes, events) = reports.rest(inner, outcome::keeps_checkpoints(&verdict)).await;
    let usage = Usage {
        input_tokens: reports.usage.input_tokens,
        output_tokens: reports.usage.output_tokens,
    };
    let left = Leavings {
        nodes,
        events,
        usage,
        nodes_reused: reports.nodes_reused,
    };
    if let Verdict::Failed { error, retryable } = &verdict {
        tracing::info!(
            code = error.code,
            retryable,
            node = error.node,
            "attempt failed: {}",
            error.message
        );
    }
    let (end, because) = outcome::end(run, verdict, left, rand::random());
    match inner.journal.end(run.lease, end).await {
        Written::Applied(last) => {
            inner
                .runs
                .attempt_ended(&run.queue, because, last, began.elapsed());
            tracing::debug!(
                because = because.as_str(),
                took_s = began.elapsed().as_secs_f64(),
                "attempt ended"
            );
        }
        Written::Stale => tracing::warn!(
            because = because.as_str(),
            "the end came too late: the lease was lost"
        ),
        Written::Refused => {}
    }
}

/// Everything between the claim and the verdict.
async fn act(
    inner: &Inner,
    run: &ClaimedRun,
    input: Payload,
    reports: &mut Reports,
    reporter: Reporter,
) -> Verdict {
    let plan = match plan(inner, run).await {
        Ok(plan) => plan,
        Err(verdict) => return verdict,
    };
    let request = match request(inner, run, input).await {
        Ok(request) => request,
        Err(error) => {
            tracing::error!(%error, "the input of this run cannot be read");
            return outcome::internal(
                "input_unreadable",
                "the input of this run cannot be read from the store",
            );
        }
    };
    reports.tell(Telling::of(run.lease.run, &plan.plan, &request));
    let ended = match (&plan.document, &inner.deps.python) {
        (Some(document), Some(host)) => {
            reports.whole_flow();
            let host = InPython { host, document };
            host.drive(inner, run, &plan, &request, reports, reporter).await
        }
        // Without a host the engine says what the flow needs.
        _ => {
            let resume = resume(inner, run).await;
            reports.resumed(&resume);
            drive(inner, run, &plan, &request, resume, reports, reporter).await
        }
    };
    match ended {
        Ok(outcome) => sealed(inner, run, outcome).await,
        Err(RunError::Held) => Verdict::Stopped(inner.steering.rested()),
        Err(error) => outcome::failed(&error),
    }
}

async fn plan(inner: &Inner, run: &ClaimedRun) -> Result<Kept, Verdict> {
    let mut backoff = Backoff::default();
    loop {
        match inner.plans.get(&*inner.deps.store, &run.tenant, &run.flow).await {
            Ok(plan) => return Ok(plan),
            Err(NoPlan::Away(error)) => {
                tracing::warn!(%error, "the flow cannot be read yet");
                backoff.wait().await;
            }
            Err(NoPlan::Never { code, message }) => {
                tracing::warn!(code, "{message}");
                return Err(outcome::internal(code, &message));
            }
        }
    }
}

async fn request(inner: &Inner, run: &ClaimedRun, input: Payload) -> Result<Request, PortError> {
    let value = match input {
        Payload::Inline(value) => value,
        stored @ Payload::Blob(_) => {
            until_there("input", || payload::open(&*inner.deps.blob, &stored)).await?
        }
    };
    let input: RunInput =
        serde_json::from_value(value).map_err(|error| PortError::bug("input", error.to_string()))?;
    let request = Request {
        input: input.input,
        tweaks: input.tweaks,
        variables: input.variables,
        session_id: run.session_id.clone(),
        ..Request::default()
    };
    if input.langflow.is_null() {
        return Ok(request);
    }
    let call = serde_json::from_value(input.langflow);
    Ok(request.called_as(call.map_err(|error| PortError::bug("input", error.to_string()))?))
}

/// Outputs of nodes that earlier attempts finished. One that cannot be read is computed again.
async fn resume(inner: &Inner, run: &ClaimedRun) -> BTreeMap<String, NodeOutput> {
    let mut outputs = BTreeMap::new();
    for checkpoint in &run.checkpoints {
        let opened = until_there("checkpoint", || {
            payload::open(&*inner.deps.blob, &checkpoint.output)
        })
        .await;
        let read = opened.map_err(|error| error.to_string());
        match read.and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string())) {
            Ok(output) => {
                outputs.insert(checkpoint.node.clone(), output);
            }
            Err(error) => tracing::warn!(
                error,
                node = checkpoint.node,
                "checkpoint not readable: executed again"
            ),
        }
    }
    outputs
}

async fn drive(
    inner: &Inner,
    run: &ClaimedRun,
    plan: &Kept,
    request: &Request,
    resume: BTreeMap<String, NodeOutput>,
    reports: &mut Reports,
    reporter: Reporter,
) -> Result<Outcome, RunError> {
    let cancel = CancellationToken::new();
    let _cancelled = cancel.clone().drop_guard();
    let run_id = run.lease.run.to_string();
    let plan = &plan.plan;
    let services = services(inner, run, plan, request);
    let control = Control {
        cancel,
        hold: inner.steering.held(),
    };
    let flow = flowfleet_engine::execute(plan, request, resume, &run_id, &services, reporter, control);
    noted(inner, reports, flow).await
}

/// A flow that runs whole in the Python host.
struct InPython<'a> {
    host: &'a flowfleet_python::Host,
    document: &'a [u8],
}

impl InPython<'_> {
    async fn drive(
        &self,
        inner: &Inner,
        run: &ClaimedRun,
        plan: &Kept,
        request: &Request,
        reports: &mut Reports,
        reporter: Reporter,
    ) -> Result<Outcome, RunError> {
        let services = services(inner, run, &plan.plan, request);
        let work = Work {
            plan: &plan.plan,
            document: self.document,
            request,
            run_id: &run.lease.run.to_string(),
            realm: run.tenant.as_str(),
            services: &services,
        };
        // Dropping the execution cancels it.
        let flow = self.host.execute(work, reporter, CancellationToken::new());
        noted(inner, reports, flow).await
    }
}

/// Drives the flow and writes down what it reports. While a report waits for room in the journal the flow is not
/// driven on: that is how a store that is away holds up executions instead of filling memory.
async fn noted<T>(inner: &Inner, reports: &mut Reports, flow: impl Future<Output = T>) -> T {
    let mut flow = Box::pin(flow);
    loop {
        tokio::select! {
            // The flow first: one that ends without ever waiting is written in one go with its end.
            biased;
            ended = &mut flow => return ended,
            () = reports.next() => reports.note(inner).await,
        }
    }
}

/// What a run may use: its tenant's files and knowledge, and memory if it is part of a conversation.
fn services(inner: &Inner, run: &ClaimedRun, plan: &Plan, request: &Request) -> Services {
    // Langflow's API always has a session: the flow's, if the caller names none.
    let named = run.session_id.is_some() || request.langflow_id.is_some();
    let memory = plan
        .converses(named)
        .then(|| RunMemory::of(Arc::clone(&inner.deps.store), run, inner.config.session_messages));
    Services {
        files: TenantFiles::new(Arc::clone(&inner.deps.blob), run.tenant.clone()),
        memory,
        knowledge: Some(RunKnowledge::of(Arc::clone(&inner.deps.store), run)),
        ..inner.deps.services.clone()
    }
}

async fn sealed(inner: &Inner, run: &ClaimedRun, outcome: Outcome) -> Verdict {
    let plain = || Value::Object(outcome.outputs.into_iter().collect());
    let outputs = outcome.langflow.unwrap_or_else(plain);
    let output = seal(inner, run, "output", outcome.output).await;
    let outputs = seal(inner, run, "outputs", outputs).await;
    match (output, outputs) {
        (Ok(output), Ok(outputs)) => Verdict::Done { output, outputs },
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "the output cannot be stored");
            outcome::internal("output_unwritable", "the output of this run cannot be stored")
        }
    }
}

async fn seal(inner: &Inner, run: &ClaimedRun, what: &str, value: Value) -> Result<Payload, PortError> {
    match payload::inline(value) {
        Ok(payload) => Ok(payload),
        Err(value) => {
            let (blob, id) = (&*inner.deps.blob, run.lease.run);
            until_there(what, || payload::seal(blob, id, what, value.clone())).await
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Verdict {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(panic = text, "execution panicked");
    outcome::internal(
        "panic",
        "the worker met a fault of its own while it executed this run",
    )
}
