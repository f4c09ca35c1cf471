//! RabbitMQ 3.10 to 4.x and Amazon MQ.
//!
//! One connection a process ([`link`]), on it: a few channels that publish ([`publish`]), one that asks for
//! depths ([`live`]), and one for each pool and priority consumed ([`consume`]), so that acknowledgements of
//! one source are contiguous and an error in one harms no other. What the queues look like is in
//! [`topology`], what errors mean in [`explain`].

mod consume;
mod exchange;
mod explain;
mod link;
mod live;
mod publish;
mod source;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::pool::Pool;
use flowfleet_core::port::{Consumer, Depth, Envelope, Queue, Result};

use crate::Options;
use link::Link;
use topology::Names;

/// What everything on one connection shares.
#[derive(Debug)]
struct Context {
    link: Link,
    names: Names,
    /// Longest wait for the broker in one step.
    patience: Duration,
    /// How often a quiet consumer is checked.
    check: Duration,
}

/// A broker over AMQP 0-9-1.
#[derive(Debug)]
pub(crate) struct RabbitQueue {
    context: Arc<Context>,
}

impl RabbitQueue {
    pub(crate) fn open(url: &str, options: &Options) -> Result<Self> {
        let uri = link::parse(url)
            .map_err(|detail| PortError::new(Kind::Permanent, "queue.open", detail.to_owned()))?;
        let context = Context {
            link: Link::start(uri, options.connection_name.clone()),
            names: Names::new(&options.prefix),
            patience: options.confirm_timeout,
            check: options.check_interval,
        };
        Ok(Self {
            context: Arc::new(context),
        })
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<()> {
        publish::all(&self.context, envelopes).await
    }

    async fn consume(&self, queues: &[Pool], prefetch: u16) -> Result<Box<dyn Consumer>> {
        let mut consumer = consume::RabbitConsumer::new(Arc::clone(&self.context), queues, prefetch.max(1));
        consumer.start().await?;
        Ok(Box::new(consumer))
    }

    async fn depth(&self, queue: &Pool) -> Result<Depth> {
        let context = &self.context;
        let live = context.link.live("queue.depth", context.patience).await?;
        explain::within("queue.depth", context.patience, live.depth(&context.names, queue)).await
    }

    async fn ping(&self, timeout: Duration) -> Result<()> {
        let asked = async {
            let live = self.context.link.live_now("queue.ping").await?;
            live.round_trip().await
        };
        explain::within("queue.ping", timeout, asked).await
    }
}
