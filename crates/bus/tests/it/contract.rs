//! What every bus must do, between two handles that may be two processes.

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::event::{EventKind, RunEvent};
use flowfleet_core::id::{RunId, WorkerId};
use flowfleet_core::port::{Bus, Live, LiveStream, WorkerPresence, WorkerState};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for something that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long nothing must happen.
const QUIET: Duration = Duration::from_millis(200);

pub(crate) fn event(run: RunId, seq: u64) -> RunEvent {
    let data = serde_json::json!({"text": "ä\n", "n": seq}).into();
    RunEvent {
        run,
        seq,
        kind: EventKind::NodeFinished,
        at: Timestamp::UNIX_EPOCH,
        data,
    }
}

pub(crate) fn events(run: RunId, seqs: impl IntoIterator<Item = u64>) -> Live {
    Live::Events {
        events: seqs.into_iter().map(|seq| event(run, seq)).collect(),
    }
}

pub(crate) fn token(run: RunId, text: &str) -> Live {
    Live::Token {
        run,
        node: "Model-1".to_owned(),
        text: text.to_owned(),
    }
}

pub(crate) async fn next(stream: &mut LiveStream) -> Live {
    timeout(SOON, stream.next())
        .await
        .expect("nothing came")
        .expect("the stream ended")
}

async fn nothing(stream: &mut LiveStream) {
    if let Ok(item) = timeout(QUIET, stream.next()).await {
        panic!("unexpected: {item:?}");
    }
}

fn presence(id: WorkerId) -> WorkerPresence {
    WorkerPresence {
        id,
        host: "host-1".to_owned(),
        version: "0.1.0".to_owned(),
        queues: vec!["default".parse().unwrap()],
        capabilities: Default::default(),
        slots: 64,
        busy: 3,
        state: WorkerState::Accepting,
        lifecycle: "spot".to_owned(),
        started_at: Timestamp::UNIX_EPOCH,
        seen_at: Timestamp::UNIX_EPOCH,
        place: Default::default(),
    }
}

/// The whole suite; `here` publishes and `there` listens.
pub(crate) async fn suite(here: Arc<dyn Bus>, there: Arc<dyn Bus>) {
    here.ping().await.unwrap();
    there.ping().await.unwrap();
    tokio::join!(
        fan_out(&*here, &*there),
        ends_and_begins(&*here, &*there),
        cancels(&*here, &*there),
        many_runs(&*here, &*there),
    );
    slow_listeners_are_told(&*here, &*there).await;
    workers(&*here, &*there).await;
}

async fn fan_out(here: &dyn Bus, there: &dyn Bus) {
    let (run, other) = (RunId::generate(), RunId::generate());
    here.publish(vec![events(run, [1])]).await.unwrap();
    let mut first = there.subscribe(run).await.unwrap();
    let mut second = there.subscribe(run).await.unwrap();
    let mut local = here.subscribe(run).await.unwrap();
    let mut elsewhere = there.subscribe(other).await.unwrap();
    here.publish(vec![events(run, [2, 3]), token(run, "a"), Live::Lagged])
        .await
        .unwrap();
    here.publish(vec![token(run, "b")]).await.unwrap();
    here.publish(vec![]).await.unwrap();
    for stream in [&mut first, &mut second, &mut local] {
        for want in [events(run, [2, 3]), token(run, "a"), token(run, "b")] {
            assert_eq!(next(stream).await, want);
        }
        nothing(stream).await;
    }
    nothing(&mut elsewhere).await;
    // One call may speak of many runs, mixed even within one item.
    let mixed = Live::Events {
        events: vec![event(run, 4), event(other, 1), event(run, 5)],
    };
    here.publish(vec![mixed]).await.unwrap();
    assert_eq!(next(&mut first).await, events(run, [4, 5]));
    assert_eq!(next(&mut elsewhere).await, events(other, [1]));
}

