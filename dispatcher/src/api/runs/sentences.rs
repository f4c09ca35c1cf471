//! Why a run is where it is, in sentences and as data (invariant I9). A pure function of the run and the facts.

use flowfleet_core::clock::seconds_between;
use flowfleet_core::port::{Backlog, WorkerPresence, WorkerState};
use flowfleet_core::retry::{INTERRUPTIONS_BEFORE_ON_DEMAND, MAX_INTERRUPTIONS};
use flowfleet_core::run::{AttemptView, EndedBecause, RunView};
use flowfleet_core::{Capability, RunState};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Attempt;

/// What an explanation is made of, beside the run.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub now: Timestamp,
    /// Runs ahead of a queued one.
    pub ahead: Option<u32>,
    /// `None` when presence is not known.
    pub workers: Option<Vec<WorkerPresence>>,
    /// Of the run's pool.
    pub backlog: Vec<Backlog>,
    /// The first reason why its flow is not native.
    pub not_native: Option<String>,
}

/// Why a run is where it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Explanation {
    pub id: Uuid,
    pub state: &'static str,
    /// The first sentence.
    pub summary: String,
    /// What it does, what it waits for, what capacity there is, how each attempt ended.
    pub sentences: Vec<String>,
    pub data: ExplanationData,
}

/// The same as data.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplanationData {
    /// `nothing`, `time`, `retry`, `no_workers`, `no_workers_for_queue`, `no_workers_able`, `workers_unavailable`, `slots`, `turn`,
    /// `worker` or `unknown`.
    pub waits_for: &'static str,
    /// What its flow needs of a worker: `native` or `python`.
    pub needs: String,
    /// Runs ahead in its queue.
    pub ahead: Option<u32>,
    pub queue: String,
    pub priority: &'static str,
    pub run_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub worker: Option<Uuid>,
    pub lease_until: Option<Timestamp>,
    pub queued_in_queue: u64,
    pub running_in_queue: u64,
    /// Accepting workers of its queue; null when presence is not known.
    pub workers_for_queue: Option<u32>,
    pub slots: Option<u32>,
    pub free_slots: Option<u32>,
    pub attempts: Vec<Attempt>,
}

/// Capacity of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Capacity {
    /// Workers of any queue, in any state.
    anywhere: u32,
    /// Workers of this queue, in any state, whatever they can do.
    serving: u32,
    /// Those that can execute the run.
    present: u32,
    accepting: u32,
    slots: u32,
    busy: u32,
}

impl Capacity {
    fn of(workers: &[WorkerPresence], run: &RunView) -> Self {
        let mut capacity = Self {
            anywhere: workers.len() as u32,
            serving: 0,
            present: 0,
            accepting: 0,
            slots: 0,
            busy: 0,
        };
        for worker in workers.iter().filter(|worker| worker.queues.contains(&run.queue)) {
            capacity.serving += 1;
            if !worker.capabilities.has(&run.needs) {
                continue;
            }
            capacity.present += 1;
            if worker.state == WorkerState::Accepting {
                capacity.accepting += 1;
                capacity.slots += worker.slots;
                capacity.busy += worker.busy.min(worker.slots);
            }
        }
        capacity
    }

    fn free(&self) -> u32 {
        self.slots - self.busy
    }
}

/// Explains `run`.
pub(crate) fn explain(run: &RunView, facts: &Facts) -> Explanation {
    let capacity = facts.workers.as_deref().map(|workers| Capacity::of(workers, run));
    let mut sentences = Vec::new();
    let waits_for = match run.state {
        RunState::Scheduled => scheduled(run, facts, &mut sentences),
        RunState::Blocked => {
            sentences.push("Blocked: it waits for another run.".to_owned());
            "unknown"
        }
        RunState::Queued => queued(run, facts, capacity, &mut sentences),
        RunState::Running => running(run, facts, &mut sentences),
        RunState::Succeeded | RunState::Failed | RunState::Cancelled | RunState::Expired => {
            ended(run, &mut sentences);
            "nothing"
        }
    };
    if let (false, Some(expires)) = (
        run.state.is_final() || run.state == RunState::Running,
        run.expires_at,
    ) {
        sentences.push(format!("If it has not started by {expires}, it expires."));
    }
    interruptions(run, &mut sentences);
    sentences.extend(
        run.attempts
            .iter()
            .filter(|attempt| attempt.ended_at.is_some())
            .map(attempt),
    );
    Explanation {
        id: run.id.0,
        state: run.state.as_str(),
        summary: sentences.first().cloned().unwrap_or_default(),
        sentences,
        data: ExplanationData {
            waits_for,
            ahead: facts.ahead,
            needs: run.needs.to_string(),
            queue: run.queue.to_string(),
            priority: run.priority.as_str(),
            run_at: run.run_at,
            expires_at: run.expires_at,
            worker: run.worker.map(|worker| worker.0),
            lease_until: run.lease_until,
            queued_in_queue: facts.backlog.iter().map(|line| line.queued).sum(),
            running_in_queue: facts.backlog.iter().map(|line| line.running).sum(),
            workers_for_queue: capacity.map(|c| c.accepting),
            slots: capacity.map(|c| c.slots),
            free_slots: capacity.map(|c| c.free()),
            attempts: run.attempts.iter().cloned().map(Attempt::from).collect(),
        },
    }
}

