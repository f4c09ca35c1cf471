//! What every queue must do. Each case uses a pool of its own, so all may run on one queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::message::{RunMessage, TraceContext};
use flowfleet_core::pool::Pool;
use flowfleet_core::port::{Depth, Queue, Receipt};
use flowfleet_core::run::Priority;
use tokio::time::timeout;

use crate::support::{
    depth_becomes, envelope, envelopes, normal, nothing, pool, receipts, receive, runs, runs_of,
};

/// The pools the suite uses.
pub(crate) const POOLS: &[&str] = &[
    "roundtrip",
    "weights",
    "prefetch",
    "pause",
    "share",
    "drop",
    "reject",
    "many",
    "cancel",
    "void",
    "two-a",
    "two-b",
];

/// The whole suite.
pub(crate) async fn suite(queue: Arc<dyn Queue>) {
    queue.ping(Duration::from_secs(5)).await.unwrap();
    let queue = &*queue;
    round_trip(queue).await;
    weights(queue).await;
    prefetch_bounds(queue).await;
    pause_gives_back(queue).await;
    two_consumers_share(queue).await;
    unacknowledged_come_back(queue).await;
    rejected_go_to_others(queue).await;
    five_thousand(queue).await;
    receive_may_be_cancelled(queue).await;
    void_receipts_are_ignored(queue).await;
    two_pools(queue).await;
    needs_are_kept_apart(queue).await;
}

async fn round_trip(queue: &dyn Queue) {
    let pool = pool("roundtrip");
    assert_eq!(
        queue.depth(&pool).await.unwrap(),
        Depth::default(),
        "an unknown pool is empty"
    );
    queue.publish(&[]).await.unwrap();
    let mut sent = Vec::new();
    for priority in Priority::ALL {
        let mut envelope = envelope(&pool, priority);
        envelope.message = RunMessage::new(
            envelope.message.run,
            Some(TraceContext {
                traceparent: "00-1-2-01".to_owned(),
                tracestate: Some("k=v".to_owned()),
            }),
        );
        sent.push(envelope);
    }
    queue.publish(&sent).await.unwrap();
    depth_becomes(
        queue,
        &pool,
        Depth {
            high: 1,
            normal: 1,
            low: 1,
        },
    )
    .await;
    let mut consumer = queue.consume(&[pool.clone(), pool.clone()], 10).await.unwrap();
    let got = receive(&mut *consumer, 3).await;
    assert!(consumer.connected());
    for envelope in &sent {
        let delivery = got
            .iter()
            .find(|d| d.message.run == envelope.message.run)
            .unwrap();
        assert_eq!(
            (&delivery.pool, delivery.priority),
            (&envelope.pool, envelope.priority)
        );
        assert_eq!(delivery.message, envelope.message);
    }
    depth_becomes(queue, &pool, Depth::default()).await;
    let mut twice = receipts(&got);
    twice.extend(receipts(&got));
    consumer.ack(&twice).await.unwrap();
    consumer.ack(&receipts(&got)).await.unwrap();
    drop(consumer);
    let mut next = queue.consume(&[pool], 10).await.unwrap();
    nothing(&mut *next).await;
}

/// With all three filled the first hundred are about 60, 30 and 10, spread evenly.
async fn weights(queue: &dyn Queue) {
    let pool = pool("weights");
    for priority in Priority::ALL {
        queue.publish(&envelopes(&pool, priority, 150)).await.unwrap();
    }
    let mut consumer = queue.consume(std::slice::from_ref(&pool), 200).await.unwrap();
    depth_becomes_or_waits(queue, &pool).await;
    let mut got = Vec::new();
    for _ in 0..10 {
        got.extend(receive(&mut *consumer, 10).await);
    }
    let count = |priority| got.iter().filter(|d| d.priority == priority).count();
    let counts = (
        count(Priority::High),
        count(Priority::Normal),
        count(Priority::Low),
    );
    assert!(
        (55..=65).contains(&counts.0) && (25..=35).contains(&counts.1),
        "{counts:?}"
    );
    assert!((5..=15).contains(&counts.2), "{counts:?}");
    assert!(
        got[..20].iter().any(|d| d.priority == Priority::Low),
        "low waits its turn, not the end"
    );
    let rest = receive(&mut *consumer, 350).await;
    consumer.ack(&receipts(&got)).await.unwrap();
    consumer.ack(&receipts(&rest)).await.unwrap();
}

/// A broker that pushes has pushed all once nothing is ready; one that does not is ready at any time.
async fn depth_becomes_or_waits(queue: &dyn Queue, pool: &Pool) {
    let all = Depth {
        high: 150,
        normal: 150,
        low: 150,
    };
    if queue.depth(pool).await.unwrap() != all {
        depth_becomes(queue, pool, Depth::default()).await;
    }
}

