//! The two ends of consuming: the exchange with the broker that starts it, and what a delivery's headers say.

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::message::TraceContext;
use flowfleet_core::pool::Pool;
use flowfleet_core::port::Result;
use flowfleet_core::run::Priority;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};

use super::Context;
use super::explain::{explain, within};
use super::live::Live;

/// A channel and the consumer that runs on it.
pub(super) type Flow = (Channel, lapin::Consumer);

/// What it takes to start to consume: a channel if there is none, and a consumer on it.
pub(super) struct Exchange {
    pub(super) context: Arc<Context>,
    pub(super) live: Arc<Live>,
    pub(super) queue: Pool,
    pub(super) priority: Priority,
    pub(super) channel: Option<Channel>,
    pub(super) prefetch: u16,
    pub(super) forget: bool,
}

impl Exchange {
    pub(super) async fn run(self) -> Result<Flow> {
        let patience = self.context.patience;
        within("queue.consume", patience, self.exchange()).await
    }

    async fn exchange(self) -> Result<Flow> {
        let failed = |error| explain("queue.consume", error);
        let channel = match self.channel {
            Some(channel) => channel,
            None => {
                if self.forget {
                    self.live.forget(&self.queue).await;
                }
                self.live.declare(&self.context.names, &self.queue).await?;
                let channel = self.live.channel("queue.consume").await?;
                // Not global: newer brokers know only limits for each consumer.
                let options = BasicQosOptions { global: false };
                channel.basic_qos(self.prefetch, options).await.map_err(failed)?;
                channel
            }
        };
        let name = self.context.names.of(&self.queue, self.priority);
        let flow = channel
            .basic_consume(
                name,
                ShortString::default(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(failed)?;
        Ok((channel, flow))
    }
}

/// Trace context from the headers, for messages of tools that set it only there.
pub(super) fn trace(properties: &BasicProperties) -> Option<TraceContext> {
    let headers = properties.headers().as_ref()?.inner();
    let text = |name: &str| match headers.get(name) {
        Some(AMQPValue::LongString(text)) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        Some(AMQPValue::ShortString(text)) => Some(text.to_string()),
        _ => None,
    };
    Some(TraceContext {
        traceparent: text("traceparent")?,
        tracestate: text("tracestate"),
    })
}

/// Whether to log now: garbage comes in masses, the metric counts it all.
pub(super) fn loud() -> bool {
    use std::sync::Mutex;
    use std::time::Instant;
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let due = last.is_none_or(|last| last.elapsed() > Duration::from_secs(60));
    if due {
        *last = Some(Instant::now());
    }
    due
}
