//! What an explanation says, as a table of situations.

use std::time::Duration;

use flowfleet_core::run::{RunError, RunErrorKind, RunSettings, Usage};
use flowfleet_core::{Capability, FlowVersion, Labels, Priority, QueueName, RunId, Tenant, WorkerId};

use super::*;

fn now() -> Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

fn ago(seconds: u64) -> Timestamp {
    now() - Duration::from_secs(seconds)
}

fn run(state: RunState) -> RunView {
    RunView {
        id: RunId::generate(),
        tenant: Tenant::default(),
        flow: FlowVersion {
            name: "a".parse().unwrap(),
            version: 1,
            digest: String::new(),
        },
        queue: QueueName::default(),
        needs: Capability::native(),
        priority: Priority::Normal,
        state,
        attempt: 0,
        interruptions: 0,
        settings: RunSettings::default(),
        session_id: None,
        labels: Labels::default(),
        input: None,
        output: None,
        outputs: None,
        error: None,
        usage: Usage::default(),
        created_at: ago(90),
        queued_at: Some(ago(90)),
        started_at: None,
        finished_at: None,
        run_at: None,
        expires_at: None,
        worker: None,
        lease_until: None,
        cancel_requested: false,
        replay_of: None,
        attempts: Vec::new(),
        last_seq: 1,
    }
}

fn worker(queue: &str, slots: u32, busy: u32, state: WorkerState) -> WorkerPresence {
    WorkerPresence {
        id: WorkerId::generate(),
        host: "host-1".to_owned(),
        version: "0.1.0".to_owned(),
        queues: vec![queue.parse().unwrap()],
        capabilities: Default::default(),
        slots,
        busy,
        state,
        lifecycle: "local".to_owned(),
        started_at: ago(500),
        seen_at: ago(1),
        place: Default::default(),
    }
}

fn facts(workers: Option<Vec<WorkerPresence>>) -> Facts {
    Facts {
        now: now(),
        ahead: Some(3),
        workers,
        backlog: Vec::new(),
        not_native: None,
    }
}

fn ended_attempt(because: EndedBecause, error: Option<RunError>) -> AttemptView {
    AttemptView {
        attempt: 1,
        epoch: 1,
        worker: WorkerId::generate(),
        started_at: ago(60),
        ended_at: Some(ago(58)),
        ended_because: Some(because),
        nodes_reused: 2,
        error,
    }
}

#[test]
fn a_queued_run_says_what_it_waits_for() {
    use WorkerState::{Accepting, Draining};
    let table = [
        (None, "unknown", "is not known"),
        (Some(vec![]), "no_workers", "No worker is present at all"),
        (
            Some(vec![worker("gpu", 4, 0, Accepting)]),
            "no_workers_for_queue",
            "1 worker is present, but none takes",
        ),
        (
            Some(vec![worker("default", 4, 0, Draining)]),
            "workers_unavailable",
            "none accepts runs",
        ),
        (
            Some(vec![worker("default", 4, 4, Accepting)]),
            "slots",
            "All 4 slots of 1 worker are busy",
        ),
        (
            Some(vec![worker("default", 4, 1, Accepting)]),
            "turn",
            "3 of 4 slots are free",
        ),
    ];
    for (workers, waits_for, text) in table {
        let explanation = explain(&run(RunState::Queued), &facts(workers));
        assert_eq!(explanation.data.waits_for, waits_for);
        assert!(
            explanation.sentences[1].contains(text),
            "{:?}",
            explanation.sentences
        );
        assert!(
            explanation.summary.contains("Queued for 1 min 30 s"),
            "{}",
            explanation.summary
        );
        assert!(
            explanation.summary.contains("3 runs are ahead"),
            "{}",
            explanation.summary
        );
    }
}