async fn prefetch_bounds(queue: &dyn Queue) {
    let pool = pool("prefetch");
    let sent = envelopes(&pool, Priority::Normal, 12);
    queue.publish(&sent).await.unwrap();
    let mut consumer = queue.consume(std::slice::from_ref(&pool), 5).await.unwrap();
    let first = receive(&mut *consumer, 5).await;
    nothing(&mut *consumer).await;
    consumer.ack(&receipts(&first[..2])).await.unwrap();
    let second = receive(&mut *consumer, 2).await;
    nothing(&mut *consumer).await;
    consumer.ack(&receipts(&first)).await.unwrap();
    consumer.ack(&receipts(&second)).await.unwrap();
    let third = receive(&mut *consumer, 5).await;
    let seen: BTreeSet<_> = [first, second, third].iter().flat_map(|d| runs(d)).collect();
    assert_eq!(seen, runs_of(&sent));
    drop(consumer);
    depth_becomes(queue, &pool, normal(5)).await;
}

async fn pause_gives_back(queue: &dyn Queue) {
    let pool = pool("pause");
    let sent = envelopes(&pool, Priority::Normal, 20);
    queue.publish(&sent).await.unwrap();
    let mut hoarder = queue.consume(std::slice::from_ref(&pool), 100).await.unwrap();
    let kept = receive(&mut *hoarder, 3).await;
    hoarder.pause().await.unwrap();
    hoarder.pause().await.unwrap();
    depth_becomes(queue, &pool, normal(17)).await;
    let mut other = queue.consume(std::slice::from_ref(&pool), 100).await.unwrap();
    let got = receive(&mut *other, 17).await;
    assert!(runs(&got).is_disjoint(&runs(&kept)));
    // What was handed out before the pause can still be settled after it.
    hoarder.ack(&receipts(&kept)).await.unwrap();
    other.reject(&receipts(&got[..4])).await.unwrap();
    other.ack(&receipts(&got[4..])).await.unwrap();
    other.pause().await.unwrap();
    let again = receive(&mut *hoarder, 4).await;
    assert_eq!(runs(&again), runs(&got[..4]));
    hoarder.ack(&receipts(&again)).await.unwrap();
    drop((hoarder, other));
    let mut last = queue.consume(&[pool], 100).await.unwrap();
    nothing(&mut *last).await;
}

async fn two_consumers_share(queue: &dyn Queue) {
    let pool = pool("share");
    let mut one = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
    let mut two = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
    let sent = envelopes(&pool, Priority::Normal, 20);
    queue.publish(&sent).await.unwrap();
    let (a, b) = tokio::join!(receive(&mut *one, 10), receive(&mut *two, 10));
    assert!(runs(&a).is_disjoint(&runs(&b)));
    assert_eq!(&runs(&a) | &runs(&b), runs_of(&sent));
    one.ack(&receipts(&a)).await.unwrap();
    two.ack(&receipts(&b)).await.unwrap();
}

async fn unacknowledged_come_back(queue: &dyn Queue) {
    let pool = pool("drop");
    let sent = envelopes(&pool, Priority::High, 10);
    queue.publish(&sent).await.unwrap();
    let mut consumer = queue.consume(std::slice::from_ref(&pool), 8).await.unwrap();
    let got = receive(&mut *consumer, 6).await;
    consumer.ack(&receipts(&got[..2])).await.unwrap();
    drop(consumer);
    let mut next = queue.consume(std::slice::from_ref(&pool), 100).await.unwrap();
    let rest = receive(&mut *next, 8).await;
    assert_eq!(&runs(&rest) | &runs(&got[..2]), runs_of(&sent));
    next.ack(&receipts(&rest)).await.unwrap();
    nothing(&mut *next).await;
}

async fn rejected_go_to_others(queue: &dyn Queue) {
    let pool = pool("reject");
    let sent = envelopes(&pool, Priority::Low, 3);
    queue.publish(&sent).await.unwrap();
    let mut one = queue.consume(std::slice::from_ref(&pool), 3).await.unwrap();
    let got = receive(&mut *one, 3).await;
    one.reject(&receipts(&got[1..])).await.unwrap();
    one.pause().await.unwrap();
    let mut two = queue.consume(std::slice::from_ref(&pool), 3).await.unwrap();
    let again = receive(&mut *two, 2).await;
    assert_eq!(runs(&again), runs(&got[1..]));
    two.ack(&receipts(&again)).await.unwrap();
    one.ack(&receipts(&got)).await.unwrap();
}

