//! Drains: short runs finish, long ones are handed back with their checkpoints, a second request stops at once.

use std::time::{Duration, Instant};

use flowfleet_core::RunState;
use flowfleet_core::event::EventKind;
use flowfleet_core::run::EndedBecause;
use flowfleet_mock_model as mock;

use crate::flows::{answer, chain};
use crate::rig::{DEADLINE, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_short_runs_and_hands_back_long_ones() {
    let rig = Rig::new(mock::Config {
        latency_ms: 700,
        ..mock::Config::default()
    })
    .await;
    let worker = rig.worker(|config| config.drain_s = 1.2).await;
    let (short, long) = (rig.flow(&chain(1)).await, rig.flow(&chain(4)).await);
    let long = rig.submit_one(rig.run(&long, "long")).await;
    rig.event(long, EventKind::NodeFinished, 2).await;
    let short = rig.submit_one(rig.run(&short, "short")).await;
    rig.event(short, EventKind::NodeStarted, 2).await;
    worker.shutdown.drain();
    let late = rig.flow(&chain(0)).await;
    let late = rig.submit_one(rig.run(&late, "late")).await;
    assert!(!worker.readiness.report().ready || worker.shutdown.draining.is_cancelled());
    worker.ended(DEADLINE).await;

    assert_eq!(rig.get(short).await.state, RunState::Succeeded);
    assert_eq!(
        rig.get(late).await.state,
        RunState::Queued,
        "a draining worker takes nothing"
    );
    let view = rig.get(long).await;
    assert_eq!((view.state, view.interruptions), (RunState::Queued, 1));
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::Interrupted));
    assert!(rig.bus.workers().await.unwrap().is_empty());
    // Handed back and announced: no leader is needed for another worker to go on.
    let _second = rig.worker(|_| {}).await;
    let view = rig.state(long, RunState::Succeeded).await;
    assert_eq!(rig.output(&view).await, answer(4, "long"));
    let counts = rig.mock.counts();
    assert_eq!(
        (counts["long"], counts[&answer(1, "long")]),
        (1, 1),
        "finished nodes: {counts:?}"
    );
    assert!(view.attempts[1].nodes_reused >= 3);
    rig.state(late, RunState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_ends_at_once() {
    let rig = Rig::new(mock::Config::default()).await;
    let worker = rig.worker(|config| config.drain_s = 600.0).await;
    let began = Instant::now();
    worker.shutdown.drain();
    worker.ended(DEADLINE).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_request_stops_at_once_and_still_hands_back() {
    let rig = Rig::new(mock::Config {
        latency_ms: 60_000,
        ..mock::Config::default()
    })
    .await;
    let worker = rig.worker(|config| config.drain_s = 600.0).await;
    let flow = rig.flow(&chain(1)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    rig.event(id, EventKind::NodeStarted, 2).await;
    worker.shutdown.drain();
    let began = Instant::now();
    worker.shutdown.stop_now();
    worker.ended(DEADLINE).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let view = rig.get(id).await;
    assert_eq!((view.state, view.interruptions), (RunState::Queued, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_without_a_store_ends_and_loses_nothing() {
    let rig = Rig::new(mock::Config {
        latency_ms: 300,
        ..mock::Config::default()
    })
    .await;
    let worker = rig.worker(|config| config.lease_s = 1.0).await;
    let flow = rig.flow(&chain(2)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    rig.event(id, EventKind::NodeFinished, 2).await;
    rig.store.away.store(true, std::sync::atomic::Ordering::SeqCst);
    worker.shutdown.drain();
    worker.shutdown.stop_now();
    worker.ended(DEADLINE).await;
    rig.store.away.store(false, std::sync::atomic::Ordering::SeqCst);
    let _upkeep = rig.upkeep();
    let _second = rig.worker(|_| {}).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(rig.output(&view).await, answer(2, "x"));
    assert_eq!(rig.mock.counts()["x"], 1);
}