#[test]
fn a_run_that_not_every_worker_can_execute_says_what_it_needs() {
    use WorkerState::Accepting;
    let able = |mut worker: WorkerPresence, what: &Capability| {
        worker.capabilities.add(what.clone());
        worker
    };
    let torch: Capability = "torch".parse().unwrap();
    let table = [
        (
            Capability::python(),
            vec![],
            "no_workers",
            "This flow needs Python (Mine: own code). No worker is present at all: start one with [python] enabled = true.",
        ),
        (
            Capability::python(),
            vec![worker("gpu", 4, 0, Accepting)],
            "no_workers_for_queue",
            "1 worker is present, but none takes queue default: start one with FLOWFLEET_QUEUES=default and with [python] enabled = true.",
        ),
        (
            Capability::python(),
            vec![
                worker("default", 4, 0, Accepting),
                able(worker("gpu", 4, 0, Accepting), &Capability::python()),
            ],
            "no_workers_able",
            "This flow needs Python (Mine: own code). No worker of queue default with `python` is present: start one with [python] enabled = true.",
        ),
        (
            torch.clone(),
            vec![worker("default", 4, 0, Accepting)],
            "no_workers_able",
            "This flow needs a worker that can do `torch` (Mine: own code). No worker of queue default with `torch` is present: start one with `torch` among its capabilities.",
        ),
        (
            torch.clone(),
            vec![
                worker("default", 4, 0, Accepting),
                able(worker("default", 2, 2, Accepting), &torch),
            ],
            "slots",
            "All 2 slots of 1 worker are busy: it waits for one to be free.",
        ),
    ];
    for (needs, workers, waits_for, text) in table {
        let mut queued = run(RunState::Queued);
        queued.needs = needs;
        let mut facts = facts(Some(workers));
        facts.not_native = Some("Mine: own code.".to_owned());
        let explanation = explain(&queued, &facts);
        assert_eq!(explanation.data.waits_for, waits_for);
        assert_eq!(explanation.sentences[1], text);
    }
}

#[test]
fn a_scheduled_run_says_until_when_and_why() {
    let mut delayed = run(RunState::Scheduled);
    delayed.run_at = Some(now() + Duration::from_secs(7_200));
    delayed.expires_at = Some(now() + Duration::from_secs(9_000));
    let explanation = explain(&delayed, &facts(None));
    assert_eq!(explanation.data.waits_for, "time");
    assert!(
        explanation.summary.contains("in 2 h 0 min"),
        "{}",
        explanation.summary
    );
    assert!(explanation.sentences[1].contains("it expires"));
    let mut retried = run(RunState::Scheduled);
    retried.run_at = Some(now() + Duration::from_secs(4));
    let error = RunError {
        kind: RunErrorKind::Node,
        code: "model_timeout".to_owned(),
        message: "the model did not answer.".to_owned(),
        node: None,
    };
    retried.attempts = vec![ended_attempt(EndedBecause::Failed, Some(error))];
    let explanation = explain(&retried, &facts(None));
    assert_eq!(explanation.data.waits_for, "retry");
    assert!(
        explanation.summary.contains("attempt 2 of 3"),
        "{}",
        explanation.summary
    );
    let history = explanation.sentences.last().unwrap();
    assert!(history.contains("failed after 2.0 s"), "{history}");
    assert!(
        history.contains("the model did not answer (model_timeout)."),
        "{history}"
    );
}

#[test]
fn a_running_run_names_its_worker_and_a_late_lease() {
    let present = worker("default", 4, 1, WorkerState::Accepting);
    let mut running = run(RunState::Running);
    running.attempt = 1;
    running.worker = Some(present.id);
    running.started_at = Some(ago(5));
    running.cancel_requested = true;
    running.lease_until = Some(ago(1));
    let explanation = explain(&running, &facts(Some(vec![present])));
    assert!(
        explanation
            .summary
            .contains("on host-1 for 5.0 s: attempt 1 of 3"),
        "{}",
        explanation.summary
    );
    assert!(explanation.sentences[1].contains("stopping it"));
    assert!(explanation.sentences[2].contains("back to the queue"));
}

#[test]
fn an_ended_run_says_how() {
    let mut failed = run(RunState::Failed);
    failed.error = Some(RunError {
        kind: RunErrorKind::Infrastructure,
        code: "interrupted_too_often".to_owned(),
        message: "no worker could finish it".to_owned(),
        node: None,
    });
    failed.interruptions = 21;
    failed.attempts = vec![ended_attempt(EndedBecause::WorkerLost, None)];
    let explanation = explain(&failed, &facts(None));
    assert!(
        explanation
            .summary
            .contains("no worker could finish it (interrupted_too_often)")
    );
    assert!(explanation.sentences[1].contains("21 times"));
    assert!(explanation.sentences[2].contains("lost with its worker after 2.0 s, reusing 2 finished nodes"));
    for state in [RunState::Succeeded, RunState::Cancelled, RunState::Expired] {
        let explanation = explain(&run(state), &facts(None));
        assert_eq!(explanation.data.waits_for, "nothing");
        assert!(
            explanation.summary.to_lowercase().starts_with(state.as_str()),
            "{}",
            explanation.summary
        );
    }
}
