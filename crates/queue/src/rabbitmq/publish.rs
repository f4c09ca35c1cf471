//! Publishing with confirms.
//!
//! Each call has a confirming channel to itself, so that what the broker returns on it belongs to that call:
//! the library hands a returned message to whichever confirm comes next, which need not be its own.

use std::collections::{HashMap, HashSet};

use flowfleet_core::error::PortError;
use flowfleet_core::message::TraceContext;
use flowfleet_core::pool::Pool;
use flowfleet_core::port::{Envelope, Result};
use flowfleet_core::run::Priority;
use futures::future::join_all;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::explain::{busy, explain};
use super::link::Link;
use super::live::Live;
use super::topology::SETTLE;
use crate::metrics::RETURNED;

const OPERATION: &str = "queue.publish";
/// Messages under way at once on one channel.
const WINDOW: usize = 1_000;
/// Times a message may come back although its queue was just declared.
const ROUNDS: u32 = 3;
const PERSISTENT: u8 = 2;

/// Publishes all and waits for the confirms. A connection lost on the way is not the caller's concern as long
/// as the next one comes within the same patience.
pub(super) async fn all(context: &Context, envelopes: &[Envelope]) -> Result<()> {
    for window in envelopes.chunks(WINDOW) {
        let deadline = Instant::now() + context.patience;
        let result = timeout_at(deadline, async {
            loop {
                let live = next(&context.link).await?;
                match once(context, &live, window).await {
                    // Nobody knows what of it arrived: all of it again.
                    Err(error) if error.is_retryable() && !live.alive() => {
                        tracing::debug!(%error, "publishing again on the next connection");
                    }
                    other => return other,
                }
            }
        });
        match result.await {
            Ok(result) => result?,
            Err(_) => {
                let reason = context
                    .link
                    .live(OPERATION, std::time::Duration::ZERO)
                    .await
                    .err();
                return Err(reason.unwrap_or_else(|| {
                    busy(
                        OPERATION,
                        format!("RabbitMQ did not confirm within {:?}", context.patience),
                    )
                }));
            }
        }
    }
    Ok(())
}

/// The connection, however long it takes: the caller's deadline bounds it.
async fn next(link: &Link) -> Result<std::sync::Arc<Live>> {
    let mut state = link.watch();
    let found = state
        .wait_for(|state| state.live.as_ref().is_some_and(|live| live.alive()))
        .await;
    let live = found.ok().and_then(|state| state.live.clone());
    live.ok_or_else(|| busy(OPERATION, "the queue was closed"))
}

async fn once(context: &Context, live: &Live, window: &[Envelope]) -> Result<()> {
    if live.blocked() {
        return Err(busy(
            OPERATION,
            "RabbitMQ takes no messages: it is short of memory or disk",
        ));
    }
    let _permit = live
        .publishers
        .acquire()
        .await
        .map_err(|_| busy(OPERATION, "the queue was closed"))?;
    let mut pending: Vec<&Envelope> = window.iter().collect();
    for _ in 0..ROUNDS {
        let pools: HashSet<&Pool> = pending.iter().map(|envelope| &envelope.pool).collect();
        for &pool in &pools {
            live.declare(&context.names, pool).await?;
        }
        let channel = live.take_publisher().await?;
        let returned = send(context, &channel, &pending).await?;
        live.give_back(channel);
        if returned.is_empty() {
            return Ok(());
        }
        metrics::counter!(RETURNED).increment(returned.len() as u64);
        tracing::warn!(
            messages = returned.len(),
            "a queue was gone: declaring it and publishing again"
        );
        pending.retain(|envelope| {
            let key = context.names.of(&envelope.pool, envelope.priority);
            returned.contains(&(key.to_string(), envelope.message.run.to_string()))
        });
        for envelope in &pending {
            live.forget(&envelope.pool).await;
        }
        tokio::time::sleep(SETTLE).await;
    }
    Err(busy(OPERATION, "the queue vanishes as often as it is declared"))
}

/// Sends a window and waits for all confirms; answers queue and run of what came back.
async fn send(
    context: &Context,
    channel: &Channel,
    pending: &[&Envelope],
) -> Result<HashSet<(String, String)>> {
    let mut keys: HashMap<(&Pool, Priority), ShortString> = HashMap::new();
    let keyed = pending.iter().map(|envelope| {
        let key = keys
            .entry((&envelope.pool, envelope.priority))
            .or_insert_with(|| context.names.of(&envelope.pool, envelope.priority));
        (*envelope, key.clone())
    });
    let confirms = join_all(keyed.map(|(envelope, key)| async move {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let body = envelope.message.encode();
        let confirm = channel
            .basic_publish(ShortString::default(), key, options, &body, properties(envelope))
            .await?;
        confirm.await
    }))
    .await;
    let mut returned = HashSet::new();
    let mut refused: Option<PortError> = None;
    for confirm in confirms {
        match confirm {
            Ok(confirm) if confirm.is_ack() => {
                if let Some(message) = confirm.take_message() {
                    let run = message.properties.message_id().as_ref().map(ToString::to_string);
                    returned.insert((message.routing_key.to_string(), run.unwrap_or_default()));
                }
            }
            Ok(Confirmation::Nack(_)) => {
                refused = Some(busy(
                    OPERATION,
                    "RabbitMQ refused a message: a queue is full or lost its leader",
                ));
            }
            Ok(_) => refused = Some(PortError::bug(OPERATION, "a channel without confirms")),
            Err(error) => return Err(explain(OPERATION, error)),
        }
    }
    match refused {
        Some(error) => Err(error),
        None => Ok(returned),
    }
}

fn properties(envelope: &Envelope) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_type("flowfleet.run".into())
        .with_message_id(ShortString::from(envelope.message.run.to_string()));
    match &envelope.message.trace {
        Some(trace) => properties.with_headers(headers(trace)),
        None => properties,
    }
}

/// W3C trace context where OpenTelemetry tools look for it; the body carries it as well.
fn headers(trace: &TraceContext) -> FieldTable {
    let mut table = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    table.insert("traceparent".into(), text(&trace.traceparent));
    if let Some(state) = &trace.tracestate {
        table.insert("tracestate".into(), text(state));
    }
    table
}

#[cfg(test)]
mod tests {
    use flowfleet_core::id::RunId;
    use flowfleet_core::message::RunMessage;

    use super::*;

    #[test]
    fn a_message_says_what_it_is() {
        let trace = TraceContext {
            traceparent: "00-aa-bb-01".to_owned(),
            tracestate: Some("a=b".to_owned()),
        };
        let run = RunId::generate();
        let envelope = Envelope {
            pool: Pool::default(),
            priority: Priority::High,
            message: RunMessage::new(run, Some(trace)),
        };
        let properties = properties(&envelope);
        assert_eq!(
            properties.message_id().as_ref().unwrap().as_str(),
            run.to_string()
        );
        assert_eq!(
            properties.content_type().as_ref().unwrap().as_str(),
            "application/json"
        );
        assert_eq!(properties.delivery_mode(), &Some(2));
        let headers = properties.headers().as_ref().unwrap().inner();
        assert_eq!(
            headers["traceparent"],
            AMQPValue::LongString("00-aa-bb-01".into())
        );
        assert_eq!(headers["tracestate"], AMQPValue::LongString("a=b".into()));
    }
}
