//! Redis: the contract, and what happens when it goes away.

use std::collections::BTreeSet;
use std::time::Duration;

use flowfleet_core::error::Kind;
use flowfleet_core::id::{RunId, WorkerId};
use flowfleet_core::port::{Live, LiveStream, WorkerPresence, WorkerState};
use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{Config, PerformanceConfig};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use crate::contract::{self, SOON, events, next, token};
use crate::proxy::Proxy;

fn server() -> String {
    std::env::var("FLOWFLEET_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

/// A URL with a prefix of its own; all its keys end by themselves.
fn url() -> String {
    format!("{}?prefix=fftest-{}", server(), RunId::generate().0.simple())
}

fn address() -> String {
    let url = url::Url::parse(&server()).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(6379))
}

/// The same Redis, through a proxy.
fn through(proxy: &Proxy, url: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_host(Some(&proxy.address.ip().to_string())).unwrap();
    url.set_port(Some(proxy.address.port())).unwrap();
    url.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_passes_the_contract() {
    let url = url();
    let here = flowfleet_bus::open(&url).await.unwrap();
    let there = flowfleet_bus::open(&url).await.unwrap();
    contract::suite(here, there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleets_with_other_prefixes_hear_nothing() {
    let (ours, theirs) = (
        flowfleet_bus::open(&url()).await.unwrap(),
        flowfleet_bus::open(&url()).await.unwrap(),
    );
    let run = RunId::generate();
    let mut stream = ours.subscribe(run).await.unwrap();
    theirs.publish(vec![token(run, "theirs")]).await.unwrap();
    ours.publish(vec![token(run, "ours")]).await.unwrap();
    assert_eq!(next(&mut stream).await, token(run, "ours"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_listeners_are_told_and_hear_again() {
    let url = url();
    let mut proxy = Proxy::to(&address()).await;
    let direct = flowfleet_bus::open(&url).await.unwrap();
    let bus = flowfleet_bus::open(&through(&proxy, &url)).await.unwrap();
    let (run, other) = (RunId::generate(), RunId::generate());
    let mut stream = bus.subscribe(run).await.unwrap();
    let mut second = bus.subscribe(other).await.unwrap();
    let mut cancels = bus.cancels().await.unwrap();
    direct.publish(vec![events(run, [1])]).await.unwrap();
    assert_eq!(next(&mut stream).await, events(run, [1]));

    proxy.cut().await;
    let start = Instant::now();
    while bus.ping().await.is_ok() {
        assert!(start.elapsed() < SOON, "the ping stays good");
        sleep(Duration::from_millis(10)).await;
    }
    // While it is away every call fails, and fast. One that the client took before it knew is not refused but overdue, and
    // may still be sent: the library cannot take it back, and live events are lossy.
    let start = Instant::now();
    let mut overdue = Vec::new();
    for n in 0..1_000 {
        let item = token(run, &format!("lost {n}"));
        let error = bus.publish(vec![item.clone()]).await.unwrap_err();
        assert!(error.is_retryable());
        if error.detail.contains("timed out") {
            overdue.push(item);
        }
    }
    assert!(overdue.len() <= 1, "{overdue:?}");
    assert!(bus.subscribe(RunId::generate()).await.is_err());
    assert!(bus.workers().await.is_err());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    direct.publish(vec![events(run, [2])]).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    proxy.restore().await;

    let later = async |stream: &mut LiveStream| loop {
        let item = next(stream).await;
        if !overdue.contains(&item) {
            break item;
        }
    };
    assert_eq!(later(&mut stream).await, Live::Lagged);
    assert_eq!(next(&mut second).await, Live::Lagged);
    direct
        .publish(vec![events(run, [3]), events(other, [1])])
        .await
        .unwrap();
    assert_eq!(later(&mut stream).await, events(run, [3]));
    assert_eq!(next(&mut second).await, events(other, [1]));
    direct.cancel(run).await.unwrap();
    assert_eq!(timeout(SOON, cancels.next()).await.unwrap(), Some(run));
    let start = Instant::now();
    while bus.ping().await.is_err() {
        assert!(start.elapsed() < SOON, "the ping stays bad");
        sleep(Duration::from_millis(20)).await;
    }
    bus.publish(vec![token(run, "back")]).await.unwrap();
    assert_eq!(later(&mut stream).await, token(run, "back"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_is_given_up_in_time() {
    let url = url();
    let proxy = Proxy::to(&address()).await;
    let bus = flowfleet_bus::open(&through(&proxy, &url)).await.unwrap();
    let run = RunId::generate();
    let mut stream = bus.subscribe(run).await.unwrap();
    bus.ping().await.unwrap();
    proxy.freeze(true);
    let start = Instant::now();
    assert!(
        bus.publish(vec![token(run, "x")])
            .await
            .unwrap_err()
            .is_retryable()
    );
    assert!(bus.ping().await.is_err());
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    proxy.freeze(false);
    let start = Instant::now();
    while bus.publish(vec![token(run, "again")]).await.is_err() {
        assert!(start.elapsed() < SOON);
        sleep(Duration::from_millis(20)).await;
    }
    while next(&mut stream).await != token(run, "again") {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_may_start_before_redis() {
    let url = url();
    let mut proxy = Proxy::to(&address()).await;
    proxy.cut().await;
    let bus = flowfleet_bus::open(&through(&proxy, &url)).await.unwrap();
    let error = bus.ping().await.unwrap_err();
    assert!(error.to_string().contains("not connected"), "{error}");
    let run = RunId::generate();
    assert!(bus.subscribe(run).await.is_err());
    let mut cancels = bus.cancels().await.unwrap();
    proxy.restore().await;
    let start = Instant::now();
    while bus.ping().await.is_err() {
        assert!(start.elapsed() < SOON, "it does not connect by itself");
        sleep(Duration::from_millis(20)).await;
    }
    let mut stream = bus.subscribe(run).await.unwrap();
    bus.publish(vec![token(run, "x")]).await.unwrap();
    assert_eq!(next(&mut stream).await, token(run, "x"));
    bus.cancel(run).await.unwrap();
    assert_eq!(timeout(SOON, cancels.next()).await.unwrap(), Some(run));
}

/// A client without Flowfleet.
async fn plain() -> Client {
    let config = Config::from_url(&server()).unwrap();
    let performance = PerformanceConfig {
        // A message of every shard may arrive before the test looks at the first.
        broadcast_channel_capacity: 1_000,
        ..PerformanceConfig::default()
    };
    let client = Client::new(config, Some(performance), None, None);
    client.init().await.unwrap();
    client
}

/// The shard that the end of a run's id says.
fn shard(run: RunId) -> u8 {
    run.0.as_bytes()[15] % 32
}

/// A run of the shard of another.
fn neighbour(run: RunId) -> RunId {
    loop {
        let other = RunId::generate();
        if shard(other) == shard(run) {
            return other;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_without_listeners_are_left() {
    let url = url();
    let prefix = url.split_once('=').unwrap().1.to_owned();
    let bus = flowfleet_bus::open(&url).await.unwrap();
    let runs: Vec<RunId> = (0..20).map(|_| RunId::generate()).collect();
    let streams = futures::future::join_all(runs.iter().map(|run| bus.subscribe(*run))).await;
    let client = plain().await;
    let pattern = format!("{prefix}:live:*");
    let open = async || {
        let channels: Vec<String> = client.pubsub_channels(pattern.as_str()).await.unwrap();
        channels.into_iter().collect::<BTreeSet<String>>()
    };
    let expected = runs.iter().map(|run| format!("{prefix}:live:{}", shard(*run)));
    assert_eq!(open().await, expected.collect());
    drop(streams);
    let start = Instant::now();
    while !open().await.is_empty() {
        assert!(start.elapsed() < SOON, "subscriptions stay");
        sleep(Duration::from_millis(20)).await;
    }
    // Garbage from others harms nobody.
    let mut stream = bus.subscribe(runs[0]).await.unwrap();
    for channel in [
        format!("{prefix}:live:{}", shard(runs[0])),
        format!("{prefix}:cancel"),
    ] {
        for garbage in ["", "garbage", "\u{1}garbage"] {
            client
                .publish::<(), _, _>(channel.as_str(), garbage)
                .await
                .unwrap();
        }
    }
    bus.publish(vec![token(runs[0], "fine")]).await.unwrap();
    assert_eq!(next(&mut stream).await, token(runs[0], "fine"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_one_shard_share_a_message_and_nothing_else() {
    let url = url();
    let bus = flowfleet_bus::open(&url).await.unwrap();
    let run = RunId::generate();
    let other = neighbour(run);
    let mut stream = bus.subscribe(run).await.unwrap();
    bus.publish(vec![events(other, [1]), events(run, [1])])
        .await
        .unwrap();
    assert_eq!(next(&mut stream).await, events(run, [1]));
    let mut second = bus.subscribe(other).await.unwrap();
    bus.publish(vec![events(other, [2]), events(run, [2])])
        .await
        .unwrap();
    assert_eq!(next(&mut second).await, events(other, [2]));
    assert_eq!(next(&mut stream).await, events(run, [2]));
    // The shard stays for who stays.
    drop(stream);
    let mut third = bus.subscribe(run).await.unwrap();
    drop(second);
    bus.publish(vec![events(other, [3]), token(run, "c")])
        .await
        .unwrap();
    assert_eq!(next(&mut third).await, token(run, "c"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_one_message_a_shard() {
    let url = url();
    let prefix = url.split_once('=').unwrap().1.to_owned();
    let bus = flowfleet_bus::open(&url).await.unwrap();
    let client = plain().await;
    let mut arriving = client.message_rx();
    client.psubscribe(format!("{prefix}:live:*")).await.unwrap();
    client.ping::<()>(None).await.unwrap();
    let runs: Vec<RunId> = (0..1_000).map(|_| RunId::generate()).collect();
    bus.publish(runs.iter().map(|run| events(*run, [1, 2])).collect())
        .await
        .unwrap();
    // After it, so behind it.
    let end = format!("{prefix}:live:end");
    let publisher = plain().await;
    publisher.publish::<(), _, _>(end.as_str(), "").await.unwrap();
    let mut channels = Vec::new();
    loop {
        let message = timeout(SOON, arriving.recv()).await.unwrap().unwrap();
        if *message.channel == *end {
            break;
        }
        channels.push(message.channel.to_string());
    }
    channels.sort();
    let mut expected: Vec<String> = (0..32).map(|shard| format!("{prefix}:live:{shard}")).collect();
    expected.sort();
    assert_eq!(channels, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_workers_are_cheap() {
    let bus = flowfleet_bus::open(&url()).await.unwrap();
    let announce = |n: u32| {
        let bus = &bus;
        async move {
            let presence = WorkerPresence {
                id: WorkerId::generate(),
                host: format!("ip-10-0-{}-{}", n / 250, n % 250),
                version: "0.1.0".to_owned(),
                queues: vec!["default".parse().unwrap()],
                capabilities: Default::default(),
                slots: 64,
                busy: 1,
                state: WorkerState::Accepting,
                lifecycle: "spot".to_owned(),
                started_at: Timestamp::UNIX_EPOCH,
                seen_at: Timestamp::UNIX_EPOCH,
                place: Default::default(),
            };
            bus.announce(&presence, Duration::from_secs(30)).await.unwrap();
        }
    };
    for batch in (0..5_000).collect::<Vec<u32>>().chunks(100) {
        futures::future::join_all(batch.iter().map(|n| announce(*n))).await;
    }
    let start = Instant::now();
    assert_eq!(bus.workers().await.unwrap().len(), 5_000);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_explained_by_the_ping() {
    let mut url = url::Url::parse(&url()).unwrap();
    url.set_password(Some("no-such-secret")).unwrap();
    url.set_username("nobody").unwrap();
    let bus = flowfleet_bus::open(url.as_str()).await.unwrap();
    let error = bus.ping().await.unwrap_err();
    assert_eq!(error.kind, Kind::Permanent, "{error}");
    assert!(!error.to_string().contains("no-such-secret"), "{error}");
}
