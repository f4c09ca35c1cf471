//! Workers that are told to drain and to accept again, and one that is given nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::event::EventKind;
use flowfleet_core::port::{
    Consumer, Delivery, Depth, Envelope, FleetStore as _, Queue, Receipt, Result, Wish,
};
use flowfleet_core::port::{WorkerPresence, WorkerState};
use flowfleet_core::run::EndedBecause;
use flowfleet_core::{Pool, RunState, WorkerId};
use flowfleet_mock_model as mock;

use crate::flows::{answer, chain};
use crate::rig::{Rig, until};

fn slow(latency_ms: u64) -> mock::Config {
    mock::Config {
        latency_ms,
        ..mock::Config::default()
    }
}

pub(crate) async fn presence(rig: &Rig, id: WorkerId) -> Option<WorkerPresence> {
    let present = rig.bus.workers().await.unwrap();
    present.into_iter().find(|worker| worker.id == id)
}

async fn is(rig: &Rig, id: WorkerId, state: WorkerState) {
    until(&format!("the worker is {state:?}"), async || {
        presence(rig, id).await.filter(|worker| worker.state == state)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_handed_off_between_two_nodes() {
    let rig = Rig::new(slow(2_500)).await;
    let first = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(3)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    rig.event(id, EventKind::NodeStarted, 2).await;
    let now = Some(Duration::ZERO);
    rig.store
        .wish(first.id, Wish::Drain { handoff: now })
        .await
        .unwrap();
    let given = rig.event(id, EventKind::RunInterrupted, 1).await;
    assert_eq!(given.data.value()["reason"], "handed_off");
    is(&rig, first.id, WorkerState::Drained).await;

    // Drained, it takes nothing: the run waits for another.
    assert_eq!(rig.get(id).await.state, RunState::Queued);
    let second = rig.worker(|_| {}).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(rig.output(&view).await, answer(3, "x"));
    let attempts: Vec<_> = view
        .attempts
        .iter()
        .map(|a| (a.worker, a.attempt, a.ended_because))
        .collect();
    assert_eq!(
        attempts,
        [
            (first.id, 1, Some(EndedBecause::HandedOff)),
            (second.id, 1, Some(EndedBecause::Succeeded))
        ]
    );
    assert_eq!((view.attempt, view.interruptions), (1, 0));
    let counts = rig.mock.counts();
    assert!(
        counts.values().all(|asked| *asked == 1),
        "nothing is paid for twice: {counts:?}"
    );

    // The other way around.
    rig.store
        .wish(second.id, Wish::Drain { handoff: None })
        .await
        .unwrap();
    is(&rig, second.id, WorkerState::Drained).await;
    rig.store.wish(first.id, Wish::Accept).await.unwrap();
    is(&rig, first.id, WorkerState::Accepting).await;
    let id = rig.submit_one(rig.run(&flow, "y")).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(view.attempts.len(), 1);
    assert_eq!(view.attempts[0].worker, first.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_hand_off_runs_end_where_they_are() {
    let rig = Rig::new(slow(2_500)).await;
    let worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(2)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    rig.event(id, EventKind::NodeStarted, 2).await;
    rig.store
        .wish(worker.id, Wish::Drain { handoff: None })
        .await
        .unwrap();
    is(&rig, worker.id, WorkerState::Draining).await;
    let late = rig.submit_one(rig.run(&flow, "late")).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!((view.attempts.len(), view.interruptions), (1, 0));
    is(&rig, worker.id, WorkerState::Drained).await;
    assert_eq!(rig.get(late).await.state, RunState::Queued);
    rig.store.wish(worker.id, Wish::Accept).await.unwrap();
    rig.state(late, RunState::Succeeded).await;
}

/// A queue whose first consumer is connected and given nothing.
#[derive(Debug)]
struct Deaf {
    inner: Arc<dyn Queue>,
    used: AtomicBool,
}

#[derive(Debug)]
struct Silence;

#[async_trait]
impl Queue for Deaf {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<()> {
        self.inner.publish(envelopes).await
    }

    async fn consume(&self, pools: &[Pool], prefetch: u16) -> Result<Box<dyn Consumer>> {
        if self.used.swap(true, Ordering::SeqCst) {
            return self.inner.consume(pools, prefetch).await;
        }
        Ok(Box::new(Silence))
    }

    async fn depth(&self, pool: &Pool) -> Result<Depth> {
        self.inner.depth(pool).await
    }

    async fn ping(&self, timeout: Duration) -> Result<()> {
        self.inner.ping(timeout).await
    }
}

#[async_trait]
impl Consumer for Silence {
    async fn receive(&mut self, _max: usize) -> Result<Vec<Delivery>> {
        std::future::pending().await
    }

    async fn ack(&mut self, _receipts: &[Receipt]) -> Result<()> {
        Ok(())
    }

    async fn reject(&mut self, _receipts: &[Receipt]) -> Result<()> {
        Ok(())
    }

    async fn pause(&mut self) -> Result<()> {
        Ok(())
    }

    fn connected(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_given_nothing_is_replaced() {
    let mut rig = Rig::new(mock::Config::default()).await;
    rig.queue = Arc::new(Deaf {
        inner: Arc::clone(&rig.queue),
        used: AtomicBool::new(false),
    });
    let worker = rig.worker(|config| config.stall_s = 2.0).await;
    assert!(worker.readiness.report().ready);
    let flow = rig.flow(&chain(1)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(view.attempts[0].worker, worker.id);
    until("it is ready again", async || {
        worker.readiness.report().ready.then_some(())
    })
    .await;
}
