//! The relay against a queue and an outbox that fail on demand: nothing is lost, memory is bounded, stopping is at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flowfleet_core::error::Kind;
use flowfleet_core::port::{Envelope, OutboxRow};
use flowfleet_core::{Priority, RunId, RunMessage};
use flowfleet_runtime::Relay;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fakes::{FakeOutbox, FakeQueue};

const DEADLINE: Duration = Duration::from_secs(60);

fn row(id: i64, envelopes: usize) -> OutboxRow {
    row_of("default", id, envelopes)
}

fn row_of(queue: &str, id: i64, envelopes: usize) -> OutboxRow {
    let envelope = || Envelope {
        pool: queue.parse().unwrap(),
        priority: Priority::Normal,
        message: RunMessage::new(RunId::generate(), None),
    };
    OutboxRow {
        id,
        envelopes: (0..envelopes).map(|_| envelope()).collect(),
    }
}

#[tokio::test]
async fn every_row_is_published_then_deleted() {
    let (queue, outbox) = (Arc::new(FakeQueue::default()), Arc::new(FakeOutbox::default()));
    let relay = Relay::spawn(outbox.clone(), queue.clone(), CancellationToken::new());
    for id in 0..500 {
        relay.send(row(id, 2));
    }
    timeout(DEADLINE, relay.idle()).await.unwrap();
    let groups: Vec<usize> = queue.published.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(groups.iter().sum::<usize>(), 1_000);
    assert!(
        groups.len() < 500,
        "rows that wait together are published together: {groups:?}"
    );
    let mut done = outbox.done.lock().unwrap().clone();
    done.sort_unstable();
    assert_eq!(done, (0..500).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_broker_and_a_store_that_are_away_are_waited_for() {
    let (queue, outbox) = (Arc::new(FakeQueue::default()), Arc::new(FakeOutbox::default()));
    queue.failures.store(3, Ordering::SeqCst);
    outbox.failures.store(2, Ordering::SeqCst);
    let relay = Relay::spawn(outbox.clone(), queue.clone(), CancellationToken::new());
    relay.send(row(1, 3));
    assert!(
        timeout(Duration::from_millis(50), relay.idle()).await.is_err(),
        "not idle while rows wait"
    );
    timeout(DEADLINE, relay.idle()).await.unwrap();
    assert_eq!(queue.published.lock().unwrap().len(), 1);
    assert_eq!(*outbox.done.lock().unwrap(), [1]);
}

#[tokio::test]
async fn memory_is_bounded_and_stopping_is_at_once() {
    let (queue, outbox) = (Arc::new(FakeQueue::default()), Arc::new(FakeOutbox::default()));
    queue.failures.store(u32::MAX, Ordering::SeqCst);
    let stop = CancellationToken::new();
    let relay = Relay::spawn(outbox.clone(), queue.clone(), stop.clone());
    for id in 0..300 {
        relay.send(row(id, 1_000));
    }
    queue.failures.store(0, Ordering::SeqCst);
    timeout(DEADLINE, relay.idle()).await.unwrap();
    let done = outbox.done.lock().unwrap().len();
    assert!(
        (200..300).contains(&done),
        "the rest is left to the sweep: {done}"
    );

    queue.failures.store(u32::MAX, Ordering::SeqCst);
    relay.send(row(999, 1));
    stop.cancel();
    timeout(DEADLINE, relay.idle()).await.unwrap();
    relay.send(row(1_000, 1));
    assert_eq!(outbox.done.lock().unwrap().len(), done);
}

/// One pool that the broker refuses, for good or for now, must not keep the messages of all others back.
#[tokio::test]
async fn a_refused_pool_holds_up_no_other() {
    for kind in [Kind::Permanent, Kind::Retryable] {
        let (queue, outbox) = (Arc::new(FakeQueue::default()), Arc::new(FakeOutbox::default()));
        *queue.refused.lock().unwrap() = Some(("bad".parse().unwrap(), kind));
        let relay = Relay::spawn(outbox.clone(), queue.clone(), CancellationToken::new());
        relay.send(row_of("bad", 1, 2));
        relay.send(row_of("good", 2, 3));
        let mut both = row_of("bad", 3, 1);
        both.envelopes.extend(row_of("good", 3, 1).envelopes);
        relay.send(both);
        timeout(DEADLINE, relay.idle()).await.unwrap();
        let published: Vec<String> = queue
            .published
            .lock()
            .unwrap()
            .iter()
            .flatten()
            .map(|e| e.pool.to_string())
            .collect();
        assert_eq!(published, ["good"; 4], "{kind:?}");
        let mut done = outbox.done.lock().unwrap().clone();
        done.sort_unstable();
        assert_eq!(
            done,
            [1, 2, 3],
            "what is refused is the reconciler's, or its rows would fill the outbox"
        );
        relay.send(row_of("good", 4, 1));
        timeout(DEADLINE, relay.idle()).await.unwrap();
        assert_eq!(queue.published.lock().unwrap().iter().flatten().count(), 5);
    }
}

#[tokio::test]
async fn a_row_that_the_sweep_brings_again_is_published_once() {
    let (queue, outbox) = (Arc::new(FakeQueue::default()), Arc::new(FakeOutbox::default()));
    queue.failures.store(2, Ordering::SeqCst);
    let relay = Relay::spawn(outbox.clone(), queue.clone(), CancellationToken::new());
    for _ in 0..50 {
        relay.send(row(7, 10));
    }
    timeout(DEADLINE, relay.idle()).await.unwrap();
    assert_eq!(queue.published.lock().unwrap().iter().flatten().count(), 10);
    assert_eq!(*outbox.done.lock().unwrap(), [7]);
    // Deleted and yet sent again: a delete that the store undid.
    relay.send(row(7, 10));
    timeout(DEADLINE, relay.idle()).await.unwrap();
    assert_eq!(queue.published.lock().unwrap().iter().flatten().count(), 20);
}