fn scheduled(run: &RunView, facts: &Facts, sentences: &mut Vec<String>) -> &'static str {
    let due = run.run_at.map_or_else(
        || "when its time comes".to_owned(),
        |at| match seconds_between(facts.now, at) {
            s if s > 0.0 => format!("at {at}, in {}", span(s)),
            _ => "any moment: its time has come".to_owned(),
        },
    );
    let failed = run.attempts.last().filter(|last| {
        matches!(
            last.ended_because,
            Some(EndedBecause::Failed | EndedBecause::TimedOut)
        )
    });
    let Some(last) = failed else {
        sentences.push(format!(
            "Scheduled: it was asked to run later and is queued {due}."
        ));
        return "time";
    };
    let (next, most) = (last.attempt + 1, run.settings.max_attempts);
    sentences.push(format!(
        "Waits before it is tried again: attempt {next} of {most} is queued {due}."
    ));
    "retry"
}

fn queued(
    run: &RunView,
    facts: &Facts,
    capacity: Option<Capacity>,
    sentences: &mut Vec<String>,
) -> &'static str {
    let since = run.queued_at.unwrap_or(run.created_at);
    let waited = span(seconds_between(since, facts.now));
    let ahead = match facts.ahead {
        None => "its place is not known".to_owned(),
        Some(0) => "it is next".to_owned(),
        Some(1) => "one run is ahead of it".to_owned(),
        Some(n) if n >= super::explain::AHEAD => format!("at least {n} runs are ahead of it"),
        Some(n) => format!("{n} runs are ahead of it"),
    };
    let (queue, priority) = (&run.queue, run.priority.as_str());
    sentences.push(format!(
        "Queued for {waited} in queue {queue} with priority {priority}; {ahead}."
    ));
    let Some(capacity) = capacity else {
        sentences.push("Which workers are present is not known: the bus does not answer.".to_owned());
        return "unknown";
    };
    let (waits_for, sentence) = match capacity {
        Capacity { anywhere: 0, .. } => (
            "no_workers",
            match able(run) {
                None => {
                    "No worker is present at all: start one, for example with flowfleet-worker.".to_owned()
                }
                Some(how) => format!(
                    "{} No worker is present at all: start one {how}.",
                    need(run, facts)
                ),
            },
        ),
        Capacity {
            serving: 0, anywhere, ..
        } => (
            "no_workers_for_queue",
            format!(
                "{} present, but none takes queue {queue}: start one with FLOWFLEET_QUEUES={queue}{}.",
                count(anywhere, "worker is", "workers are"),
                able(run).map_or_else(String::new, |how| format!(" and {how}")),
            ),
        ),
        Capacity { present: 0, .. } => (
            "no_workers_able",
            format!(
                "{} No worker of queue {queue} with `{}` is present: start one{}.",
                need(run, facts),
                run.needs,
                able(run).map_or_else(String::new, |how| format!(" {how}")),
            ),
        ),
        Capacity {
            accepting: 0,
            present,
            ..
        } => (
            "workers_unavailable",
            format!(
                "{} queue {queue}, but none accepts runs right now: they drain or are cut off.",
                count(present, "worker serves", "workers serve")
            ),
        ),
        c if c.free() == 0 => (
            "slots",
            format!(
                "All {} of {} are busy: it waits for one to be free.",
                count(c.slots, "slot", "slots"),
                count(c.accepting, "worker", "workers")
            ),
        ),
        c => (
            "turn",
            format!(
                "{} of {} free on {}: it is about to be picked up.",
                c.free(),
                count(c.slots, "slot is", "slots are"),
                count(c.accepting, "worker", "workers")
            ),
        ),
    };
    sentences.push(sentence);
    waits_for
}

/// What the run's flow needs, and why.
fn need(run: &RunView, facts: &Facts) -> String {
    let because = facts
        .not_native
        .as_deref()
        .map_or_else(String::new, |why| format!(" ({})", stop(why)));
    match &run.needs {
        needs if *needs == Capability::python() => format!("This flow needs Python{because}."),
        needs => format!("This flow needs a worker that can do `{needs}`{because}."),
    }
}

