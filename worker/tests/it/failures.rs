//! What goes wrong in a run or around it: cancels, timeouts, retries, refused flows, panics, a store that is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flowfleet_core::RunState;
use flowfleet_core::event::{EventKind, RunEvent};
use flowfleet_core::history::{SLACK, check};
use flowfleet_core::port::{HistoryStore as _, Live, LiveStream, RunStore as _};
use flowfleet_core::run::{EndedBecause, RunErrorKind};
use flowfleet_mock_model as mock;
use flowfleet_runtime::payload::hex_sha256;
use futures::StreamExt as _;

use crate::flows::{answer, chain};
use crate::rig::{DEADLINE, Rig, settings};

fn slow(latency_ms: u64) -> mock::Config {
    mock::Config {
        latency_ms,
        ..mock::Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_run_is_cancelled_within_a_second() {
    let rig = Rig::new(slow(60_000)).await;
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    let kept = rig.submit_one(rig.run(&flow, "y")).await;
    rig.event(id, EventKind::NodeStarted, 2).await;
    rig.event(kept, EventKind::NodeStarted, 2).await;

    // A rumour on the bus alone cancels nothing: the store is asked.
    rig.bus.cancel(kept).await.unwrap();
    let began = Instant::now();
    rig.store.cancel(&rig.tenant, id).await.unwrap();
    rig.bus.cancel(id).await.unwrap();
    let view = rig.state(id, RunState::Cancelled).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::Cancelled));
    assert_eq!(rig.get(kept).await.state, RunState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_carries_cancels_that_the_bus_lost() {
    let rig = Rig::new(slow(60_000)).await;
    let _worker = rig.worker(|config| config.lease_s = 1.0).await;
    let flow = rig.flow(&chain(1)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    rig.event(id, EventKind::NodeStarted, 2).await;
    rig.store.cancel(&rig.tenant, id).await.unwrap();
    rig.state(id, RunState::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_the_attempt_and_the_last_one_the_run() {
    let rig = Rig::new(slow(60_000)).await;
    let _upkeep = rig.upkeep();
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    let mut run = rig.run(&flow, "x");
    run.settings = settings(2, 0.3);
    let id = rig.submit_one(run).await;
    let view = rig.state(id, RunState::Failed).await;
    let error = view.error.unwrap();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (RunErrorKind::Timeout, "run_timeout")
    );
    let reasons: Vec<_> = view
        .attempts
        .iter()
        .map(|a| (a.attempt, a.ended_because.unwrap()))
        .collect();
    assert_eq!(
        reasons,
        [(1, EndedBecause::TimedOut), (2, EndedBecause::TimedOut)]
    );
    rig.event(id, EventKind::RunRetrying, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_retried_and_finished_nodes_are_not_repeated() {
    let rig = Rig::new(mock::Config {
        fail_every: 2,
        fail_status: 500,
        ..mock::Config::default()
    })
    .await;
    let _upkeep = rig.upkeep();
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(2)).await;
    let mut run = rig.run(&flow, "x");
    run.settings = settings(3, 60.0);
    let id = rig.submit_one(run).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(rig.output(&view).await, answer(2, "x"));
    assert_eq!(view.attempt, 2);
    assert_eq!(
        rig.mock.requests(),
        3,
        "first node, second node failing, second node"
    );
    assert_eq!(rig.mock.counts()["x"], 1);
    assert_eq!(view.attempts[1].nodes_reused, 2, "chat input and the first model");
    assert!(view.usage.output_tokens > 0);
    let failed = rig.event(id, EventKind::NodeFailed, 1).await;
    assert_eq!(failed.data.value()["node"], "LanguageModelComponent-2");
    let finished: Vec<_> = rig.events(id).await;
    let finished = finished
        .iter()
        .filter(|event| event.kind == EventKind::NodeFinished)
        .count();
    assert_eq!(finished, 4, "reused nodes are not announced again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_no_retry_mends_fails_at_once() {
    let rig = Rig::new(mock::Config {
        fail_every: 1,
        fail_status: 400,
        ..mock::Config::default()
    })
    .await;
    let _upkeep = rig.upkeep();
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    let mut run = rig.run(&flow, "x");
    run.settings = settings(5, 60.0);
    let id = rig.submit_one(run).await;
    let view = rig.state(id, RunState::Failed).await;
    let error = view.error.unwrap();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (RunErrorKind::Node, "model_bad_request")
    );
    assert_eq!(error.node.as_deref(), Some("LanguageModelComponent-1"));
    assert_eq!((view.attempt, rig.mock.requests()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_that_cannot_be_run_fail_for_good_and_say_why() {
    let rig = Rig::new(mock::Config::default()).await;
    let _worker = rig.worker(|_| {}).await;
    let garbage = Bytes::from_static(b"{\"data\": nonsense");
    let fine = Bytes::from(serde_json::to_vec(&chain(0)).unwrap());
    let invalid = rig
        .flow_bytes("garbage", garbage.clone(), hex_sha256(&garbage))
        .await;
    let other = rig.flow_bytes("other", fine, hex_sha256(b"something else")).await;
    let mut missing = other.clone();
    missing.name = "missing".parse().unwrap();
    missing.digest = hex_sha256(b"missing");
    for (flow, code) in [
        (invalid, "flow_invalid"),
        (other, "flow_digest"),
        (missing, "flow_missing"),
    ] {
        let mut run = rig.run(&flow, "x");
        run.settings = settings(3, 60.0);
        let id = rig.submit_one(run).await;
        let view = rig.state(id, RunState::Failed).await;
        let error = view.error.unwrap();
        assert_eq!(
            (error.kind, error.code.as_str()),
            (RunErrorKind::Internal, code),
            "{}",
            error.message
        );
        assert!(error.message.contains(flow.name.as_str()), "{}", error.message);
        assert_eq!(view.attempt, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_run_and_nothing_else() {
    let rig = Rig::new(mock::Config::default()).await;
    let environment = |name: &str| -> Option<String> {
        assert!(
            name != "OPENAI_BASE_URL",
            "this test panics where the engine asks its environment"
        );
        None
    };
    let worker = rig
        .worker_in(Arc::new(environment), |config| config.slots = 1)
        .await;
    let asking = rig.flow_bytes("asking", Bytes::from(serde_json::to_vec(&chain(1)).unwrap()), {
        hex_sha256(&serde_json::to_vec(&chain(1)).unwrap())
    });
    let asking = asking.await;
    let plain = rig.flow(&chain(0)).await;
    let broken = rig.submit_one(rig.run(&asking, "x")).await;
    let view = rig.state(broken, RunState::Failed).await;
    assert_eq!(view.attempts.len(), 1);
    let fine = rig.submit_one(rig.run(&plain, "y")).await;
    rig.state(fine, RunState::Succeeded).await;
    assert!(worker.readiness.report().ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_while_costs_nothing_but_time() {
    let rig = Rig::new(mock::Config {
        latency_ms: 100,
        jitter_ms: 200,
        ..mock::Config::default()
    })
    .await;
    let worker = rig.worker(|config| config.slots = 8).await;
    let flow = rig.flow(&chain(1)).await;
    let runs: Vec<_> = (0..40).map(|n| rig.run(&flow, &format!("run {n}"))).collect();
    let ids = rig.submit(&runs).await;
    rig.event(ids[0], EventKind::NodeStarted, 1).await;
    rig.store.away.store(true, Ordering::SeqCst);
    crate::rig::until("the worker says that the store is away", || async {
        let report = worker.readiness.report();
        (!report.ready && !report.checks["store"].ok).then_some(())
    })
    .await;
    // Everything that was executing has ended by now and waits for the store.
    let asked = crate::rig::until("the model has answered all that asked it", || async {
        let asked = rig.mock.requests();
        (rig.mock.answered() == asked).then_some(asked)
    })
    .await;
    assert!(
        asked < 40,
        "a worker that cannot claim takes nothing new: {asked}"
    );
    rig.store.away.store(false, Ordering::SeqCst);
    for id in ids {
        rig.state(id, RunState::Succeeded).await;
    }
    assert_eq!(rig.mock.requests(), 40, "nothing was executed twice");
    crate::rig::until("the worker is ready again", || async {
        worker.readiness.report().ready.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_store_refuses_fails_its_run() {
    let rig = Rig::new(mock::Config::default()).await;
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(0)).await;
    rig.store.refuse_finish.store(true, Ordering::SeqCst);
    let ids = rig
        .submit(&[rig.run(&flow, "a"), rig.run(&flow, "b"), rig.run(&flow, "c")])
        .await;
    for id in ids {
        let view = rig.state(id, RunState::Failed).await;
        assert_eq!(view.error.unwrap().code, "result_refused");
    }
}

/// Each write under a lease is carried out, its answer lost, and the write repeated.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_repeat_no_event() {
    let rig = Rig::new(slow(50)).await;
    let worker = rig.worker(|config| config.slots = 1).await;
    let flow = rig.flow(&chain(2)).await;
    rig.store.unheard.store(true, Ordering::SeqCst);
    let run = rig.run(&flow, "x");
    let mut live = rig.bus.subscribe(run.id).await.unwrap();
    let id = rig.submit_one(run).await;
    rig.state(id, RunState::Succeeded).await;

    let events = rig.events(id).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    use EventKind::{NodeFinished, NodeStarted, RunQueued, RunStarted, RunSucceeded};
    let node = [NodeStarted, NodeFinished];
    assert_eq!(
        kinds,
        [
            &[RunQueued, RunStarted][..],
            &node,
            &node,
            &node,
            &node,
            &[RunSucceeded]
        ]
        .concat()
    );
    // Listeners heard of each of them, of the end too, once and in order.
    assert_eq!(heard(&mut live, events.len() - 2).await, events[2..]);
    drop(worker);
    let read = rig.store.histories_of(&[id]).await.unwrap();
    assert_eq!(check(&read.runs[0], read.now, SLACK), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_handed_back_once_though_the_answer_is_lost() {
    let rig = Rig::new(slow(60_000)).await;
    let worker = rig.worker(|config| config.slots = 1).await;
    let flow = rig.flow(&chain(1)).await;
    rig.store.unheard.store(true, Ordering::SeqCst);
    let run = rig.run(&flow, "x");
    let mut live = rig.bus.subscribe(run.id).await.unwrap();
    let id = rig.submit_one(run).await;
    rig.event(id, NodeStarted, 2).await;
    worker.shutdown.drain();
    worker.ended(DEADLINE).await;

    let events = rig.events(id).await;
    let kinds: Vec<_> = events[2..].iter().map(|event| event.kind).collect();
    use EventKind::{NodeFinished, NodeStarted, RunInterrupted, RunQueued};
    let expected = [NodeStarted, NodeFinished, NodeStarted, RunInterrupted, RunQueued];
    assert_eq!(kinds, expected);
    assert_eq!(heard(&mut live, expected.len()).await, events[2..]);
    let read = rig.store.histories_of(&[id]).await.unwrap();
    assert_eq!(check(&read.runs[0], read.now, SLACK), []);
}

/// The next stored events that a listener hears of, at least `count`.
async fn heard(live: &mut LiveStream, count: usize) -> Vec<RunEvent> {
    let mut heard = Vec::new();
    let listening = async {
        while heard.len() < count {
            if let Live::Events { events } = live.next().await.expect("the stream lasts") {
                heard.extend(events);
            }
        }
    };
    tokio::time::timeout(DEADLINE, listening).await.unwrap();
    heard
}
