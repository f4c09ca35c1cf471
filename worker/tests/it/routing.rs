//! Runs reach only workers that can execute them, over memory and over RabbitMQ.

use std::time::Duration;

use flowfleet_core::run::NewRun;
use flowfleet_core::{Capability, Pool, RunId, RunState};
use flowfleet_mock_model as mock;

use crate::flows::{answer, chain};
use crate::rig::{DEADLINE, Rig, until};
use crate::services::Services;

/// A flow that is said to need more than its components do: what executes it here is the native engine.
async fn needing(rig: &Rig, needs: &Capability, input: &str) -> NewRun {
    let flow = rig.flow(&chain(1)).await;
    let mut run = rig.run(&flow, input);
    run.needs = needs.clone();
    run
}

async fn ends_on(rig: &Rig, run: RunId, worker: flowfleet_core::WorkerId) {
    let view = rig.state(run, RunState::Succeeded).await;
    assert_eq!(view.attempts.len(), 1);
    assert_eq!(view.attempts[0].worker, worker);
}

/// Runs follow what workers can do, whatever the broker.
async fn follows(rig: &Rig) {
    let native = rig.worker(|_| {}).await;
    let python = Capability::python();
    let run = needing(rig, &python, "snake").await;
    let pool = run.pool();
    let waits = rig.submit_one(run).await;
    let others: Vec<_> = (0..20).map(|n| format!("plain {n}")).collect();
    let flow = rig.flow(&chain(1)).await;
    let runs: Vec<_> = others.iter().map(|input| rig.run(&flow, input)).collect();
    for id in rig.submit(&runs).await {
        ends_on(rig, id, native.id).await;
    }
    // All that came after it has ended, and its message lies untouched in a queue of its own.
    until("its message waits", async || {
        (rig.queue.depth(&pool).await.unwrap().total() == 1).then_some(())
    })
    .await;
    assert_eq!(rig.get(waits).await.state, RunState::Queued);

    let able = rig.worker(|_| {}).await;
    able.abilities.add(python.clone());
    ends_on(rig, waits, able.id).await;
    let presence = until("its presence says so", async || {
        let workers = rig.bus.workers().await.unwrap();
        workers
            .into_iter()
            .find(|worker| worker.id == able.id && worker.capabilities.has(&python))
    })
    .await;
    assert!(presence.capabilities.has(&Capability::native()));

    // It loses the ability, another gains it.
    able.abilities.remove(&python);
    until("its presence says so", async || {
        let workers = rig.bus.workers().await.unwrap();
        let worker = workers.into_iter().find(|worker| worker.id == able.id)?;
        (!worker.capabilities.has(&python)).then_some(())
    })
    .await;
    let next = rig.submit_one(needing(rig, &python, "again").await).await;
    native.abilities.add(python);
    ends_on(rig, next, native.id).await;
    assert_eq!(rig.output(&rig.get(next).await).await, answer(1, "again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_follow_what_workers_can_do_in_memory() {
    follows(&Rig::new(mock::Config::default()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_follow_what_workers_can_do_on_rabbitmq() {
    let services = Services::create();
    follows(&services.rig(mock::Config::default()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_native_leaves_native_runs_alone() {
    let rig = Rig::new(mock::Config::default()).await;
    let special = rig
        .worker(|config| config.capabilities = vec!["torch".to_owned()])
        .await;
    let plain = rig
        .submit_one(needing(&rig, &Capability::native(), "plain").await)
        .await;
    let torch = "torch".parse().unwrap();
    let run = rig.submit_one(needing(&rig, &torch, "heavy").await).await;
    ends_on(&rig, run, special.id).await;
    assert_eq!(rig.get(plain).await.state, RunState::Queued);
    special.abilities.remove(&torch);
    until("it says that it can do nothing", async || {
        (!special.readiness.report().ready).then_some(())
    })
    .await;
    special.abilities.add(Capability::native());
    ends_on(&rig, plain, special.id).await;
    special.shutdown.drain();
    special.ended(DEADLINE).await;
}

/// A message that lies in the wrong queue moves nothing: the store knows what the run needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_the_wrong_queue_is_spent() {
    let rig = Rig::new(mock::Config::default()).await;
    let native = rig.worker(|_| {}).await;
    let run = needing(&rig, &Capability::python(), "snake").await;
    let envelope = flowfleet_core::port::Envelope {
        pool: Pool::from(run.queue.clone()),
        priority: run.priority,
        message: flowfleet_core::RunMessage::new(run.id, None),
    };
    let id = rig.submit_one(run).await;
    rig.queue.publish(std::slice::from_ref(&envelope)).await.unwrap();
    until("the message is spent", async || {
        (rig.queue.depth(&envelope.pool).await.unwrap().total() == 0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.get(id).await.state, RunState::Queued);
    native.abilities.add(Capability::python());
    ends_on(&rig, id, native.id).await;
}
