//! The broker goes away, hangs, and comes back: nothing is lost and everything goes on by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use flowfleet_core::port::{Consumer, Depth};
use flowfleet_core::run::Priority;
use flowfleet_queue::Options;
use tokio::time::{Instant, sleep};

use crate::proxy::Proxy;
use crate::support::{
    SOON, depth_becomes, envelopes, normal, nothing, pool, receipts, receive, runs, runs_of, with_rabbit,
};

/// How long the broker stays away.
const AWAY: Duration = Duration::from_secs(2);

async fn connected_becomes(consumer: &mut dyn Consumer, want: bool) {
    let start = Instant::now();
    while consumer.connected() != want {
        assert!(start.elapsed() < SOON, "connected() stays {}", !want);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_goes_on_after_an_outage_and_old_receipts_are_void() {
    with_rabbit(&["outage"], |rabbit| async move {
        let pool = pool("outage");
        let mut proxy = Proxy::to(&rabbit.address()).await;
        let direct = rabbit.open().await;
        let queue = flowfleet_queue::open(&rabbit.through(proxy.address), rabbit.options())
            .await
            .unwrap();
        let first = envelopes(&pool, Priority::Normal, 10);
        direct.publish(&first).await.unwrap();
        let mut consumer = queue.consume(std::slice::from_ref(&pool), 6).await.unwrap();
        let old = receive(&mut *consumer, 4).await;
        consumer.ack(&receipts(&old[..1])).await.unwrap();
        // The broker has seen the acknowledgement once it sends a seventh.
        depth_becomes(&*direct, &pool, normal(3)).await;
        proxy.cut().await;
        connected_becomes(&mut *consumer, false).await;
        // Unacknowledged and buffered messages are everybody's again.
        depth_becomes(&*direct, &pool, normal(9)).await;
        let second = envelopes(&pool, Priority::High, 5);
        direct.publish(&second).await.unwrap();
        assert!(queue.ping(Duration::from_secs(5)).await.is_err(), "down is said");
        let waiting = tokio::spawn(async move {
            let got = receive(&mut *consumer, 11).await;
            (consumer, got)
        });
        sleep(AWAY).await;
        assert!(!waiting.is_finished());
        proxy.restore().await;
        let (mut consumer, mut got) = waiting.await.unwrap();
        connected_becomes(&mut *consumer, true).await;
        queue.ping(Duration::from_secs(5)).await.unwrap();
        // Tags of the new channels begin at 1 again: an old receipt must not settle a new delivery.
        consumer.ack(&receipts(&old)).await.unwrap();
        consumer.reject(&receipts(&old)).await.unwrap();
        consumer.ack(&receipts(&got)).await.unwrap();
        let rest = receive(&mut *consumer, 3).await;
        got.extend(rest.clone());
        assert_eq!(got.len(), 14);
        let expected = &(&runs_of(&first) - &runs(&old[..1])) | &runs_of(&second);
        assert_eq!(runs(&got), expected);
        consumer.ack(&receipts(&rest)).await.unwrap();
        drop(consumer);
        depth_becomes(&*direct, &pool, Depth::default()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_loses_nothing_it_was_told_is_published() {
    with_rabbit(&["republish"], |rabbit| async move {
        let pool = pool("republish");
        let mut proxy = Proxy::to(&rabbit.address()).await;
        let queue = flowfleet_queue::open(&rabbit.through(proxy.address), rabbit.options())
            .await
            .unwrap();
        let batches: Vec<_> = (0..60).map(|_| envelopes(&pool, Priority::Normal, 50)).collect();
        let all: BTreeSet<_> = batches.iter().flat_map(|batch| runs_of(batch)).collect();
        let publishing = tokio::spawn(async move {
            for batch in batches {
                while let Err(error) = queue.publish(&batch).await {
                    assert!(error.is_retryable(), "{error}");
                }
            }
        });
        let direct = rabbit.open().await;
        let mut consumer = direct.consume(std::slice::from_ref(&pool), 100).await.unwrap();
        let mut seen = BTreeSet::new();
        let mut cuts = 0;
        while seen.len() < all.len() {
            let got = receive(&mut *consumer, 1).await;
            seen.extend(runs(&got));
            consumer.ack(&receipts(&got)).await.unwrap();
            // In the middle of the stream, twice.
            if seen.len() > (cuts + 1) * 500 && cuts < 2 {
                cuts += 1;
                proxy.cut().await;
                sleep(AWAY / 2).await;
                proxy.restore().await;
            }
        }
        publishing.await.unwrap();
        assert_eq!(cuts, 2);
        assert_eq!(seen, all);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_is_given_up_in_time() {
    with_rabbit(&["frozen"], |rabbit| async move {
        let pool = pool("frozen");
        let proxy = Proxy::to(&rabbit.address()).await;
        let patience = Duration::from_secs(1);
        let options = Options {
            confirm_timeout: patience,
            ..rabbit.options()
        };
        let queue = flowfleet_queue::open(&rabbit.through(proxy.address), options)
            .await
            .unwrap();
        queue
            .publish(&envelopes(&pool, Priority::Normal, 5))
            .await
            .unwrap();
        proxy.freeze(true);
        let start = Instant::now();
        let error = queue
            .publish(&envelopes(&pool, Priority::Normal, 5))
            .await
            .unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(queue.ping(patience).await.unwrap_err().is_retryable());
        assert!(queue.depth(&pool).await.unwrap_err().is_retryable());
        assert!(start.elapsed() < patience * 5, "{:?}", start.elapsed());
        proxy.freeze(false);
        let sent = envelopes(&pool, Priority::High, 5);
        queue.publish(&sent).await.unwrap();
        let mut consumer = queue.consume(&[pool], 100).await.unwrap();
        let start = Instant::now();
        let mut seen = BTreeSet::new();
        while !seen.is_superset(&runs_of(&sent)) {
            assert!(start.elapsed() < SOON);
            seen.extend(runs(&receive(&mut *consumer, 1).await));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_may_start_before_the_broker() {
    with_rabbit(&["early"], |rabbit| async move {
        let pool = pool("early");
        let mut proxy = Proxy::to(&rabbit.address()).await;
        proxy.cut().await;
        let queue = flowfleet_queue::open(&rabbit.through(proxy.address), rabbit.options())
            .await
            .unwrap();
        let error = queue.ping(Duration::from_secs(5)).await.unwrap_err();
        assert!(error.to_string().contains("not connected"), "{error}");
        let mut consumer = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
        assert!(!consumer.connected());
        nothing(&mut *consumer).await;
        consumer.pause().await.unwrap();
        let sent = envelopes(&pool, Priority::Normal, 3);
        let (published, ()) = tokio::join!(queue.publish(&sent), async {
            sleep(Duration::from_millis(300)).await;
            proxy.restore().await;
        });
        published.unwrap();
        let got = receive(&mut *consumer, 3).await;
        assert_eq!(runs(&got), runs_of(&sent));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_during_a_pause_is_noticed_on_resume() {
    with_rabbit(&["asleep"], |rabbit| async move {
        let pool = pool("asleep");
        let mut proxy = Proxy::to(&rabbit.address()).await;
        let direct = rabbit.open().await;
        let queue = flowfleet_queue::open(&rabbit.through(proxy.address), rabbit.options())
            .await
            .unwrap();
        let sent = envelopes(&pool, Priority::Normal, 5);
        direct.publish(&sent).await.unwrap();
        let mut consumer = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
        let old = receive(&mut *consumer, 2).await;
        consumer.pause().await.unwrap();
        proxy.cut().await;
        connected_becomes(&mut *consumer, false).await;
        depth_becomes(&*direct, &pool, normal(5)).await;
        proxy.restore().await;
        connected_becomes(&mut *consumer, true).await;
        // Void by now, whether or not the consumer has looked.
        let _ = consumer.ack(&receipts(&old)).await;
        let got = receive(&mut *consumer, 5).await;
        assert_eq!(runs(&got), runs_of(&sent));
        consumer.ack(&receipts(&got)).await.unwrap();
    })
    .await;
}