/// Subscriptions come and go while others stay; each is active once it is there.
async fn ends_and_begins(here: &dyn Bus, there: &dyn Bus) {
    let run = RunId::generate();
    let mut steady = there.subscribe(run).await.unwrap();
    for round in 0..20 {
        let mut passing = there.subscribe(run).await.unwrap();
        here.publish(vec![events(run, [round])]).await.unwrap();
        assert_eq!(next(&mut passing).await, events(run, [round]));
        assert_eq!(next(&mut steady).await, events(run, [round]));
    }
    drop(steady);
    for round in 0..20 {
        let mut alone = there.subscribe(run).await.unwrap();
        here.publish(vec![events(run, [round])]).await.unwrap();
        assert_eq!(next(&mut alone).await, events(run, [round]));
    }
}

async fn cancels(here: &dyn Bus, there: &dyn Bus) {
    let mut one = there.cancels().await.unwrap();
    let mut two = here.cancels().await.unwrap();
    let runs = [RunId::generate(), RunId::generate()];
    for run in runs {
        here.cancel(run).await.unwrap();
    }
    for stream in [&mut one, &mut two] {
        for run in runs {
            assert_eq!(timeout(SOON, stream.next()).await.unwrap(), Some(run));
        }
    }
}

async fn many_runs(here: &dyn Bus, there: &dyn Bus) {
    let runs: Vec<RunId> = (0..300).map(|_| RunId::generate()).collect();
    let streams = futures::future::join_all(runs.iter().map(|run| there.subscribe(*run))).await;
    let mut streams: Vec<LiveStream> = streams.into_iter().map(Result::unwrap).collect();
    here.publish(runs.iter().map(|run| events(*run, [1])).collect())
        .await
        .unwrap();
    for (run, stream) in runs.iter().zip(&mut streams) {
        assert_eq!(next(stream).await, events(*run, [1]));
    }
}

/// Nobody waits for who does not read; it is told that it missed something and then goes on.
async fn slow_listeners_are_told(here: &dyn Bus, there: &dyn Bus) {
    let (run, probe) = (RunId::generate(), RunId::generate());
    let mut slow = there.subscribe(run).await.unwrap();
    let mut quick = there.subscribe(probe).await.unwrap();
    let start = Instant::now();
    for n in 0..1_000 {
        here.publish(vec![token(run, &n.to_string())]).await.unwrap();
    }
    assert!(start.elapsed() < SOON);
    // What is published last has arrived, so all before it has.
    here.publish(vec![token(probe, "end")]).await.unwrap();
    next(&mut quick).await;
    assert_eq!(next(&mut slow).await, Live::Lagged);
    let mut got = Vec::new();
    while got.last().is_none_or(|last| *last != token(run, "999")) {
        got.push(next(&mut slow).await);
    }
    assert!(got.len() >= 100 && got.len() < 1_000, "{}", got.len());
    here.publish(vec![token(run, "after")]).await.unwrap();
    assert_eq!(next(&mut slow).await, token(run, "after"));
}

async fn workers(here: &dyn Bus, there: &dyn Bus) {
    assert_eq!(there.workers().await.unwrap(), []);
    let (long, brief) = (presence(WorkerId::generate()), presence(WorkerId::generate()));
    here.announce(&long, Duration::from_secs(60)).await.unwrap();
    here.announce(&brief, Duration::from_millis(300)).await.unwrap();
    assert_eq!(there.workers().await.unwrap().len(), 2);
    let busy = WorkerPresence {
        busy: 64,
        state: WorkerState::Draining,
        ..long.clone()
    };
    here.announce(&busy, Duration::from_secs(60)).await.unwrap();
    let start = Instant::now();
    while there.workers().await.unwrap().len() > 1 {
        assert!(start.elapsed() < SOON, "a worker that ran out stays");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(there.workers().await.unwrap(), std::slice::from_ref(&busy));
    here.withdraw(long.id).await.unwrap();
    here.withdraw(long.id).await.unwrap();
    assert_eq!(there.workers().await.unwrap(), []);
}
