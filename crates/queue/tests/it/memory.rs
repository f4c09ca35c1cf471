//! The queue in memory.

use flowfleet_core::run::Priority;
use flowfleet_queue::Options;

use crate::contract;
use crate::support::{depth_becomes, envelope, envelopes, normal, pool, receipts, receive};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_passes_the_contract() {
    contract::suite(
        flowfleet_queue::open("memory:", Options::default())
            .await
            .unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_run_waits_once() {
    let queue = flowfleet_queue::open("memory:", Options::default())
        .await
        .unwrap();
    let pool = pool("dedupe");
    let one = envelope(&pool, Priority::Normal);
    for _ in 0..3 {
        queue.publish(&[one.clone(), one.clone()]).await.unwrap();
    }
    depth_becomes(&*queue, &pool, normal(1)).await;
    let mut consumer = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
    let got = receive(&mut *consumer, 1).await;
    // Handed out is not waiting: a message that says it again is kept.
    queue.publish(std::slice::from_ref(&one)).await.unwrap();
    depth_becomes(&*queue, &pool, normal(1)).await;
    // What comes back joins the one that waits.
    consumer.reject(&receipts(&got)).await.unwrap();
    depth_becomes(&*queue, &pool, normal(1)).await;
}

#[tokio::test]
async fn what_comes_back_goes_first() {
    let queue = flowfleet_queue::open("memory:", Options::default())
        .await
        .unwrap();
    let pool = pool("order");
    let sent = envelopes(&pool, Priority::Normal, 6);
    queue.publish(&sent).await.unwrap();
    let mut first = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
    receive(&mut *first, 4).await;
    drop(first);
    let mut second = queue.consume(&[pool], 10).await.unwrap();
    let got: Vec<_> = receive(&mut *second, 6)
        .await
        .into_iter()
        .map(|d| d.message.run)
        .collect();
    assert_eq!(got, sent.iter().map(|e| e.message.run).collect::<Vec<_>>());
}

#[tokio::test]
async fn each_memory_queue_is_its_own() {
    let one = flowfleet_queue::open("memory:", Options::default())
        .await
        .unwrap();
    let two = flowfleet_queue::open("memory:", Options::default())
        .await
        .unwrap();
    let pool = pool("own");
    one.publish(&envelopes(&pool, Priority::Normal, 1)).await.unwrap();
    assert_eq!(two.depth(&pool).await.unwrap().total(), 0);
}
