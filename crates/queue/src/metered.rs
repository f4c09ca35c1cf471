//! Counts and times a queue and its consumers.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use flowfleet_core::pool::Pool;
use flowfleet_core::port::{Consumer, Delivery, Depth, Envelope, Queue, Receipt, Result};
use flowfleet_core::run::Priority;

use crate::metrics::{CONFIRM_SECONDS, ERRORS, PUBLISHED, RECEIVED, SETTLED};

#[derive(Debug)]
pub(crate) struct MeteredQueue<T>(T);

impl<T: Queue> MeteredQueue<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(inner)
    }
}

fn counted<R>(operation: &'static str, result: Result<R>) -> Result<R> {
    if result.is_err() {
        metrics::counter!(ERRORS, "operation" => operation).increment(1);
    }
    result
}

/// Counts a batch by pool and priority, one increment for each stretch of equals.
fn count<'a>(name: &'static str, items: impl Iterator<Item = (&'a Pool, Priority)>) {
    let mut last: Option<((&Pool, Priority), u64)> = None;
    let flush = |((pool, priority), n): ((&Pool, Priority), u64)| {
        metrics::counter!(name, "queue" => pool.queue.to_string(), "priority" => priority.as_str())
            .increment(n);
    };
    for item in items {
        last = match last {
            Some((same, n)) if same == item => Some((same, n + 1)),
            other => {
                other.into_iter().for_each(flush);
                Some((item, 1))
            }
        };
    }
    last.into_iter().for_each(flush);
}

#[async_trait]
impl<T: Queue> Queue for MeteredQueue<T> {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<()> {
        let start = Instant::now();
        counted("publish", self.0.publish(envelopes).await)?;
        if !envelopes.is_empty() {
            metrics::histogram!(CONFIRM_SECONDS).record(start.elapsed().as_secs_f64());
            count(PUBLISHED, envelopes.iter().map(|e| (&e.pool, e.priority)));
        }
        Ok(())
    }

    async fn consume(&self, queues: &[Pool], prefetch: u16) -> Result<Box<dyn Consumer>> {
        let inner = counted("consume", self.0.consume(queues, prefetch).await)?;
        Ok(Box::new(MeteredConsumer(inner)))
    }

    async fn depth(&self, queue: &Pool) -> Result<Depth> {
        counted("depth", self.0.depth(queue).await)
    }

    async fn ping(&self, timeout: Duration) -> Result<()> {
        counted("ping", self.0.ping(timeout).await)
    }
}

#[derive(Debug)]
struct MeteredConsumer(Box<dyn Consumer>);

#[async_trait]
impl Consumer for MeteredConsumer {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>> {
        let deliveries = counted("receive", self.0.receive(max).await)?;
        count(RECEIVED, deliveries.iter().map(|d| (&d.pool, d.priority)));
        Ok(deliveries)
    }

    async fn ack(&mut self, receipts: &[Receipt]) -> Result<()> {
        counted("ack", self.0.ack(receipts).await)?;
        metrics::counter!(SETTLED, "outcome" => "acked").increment(receipts.len() as u64);
        Ok(())
    }

    async fn reject(&mut self, receipts: &[Receipt]) -> Result<()> {
        counted("reject", self.0.reject(receipts).await)?;
        metrics::counter!(SETTLED, "outcome" => "rejected").increment(receipts.len() as u64);
        Ok(())
    }

    async fn pause(&mut self) -> Result<()> {
        counted("pause", self.0.pause().await)
    }

    fn connected(&self) -> bool {
        self.0.connected()
    }
}
