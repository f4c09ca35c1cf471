//! Run messages over RabbitMQ or memory.
//!
//! Owns how messages travel: queues, confirms, prefetch, weights, reconnects. What a message means and what
//! happens to a run is the store's business: losing every message here loses no run, repeating any of them
//! executes nothing twice (invariant I1).

mod fair;
mod memory;
mod metered;
pub mod metrics;
mod outstanding;
mod rabbitmq;

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::port::{Queue, Result};

/// How to use a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What the names of our queues on the broker start with: fleets that share a broker differ in it.
    pub prefix: String,
    /// Longest wait for the broker in one step: a confirm of up to 1,000 messages, a declaration, an
    /// acknowledgement.
    pub confirm_timeout: Duration,
    /// How this process appears in the broker's list of connections.
    pub connection_name: String,
    /// How often a consumer that receives nothing is compared with what its queue holds; one that starves twice
    /// in a row is started again.
    pub check_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: "flowfleet".to_owned(),
            confirm_timeout: Duration::from_secs(10),
            connection_name: "flowfleet".to_owned(),
            check_interval: Duration::from_secs(20),
        }
    }
}

/// Longest prefix: a queue name on the broker has 255 bytes at most, of which a pool takes 64.
const MAX_PREFIX: usize = 100;

/// Opens the queue a URL names: `amqp://`, `amqps://`, or `memory:` (a fresh one each time; share the handle).
///
/// Does not wait for the broker: it connects, and reconnects, in the background. A broker that is away shows
/// in `ping`; a URL that cannot be right is refused here. Must be called within a tokio runtime.
pub async fn open(url: &str, options: Options) -> Result<Arc<dyn Queue>> {
    let prefix_is_fine = (1..=MAX_PREFIX).contains(&options.prefix.len())
        && options
            .prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !prefix_is_fine {
        let detail = format!(
            "queue prefix {:?} is not valid: use 1 to {MAX_PREFIX} of a-z, A-Z, 0-9, '-', '_' and '.'",
            options.prefix
        );
        return Err(PortError::new(Kind::Permanent, "queue.open", detail));
    }
    match url.split(':').next().unwrap_or_default() {
        "memory" => Ok(Arc::new(metered::MeteredQueue::new(memory::MemoryQueue::new()))),
        "amqp" | "amqps" => {
            let queue = rabbitmq::RabbitQueue::open(url, &options)?;
            Ok(Arc::new(metered::MeteredQueue::new(queue)))
        }
        scheme => {
            let detail =
                format!("queue URL scheme {scheme:?} is not known: use amqp://, amqps:// or memory:");
            Err(PortError::new(Kind::Permanent, "queue.open", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_right_is_refused_at_once() {
        for url in ["", "redis://x", "amqp", "amqp://", "amqp://user:secret@:bad/"] {
            let error = open(url, Options::default()).await.unwrap_err();
            assert_eq!(error.kind, Kind::Permanent, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for prefix in ["", "a b", "a/b", &"x".repeat(101)] {
            let options = Options {
                prefix: prefix.to_owned(),
                ..Options::default()
            };
            assert!(open("memory:", options).await.is_err(), "{prefix}");
        }
    }
}
