//! Runs that go well: from queue to result, many at once, batched ends, large payloads, presence, no hoarding.

use std::sync::atomic::Ordering;
use std::time::Duration;

use flowfleet_core::RunState;
use flowfleet_core::event::EventKind;
use flowfleet_core::payload::{INLINE_LIMIT, Payload};
use flowfleet_core::port::{Live, RunStore as _};
use flowfleet_core::run::EndedBecause;
use flowfleet_mock_model as mock;
use futures::StreamExt as _;

use crate::flows::{answer, chain};
use crate::rig::{DEADLINE, Rig, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_from_queue_to_result() {
    let rig = Rig::new(mock::Config {
        latency_ms: 30,
        tokens_per_s: 200.0,
        ..mock::Config::default()
    })
    .await;
    let worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    let run = rig.run(&flow, "one two three four five six");
    let mut live = rig.bus.subscribe(run.id).await.unwrap();
    let id = rig.submit_one(run).await;

    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(rig.output(&view).await, answer(1, "one two three four five six"));
    assert!(view.usage.output_tokens > 0, "{:?}", view.usage);
    assert_eq!((view.attempts.len(), view.attempts[0].attempt), (1, 1));
    assert_eq!(view.attempts[0].worker, worker.id);
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::Succeeded));

    let events = rig.events(id).await;
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    use EventKind::{NodeFinished, NodeStarted, RunQueued, RunStarted, RunSucceeded};
    let node = [NodeStarted, NodeFinished];
    assert_eq!(
        kinds,
        [&[RunQueued, RunStarted][..], &node, &node, &node, &[RunSucceeded]].concat()
    );
    assert_eq!(events[3].data.value()["node"], "ChatInput-1");
    assert_eq!(events[3].data.value()["preview"], "one two three four five six");
    assert!(events[5].data.value()["elapsed_s"].as_f64().unwrap() > 0.0);

    // Listeners saw the stored events of the worker in order, and tokens that make up the answer.
    let (mut seqs, mut text) = (Vec::new(), String::new());
    let listening = async {
        while seqs.last() != Some(&(events.len() as u64)) {
            match live.next().await.expect("the stream lasts") {
                Live::Events { events } => seqs.extend(events.iter().map(|event| event.seq)),
                Live::Token {
                    node, text: piece, ..
                } => {
                    assert_eq!(node, "LanguageModelComponent-1");
                    text.push_str(&piece);
                }
                Live::Lagged => panic!("nothing is missed here"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, listening).await.unwrap();
    assert!(seqs.is_sorted(), "{seqs:?}");
    assert_eq!(text, answer(1, "one two three four five six"));
    worker.shutdown.drain();
    worker.ended(DEADLINE).await;
    assert!(
        rig.bus.workers().await.unwrap().is_empty(),
        "presence is withdrawn"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_runs_on_eight_slots() {
    let rig = Rig::new(mock::Config {
        latency_ms: 20,
        jitter_ms: 20,
        ..mock::Config::default()
    })
    .await;
    let _worker = rig.worker(|config| config.slots = 8).await;
    let flow = rig.flow(&chain(1)).await;
    let runs: Vec<_> = (0..200).map(|n| rig.run(&flow, &format!("run {n}"))).collect();
    let ids = rig.submit(&runs).await;
    for (n, id) in ids.into_iter().enumerate() {
        let view = rig.state(id, RunState::Succeeded).await;
        assert_eq!(rig.output(&view).await, answer(1, &format!("run {n}")));
    }
    let most = rig.store.most_running.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} ran at once");
    assert_eq!(rig.mock.requests(), 200, "each run was executed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_many_runs_share_commits() {
    let rig = Rig::new(mock::Config::default()).await;
    let _worker = rig.worker(|config| config.slots = 64).await;
    let flow = rig.flow(&chain(0)).await;
    let runs: Vec<_> = (0..400).map(|n| rig.run(&flow, &format!("{n}"))).collect();
    let ids = rig.submit(&runs).await;
    for id in ids {
        rig.state(id, RunState::Succeeded).await;
    }
    let finishes = rig.store.finishes.load(Ordering::SeqCst);
    assert!(finishes < 200, "{finishes} commits for 400 runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_travel_through_the_blob_store() {
    let rig = Rig::new(mock::Config::default()).await;
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    let text = "long ".repeat(INLINE_LIMIT / 4);
    let mut run = rig.run(&flow, &text);
    let Payload::Inline(value) = run.input else {
        panic!("inline")
    };
    run.input = flowfleet_runtime::payload::seal(&*rig.blob, run.id, "input", value)
        .await
        .unwrap();
    assert!(matches!(run.input, Payload::Blob(_)));
    let id = rig.submit_one(run).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert!(matches!(view.output, Some(Payload::Blob(_))));
    let output = rig.output(&view).await;
    assert_eq!(output.as_str().unwrap().trim_end(), answer(1, text.trim_end()));
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_says_what_the_worker_does() {
    let rig = Rig::new(mock::Config {
        latency_ms: 60_000,
        ..mock::Config::default()
    })
    .await;
    let worker = rig
        .worker(|config| {
            config.slots = 3;
            config.lifecycle = flowfleet_worker::Lifecycle::Spot;
            config.name = Some("host-7".to_owned());
        })
        .await;
    let flow = rig.flow(&chain(1)).await;
    rig.submit(&[rig.run(&flow, "a"), rig.run(&flow, "b")]).await;
    let seen = until("presence shows two busy slots", || async {
        rig.bus
            .workers()
            .await
            .unwrap()
            .into_iter()
            .find(|seen| seen.busy == 2)
    })
    .await;
    assert_eq!(
        (seen.id, seen.slots, seen.lifecycle.as_str()),
        (worker.id, 3, "spot")
    );
    assert_eq!(seen.host, "host-7");
    worker.shutdown.drain();
    worker.ended(Duration::from_secs(20)).await;
    assert!(rig.bus.workers().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_free_slot_hoards_nothing() {
    let rig = Rig::new(mock::Config {
        latency_ms: 60_000,
        ..mock::Config::default()
    })
    .await;
    let _first = rig.worker(|config| config.slots = 8).await;
    let flow = rig.flow(&chain(1)).await;
    let runs: Vec<_> = (0..20).map(|n| rig.run(&flow, &format!("{n}"))).collect();
    let ids = rig.submit(&runs).await;
    let default = "default".parse().unwrap();
    let left = |wanted: u64| {
        let (queue, default) = (&rig.queue, &default);
        until("the queue holds what no slot is free for", move || async move {
            (queue.depth(default).await.unwrap().total() == wanted).then_some(())
        })
    };
    left(12).await;
    let _second = rig.worker(|config| config.slots = 8).await;
    left(4).await;
    // A slot that is freed is used, and what comes with the message that fills it goes back again.
    rig.store.cancel(&rig.tenant, ids[0]).await.unwrap();
    rig.bus.cancel(ids[0]).await.unwrap();
    rig.state(ids[0], RunState::Cancelled).await;
    left(3).await;
}