async fn five_thousand(queue: &dyn Queue) {
    let pool = pool("many");
    let sent = envelopes(&pool, Priority::Normal, 5_000);
    queue.publish(&sent).await.unwrap();
    let mut consumer = queue.consume(std::slice::from_ref(&pool), 500).await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < sent.len() {
        let got = receive(&mut *consumer, 1).await;
        let more = timeout(Duration::ZERO, consumer.receive(200)).await;
        let got: Vec<_> = got
            .into_iter()
            .chain(more.ok().into_iter().flat_map(Result::unwrap))
            .collect();
        seen.extend(runs(&got));
        consumer.ack(&receipts(&got)).await.unwrap();
    }
    assert_eq!(seen, runs_of(&sent));
    drop(consumer);
    depth_becomes(queue, &pool, Depth::default()).await;
}

/// A worker waits for messages beside other things: the wait ends at any moment and loses nothing.
async fn receive_may_be_cancelled(queue: &dyn Queue) {
    let pool = pool("cancel");
    let mut consumer = queue.consume(std::slice::from_ref(&pool), 50).await.unwrap();
    let sent = envelopes(&pool, Priority::Normal, 60);
    let mut seen = BTreeSet::new();
    let mut got = 0;
    for (round, batch) in sent.chunks(3).enumerate() {
        if round % 5 == 0 {
            consumer.pause().await.unwrap();
        }
        queue.publish(batch).await.unwrap();
        for micros in [0, 50, 400, 1_500] {
            let wait = Duration::from_micros(micros);
            if let Ok(more) = timeout(wait, consumer.receive(2)).await {
                let more = more.unwrap();
                got += more.len();
                seen.extend(runs(&more));
                consumer.ack(&receipts(&more)).await.unwrap();
            }
        }
    }
    let rest = receive(&mut *consumer, sent.len() - got).await;
    seen.extend(runs(&rest));
    consumer.ack(&receipts(&rest)).await.unwrap();
    assert_eq!(seen, runs_of(&sent));
    nothing(&mut *consumer).await;
}

async fn void_receipts_are_ignored(queue: &dyn Queue) {
    let pool = pool("void");
    queue
        .publish(&envelopes(&pool, Priority::Normal, 2))
        .await
        .unwrap();
    let mut consumer = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
    let got = receive(&mut *consumer, 2).await;
    let good = got[0].receipt;
    let void = [
        Receipt {
            generation: u64::MAX,
            ..good
        },
        Receipt { tag: 1 << 40, ..good },
        Receipt { source: 99, ..good },
    ];
    consumer.ack(&void).await.unwrap();
    consumer.reject(&void).await.unwrap();
    // Mixed with a good one they do not hide it.
    consumer.ack(&[void[0], good, void[1]]).await.unwrap();
    assert!(consumer.connected());
    drop(consumer);
    depth_becomes(queue, &pool, normal(1)).await;
}

async fn two_pools(queue: &dyn Queue) {
    let (a, b) = (pool("two-a"), pool("two-b"));
    let mut sent = envelopes(&a, Priority::Normal, 5);
    sent.extend(envelopes(&b, Priority::High, 5));
    queue.publish(&sent).await.unwrap();
    let mut consumer = queue.consume(&[a.clone(), b.clone()], 10).await.unwrap();
    let got = receive(&mut *consumer, 10).await;
    assert_eq!(runs(&got), runs_of(&sent));
    for delivery in &got {
        let home = sent
            .iter()
            .find(|e| e.message.run == delivery.message.run)
            .unwrap();
        assert_eq!((&delivery.pool, delivery.priority), (&home.pool, home.priority));
    }
    consumer.ack(&receipts(&got)).await.unwrap();
}

/// What not every consumer can execute waits in a pool of its own, though the queue's name is the same.
async fn needs_are_kept_apart(queue: &dyn Queue) {
    let native = pool("needs");
    let python: Pool = format!("{native}:python").parse().unwrap();
    let mut sent = envelopes(&native, Priority::Normal, 3);
    sent.extend(envelopes(&python, Priority::Normal, 4));
    queue.publish(&sent).await.unwrap();
    depth_becomes(queue, &python, normal(4)).await;
    let mut plain = queue.consume(std::slice::from_ref(&native), 10).await.unwrap();
    let got = receive(&mut *plain, 3).await;
    assert_eq!(runs(&got), runs_of(&sent[..3]));
    assert!(got.iter().all(|delivery| delivery.pool == native));
    plain.ack(&receipts(&got)).await.unwrap();
    depth_becomes(queue, &python, normal(4)).await;
    let mut able = queue.consume(&[native, python.clone()], 10).await.unwrap();
    let got = receive(&mut *able, 4).await;
    assert_eq!(runs(&got), runs_of(&sent[3..]));
    assert!(got.iter().all(|delivery| delivery.pool == python));
    able.ack(&receipts(&got)).await.unwrap();
}
