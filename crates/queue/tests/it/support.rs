//! Names, messages and brokers for tests.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::id::RunId;
use flowfleet_core::message::RunMessage;
use flowfleet_core::pool::Pool;
use flowfleet_core::port::{Consumer, Delivery, Depth, Envelope, Queue, Receipt};
use flowfleet_core::run::Priority;
use flowfleet_queue::Options;
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for something that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long nothing must happen.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

pub(crate) fn pool(name: &str) -> Pool {
    name.parse().unwrap()
}

pub(crate) fn envelope(pool: &Pool, priority: Priority) -> Envelope {
    let message = RunMessage::new(RunId::generate(), None);
    Envelope {
        pool: pool.clone(),
        priority,
        message,
    }
}

pub(crate) fn envelopes(pool: &Pool, priority: Priority, count: usize) -> Vec<Envelope> {
    (0..count).map(|_| envelope(pool, priority)).collect()
}

pub(crate) fn runs_of(envelopes: &[Envelope]) -> BTreeSet<RunId> {
    envelopes.iter().map(|envelope| envelope.message.run).collect()
}

pub(crate) fn runs(deliveries: &[Delivery]) -> BTreeSet<RunId> {
    deliveries.iter().map(|delivery| delivery.message.run).collect()
}

pub(crate) fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

/// Receives exactly `count`, which must come.
pub(crate) async fn receive(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = timeout(SOON, consumer.receive(count - all.len())).await;
        let more = more
            .unwrap_or_else(|_| panic!("{} of {count} messages came", all.len()))
            .unwrap();
        assert!(!more.is_empty() && more.len() <= count - all.len());
        all.extend(more);
    }
    all
}

/// Nothing more comes.
pub(crate) async fn nothing(consumer: &mut dyn Consumer) {
    if let Ok(more) = timeout(QUIET, consumer.receive(10)).await {
        panic!("unexpected: {more:?}");
    }
}

/// Waits until a pool has this many messages ready.
pub(crate) async fn depth_becomes(queue: &dyn Queue, pool: &Pool, want: Depth) {
    let start = Instant::now();
    loop {
        let depth = queue.depth(pool).await.unwrap();
        if depth == want {
            return;
        }
        assert!(
            start.elapsed() < SOON,
            "the depth of {pool} stays {depth:?}, wanted {want:?}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn normal(count: u64) -> Depth {
    Depth {
        normal: count,
        ..Depth::default()
    }
}

/// A prefix of its own on the real broker, gone at the end.
#[derive(Debug, Clone)]
pub(crate) struct Rabbit {
    pub(crate) url: String,
    pub(crate) prefix: String,
}

impl Rabbit {
    pub(crate) fn options(&self) -> Options {
        Options {
            prefix: self.prefix.clone(),
            ..Options::default()
        }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Queue> {
        flowfleet_queue::open(&self.url, self.options()).await.unwrap()
    }

    /// The URL with another host and port.
    pub(crate) fn through(&self, address: std::net::SocketAddr) -> String {
        let mut url = url::Url::parse(&self.url).unwrap();
        url.set_host(Some(&address.ip().to_string())).unwrap();
        url.set_port(Some(address.port())).unwrap();
        url.to_string()
    }

    pub(crate) fn address(&self) -> String {
        let url = url::Url::parse(&self.url).unwrap();
        format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672))
    }

    pub(crate) fn queue(&self, pool: &Pool, priority: Priority) -> String {
        format!("{}.{pool}.{}", self.prefix, priority.as_str())
    }

    /// A connection of the test's own, to do to the broker what operators do.
    pub(crate) async fn operator(&self) -> Connection {
        Connection::connect(&self.url, ConnectionProperties::default())
            .await
            .unwrap()
    }

    pub(crate) async fn delete(&self, pool: &Pool) {
        let channel = self.operator().await.create_channel().await.unwrap();
        for priority in Priority::ALL {
            let name = self.queue(pool, priority);
            channel
                .queue_delete(name.into(), QueueDeleteOptions::default())
                .await
                .unwrap();
        }
    }
}

/// Runs a test on the real broker and deletes the pools it used, also when it fails.
pub(crate) async fn with_rabbit<F>(pools: &[&str], test: impl FnOnce(Rabbit) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let url = std::env::var("FLOWFLEET_TEST_RABBITMQ")
        .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let rabbit = Rabbit {
        url,
        prefix: format!("fftest-{}", RunId::generate().0.simple()),
    };
    let result = tokio::spawn(test(rabbit.clone())).await;
    for name in pools {
        rabbit.delete(&pool(name)).await;
    }
    if let Err(error) = result {
        resume_unwind(error.into_panic());
    }
}