/// How a worker is started that can execute the run; nothing need be said of a native one.
fn able(run: &RunView) -> Option<String> {
    match &run.needs {
        needs if needs.is_native() => None,
        needs if *needs == Capability::python() => Some("with [python] enabled = true".to_owned()),
        needs => Some(format!("with `{needs}` among its capabilities")),
    }
}

fn running(run: &RunView, facts: &Facts, sentences: &mut Vec<String>) -> &'static str {
    let worker = run
        .worker
        .map_or_else(|| "a worker".to_owned(), |id| format!("worker {id}"));
    let host = run
        .worker
        .and_then(|id| facts.workers.as_ref()?.iter().find(|w| w.id == id))
        .map_or_else(String::new, |w| format!(" on {}", w.host));
    let since = run
        .attempts
        .last()
        .map(|attempt| attempt.started_at)
        .or(run.started_at);
    let time = since.map_or_else(String::new, |at| {
        format!(" for {}", span(seconds_between(at, facts.now)))
    });
    let (attempt, most) = (run.attempt.max(1), run.settings.max_attempts);
    sentences.push(format!(
        "Running on {worker}{host}{time}: attempt {attempt} of {most}."
    ));
    if run.cancel_requested {
        sentences.push("Its cancellation was asked for: the worker is stopping it.".to_owned());
    }
    match run.lease_until {
        Some(until) if until < facts.now => sentences.push(
            "Its worker has not been heard of for the whole lease: the run goes back to the queue within seconds."
                .to_owned(),
        ),
        _ => {}
    }
    "worker"
}

fn ended(run: &RunView, sentences: &mut Vec<String>) {
    let when = run.finished_at.map_or_else(String::new, |at| format!(" at {at}"));
    sentences.push(match run.state {
        RunState::Succeeded => match (run.started_at, run.finished_at) {
            (Some(from), Some(to)) => {
                format!(
                    "Succeeded{when} after {} on attempt {}.",
                    span(seconds_between(from, to)),
                    run.attempt.max(1)
                )
            }
            _ => format!("Succeeded{when}."),
        },
        RunState::Failed => match &run.error {
            Some(error) => format!("Failed{when}: {} ({}).", stop(&error.message), error.code),
            None => format!("Failed{when}."),
        },
        RunState::Expired => format!("Expired{when}: it had not started in time."),
        _ => format!("Cancelled{when}."),
    });
}

fn interruptions(run: &RunView, sentences: &mut Vec<String>) {
    let n = run.interruptions;
    if n == 0 {
        return;
    }
    let mut text = format!(
        "It was interrupted {} by lost or drained workers; these do not use up its attempts (limit {MAX_INTERRUPTIONS}).",
        if n == 1 {
            "once".to_owned()
        } else {
            format!("{n} times")
        },
    );
    if n >= INTERRUPTIONS_BEFORE_ON_DEMAND && !run.state.is_final() {
        text.push_str(" It now asks for on-demand capacity.");
    }
    sentences.push(text);
}

fn attempt(attempt: &AttemptView) -> String {
    let end = attempt.ended_at.unwrap_or(attempt.started_at);
    let time = span(seconds_between(attempt.started_at, end));
    let error = attempt.error.as_ref().map_or_else(String::new, |error| {
        format!(": {} ({})", stop(&error.message), error.code)
    });
    let how = match attempt.ended_because {
        Some(EndedBecause::Succeeded) => "succeeded",
        Some(EndedBecause::Failed) => "failed",
        Some(EndedBecause::Cancelled) => "was cancelled",
        Some(EndedBecause::TimedOut) => "took longer than timeout_s",
        Some(EndedBecause::Interrupted) => "was handed back by its worker, which was draining",
        Some(EndedBecause::SpotNotice) => "was handed back: the machine was to be reclaimed",
        Some(EndedBecause::HandedOff) => "was handed on between two nodes, because its worker was to drain",
        Some(EndedBecause::WorkerLost) => "was lost with its worker",
        None => "has not ended",
    };
    let reused = match attempt.nodes_reused {
        0 => String::new(),
        n => format!(
            ", reusing {} of earlier attempts",
            count(n, "finished node", "finished nodes")
        ),
    };
    format!(
        "Attempt {} on worker {} {how} after {time}{reused}{error}.",
        attempt.attempt, attempt.worker
    )
}

/// A message without its final stop, to go in front of one.
fn stop(message: &str) -> &str {
    message.trim_end().trim_end_matches('.')
}

fn count(n: u32, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Seconds as people say them.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1_000.0),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3_600.0 => format!("{:.0} min {:.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s if s < 172_800.0 => format!(
            "{:.0} h {:.0} min",
            (s / 3_600.0).floor(),
            (s % 3_600.0 / 60.0).floor()
        ),
        s => format!("{:.0} days", (s / 86_400.0).floor()),
    }
}

#[cfg(test)]
#[path = "sentences_tests.rs"]
mod tests;
