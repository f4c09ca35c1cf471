//! What our queues on the broker are called and look like.
//!
//! Three quorum queues a pool, one a priority, on the default exchange. Quorum queues survive the loss of a
//! node and are faster than durable classic ones; priorities are queues because quorum queues of RabbitMQ 3
//! have none.

use std::time::Duration;

use flowfleet_core::pool::Pool;
use flowfleet_core::run::Priority;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

/// Redeliveries before the broker drops a message. RabbitMQ 4 drops after 20 unless told otherwise, and a
/// worker that gives buffered messages back counts as one each time; with no limit the broker puts what comes
/// back behind everything else. What it drops is a hint the reconciler publishes again.
const DELIVERY_LIMIT: i32 = 1_000;

/// How long a deleted queue stays deleted before we declare it again. A broker whose quorum queue is back at
/// once carries old consumers over instead of cancelling them, and they receive nothing.
pub(super) const SETTLE: Duration = Duration::from_millis(500);

/// Names queues for one fleet.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The broker's name for one pool and priority.
    pub(super) fn of(&self, pool: &Pool, priority: Priority) -> ShortString {
        ShortString::from(format!("{}.{pool}.{}", self.prefix, priority.as_str()))
    }
}

/// Every declaration of a queue must say the same: the broker refuses other arguments.
pub(super) fn arguments() -> FieldTable {
    let mut table = FieldTable::default();
    table.insert(
        "x-queue-type".into(),
        AMQPValue::LongString(LongString::from("quorum")),
    );
    table.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    table
}

pub(super) fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}

/// Only asks whether the queue is there.
pub(super) fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions {
        passive: true,
        durable: true,
        ..QueueDeclareOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowfleet_core::{Capability, QueueName};

    #[test]
    fn the_longest_name_fits() {
        let pool = format!("{}:{}", "x".repeat(QueueName::MAX), "y".repeat(Capability::MAX));
        let pool: Pool = pool.parse().unwrap();
        let names = Names::new(&"p".repeat(crate::MAX_PREFIX));
        for priority in Priority::ALL {
            assert!(names.of(&pool, priority).as_str().len() <= 255);
        }
        assert_eq!(
            Names::new("flowfleet")
                .of(&Pool::default(), Priority::High)
                .as_str(),
            "flowfleet.default.high"
        );
        let python: Pool = "default:python".parse().unwrap();
        assert_eq!(
            Names::new("flowfleet").of(&python, Priority::Low).as_str(),
            "flowfleet.default:python.low"
        );
    }
}
