//! Leases: a crashed worker's run goes on elsewhere, a lost lease stops its execution, spent messages do nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use flowfleet_core::RunState;
use flowfleet_core::event::EventKind;
use flowfleet_core::port::LeaseStore as _;
use flowfleet_core::run::EndedBecause;
use flowfleet_core::{RunId, WorkerId};
use flowfleet_mock_model as mock;

use crate::flows::{answer, chain};
use crate::rig::{Rig, Running, until};

const TTL: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_worker_s_run_goes_on_where_it_was() {
    let rig = Rig::new(mock::Config {
        latency_ms: 400,
        ..mock::Config::default()
    })
    .await;
    let first = rig.worker(|config| config.lease_s = 1.0).await;
    let flow = rig.flow(&chain(3)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    // Chat input and the first model.
    rig.event(id, EventKind::NodeFinished, 2).await;
    drop(first);
    let _upkeep = rig.upkeep();
    let second = rig.worker(|_| {}).await;
    let view = rig.state(id, RunState::Succeeded).await;

    assert_eq!(rig.output(&view).await, answer(3, "x"));
    assert_eq!(
        rig.mock.counts()["x"],
        1,
        "the node that had finished is not paid for twice"
    );
    assert_eq!(rig.mock.counts()[&answer(2, "x")], 1);
    assert_eq!(
        (view.attempt, view.interruptions),
        (1, 1),
        "a lost machine is no failure of the flow"
    );
    let ends: Vec<_> = view.attempts.iter().map(|a| a.ended_because.unwrap()).collect();
    assert_eq!(ends, [EndedBecause::WorkerLost, EndedBecause::Succeeded]);
    assert_eq!(view.attempts[1].worker, second.id);
    assert!(view.attempts[1].nodes_reused >= 2);
    // Three models answered once each in the usage, whoever paid.
    let alone = rig.submit_one(rig.run(&flow, "x")).await;
    let whole = rig.state(alone, RunState::Succeeded).await.usage;
    assert_eq!(view.usage, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_stops_the_execution() {
    let rig = Rig::new(mock::Config {
        latency_ms: 3_000,
        ..mock::Config::default()
    })
    .await;
    let _worker = rig
        .worker(|config| {
            config.slots = 1;
            config.lease_s = 0.6;
        })
        .await;
    let (slow, quick) = (rig.flow(&chain(1)).await, rig.flow(&chain(0)).await);
    let id = rig.submit_one(rig.run(&slow, "x")).await;
    rig.event(id, EventKind::NodeStarted, 2).await;
    rig.store.lost.store(true, Ordering::SeqCst);
    // The one slot is free again long before the model answers.
    let next = rig.submit_one(rig.run(&quick, "y")).await;
    rig.state(next, RunState::Succeeded).await;
    assert_eq!(rig.mock.answered(), 0, "the call to the model was given up");
    let view = rig.get(id).await;
    assert_eq!(
        view.state,
        RunState::Running,
        "a worker without a lease writes nothing: {view:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nobody_renews_is_given_up_after_its_term() {
    let rig = Rig::new(mock::Config {
        latency_ms: 6_000,
        ..mock::Config::default()
    })
    .await;
    let worker = rig.worker(|config| config.lease_s = 0.6).await;
    let flow = rig.flow(&chain(1)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    rig.event(id, EventKind::NodeStarted, 2).await;
    until("the call reached the model", || async {
        (rig.mock.requests() == 1).then_some(())
    })
    .await;
    until("presence shows it", || async {
        (busy(&rig, &worker).await == 1).then_some(())
    })
    .await;
    rig.store.away.store(true, Ordering::SeqCst);
    until("the worker holds nothing", || async {
        (busy(&rig, &worker).await == 0).then_some(())
    })
    .await;
    rig.store.away.store(false, Ordering::SeqCst);
    let _upkeep = rig.upkeep();
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::WorkerLost));
    assert_eq!(rig.output(&view).await, answer(1, "x"));
}

async fn busy(rig: &Rig, worker: &Running) -> u32 {
    let seen = rig.bus.workers().await.unwrap();
    seen.iter()
        .find(|seen| seen.id == worker.id)
        .expect("the worker is present")
        .busy
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_for_runs_that_others_hold_or_nobody_knows_are_spent() {
    let rig = Rig::new(mock::Config::default()).await;
    let flow = rig.flow(&chain(0)).await;
    let taken = rig.submit_one(rig.run(&flow, "x")).await;
    let other = WorkerId::generate();
    rig.store
        .claim(other, &Default::default(), &[taken], TTL)
        .await
        .unwrap();
    let unknown = flowfleet_core::port::Envelope {
        pool: "default".parse().unwrap(),
        priority: flowfleet_core::Priority::Normal,
        message: flowfleet_core::RunMessage::new(RunId::generate(), None),
    };
    rig.queue.publish(&[unknown]).await.unwrap();
    let worker = rig.worker(|_| {}).await;
    let mine = rig.submit_one(rig.run(&flow, "y")).await;
    rig.state(mine, RunState::Succeeded).await;
    let view = rig.get(taken).await;
    assert_eq!((view.state, view.worker), (RunState::Running, Some(other)));
    drop(worker);
    // Unacknowledged messages would have come back.
    let depth = rig.queue.depth(&"default".parse().unwrap()).await.unwrap();
    assert_eq!(depth.total(), 0);
}
