//! The events of one run, over Server-Sent Events: followed through lost connections to the final event.

use std::time::Duration;

use eventsource_stream::{EventStream, Eventsource as _};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;

use super::{ApiError, Client};

/// Heartbeats come every 15 s: silence longer than this is a dead connection.
const SILENCE: Duration = Duration::from_secs(45);
/// A stream lives as long as its run.
const LONGEST: Duration = Duration::from_secs(8 * 24 * 3600);
/// Connections lost in a row before giving up.
const PATIENCE: u32 = 8;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub kind: String,
    /// Its sequence; tokens have none.
    pub id: Option<u64>,
    pub data: Value,
}

impl Event {
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "run.succeeded" | "run.failed" | "run.cancelled" | "run.expired"
        )
    }

    /// A field of the event: beside the envelope or in its `data`.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.data
            .pointer("/data")
            .and_then(|data| data.get(name))
            .or_else(|| self.data.get(name))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(Value::as_str)
    }

    pub(crate) fn to_json(&self) -> Value {
        serde_json::json!({"event": self.kind, "id": self.id, "data": self.data})
    }
}

type Bytes = BoxStream<'static, reqwest::Result<bytes::Bytes>>;

/// A run's events, in order, each once.
pub(crate) struct Events {
    client: Client,
    run: String,
    after: Option<u64>,
    stream: Option<EventStream<Bytes>>,
    lost: u32,
    done: bool,
}

impl Events {
    pub(crate) fn new(client: Client, run: String, after: Option<u64>) -> Self {
        Self {
            client,
            run,
            after,
            stream: None,
            lost: 0,
            done: false,
        }
    }

    /// The next event; `None` after the final one.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ApiError> {
        loop {
            if self.done {
                return Ok(None);
            }
            if self.stream.is_none() {
                self.stream = self.open().await?;
                // Nothing after what was seen, and the run has ended.
                self.done = self.stream.is_none();
            }
            let Some(stream) = &mut self.stream else { continue };
            let lost = match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(event))) if event.data.is_empty() => continue,
                Ok(Some(Ok(event))) => {
                    let id = event.id.parse().ok().filter(|_| event.event != "node.token");
                    // Replayed after a reconnect: seen before.
                    if id.is_some() && id <= self.after {
                        continue;
                    }
                    self.after = id.or(self.after);
                    self.lost = 0;
                    let data = serde_json::from_str(&event.data).unwrap_or(Value::String(event.data));
                    let event = Event {
                        kind: event.event,
                        id,
                        data,
                    };
                    self.done = event.is_final();
                    return Ok(Some(event));
                }
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "the stream ended before the run".to_owned(),
                Err(_) => "the stream went silent".to_owned(),
            };
            self.stream = None;
            self.lost += 1;
            if self.lost > PATIENCE {
                return Err(ApiError::Unreachable {
                    server: self.client.base().to_owned(),
                    why: lost,
                    unconnected: false,
                });
            }
            tokio::time::sleep(Duration::from_millis(100 << self.lost.min(6))).await;
        }
    }

    async fn open(&self) -> Result<Option<EventStream<Bytes>>, ApiError> {
        let mut call = self
            .client
            .get(&["v1", "runs", &self.run, "events"])
            .timeout(LONGEST);
        // At the first look a server that is away is an answer; in the middle of a run it is waited for.
        if self.lost > 0 {
            call = call.tries(PATIENCE).patient();
        }
        call = call.header("accept", "text/event-stream".to_owned());
        if let Some(after) = self.after {
            call = call.header("last-event-id", after.to_string());
        }
        let answer = call.response().await?;
        if answer.status() == reqwest::StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let bytes: Bytes = answer.bytes_stream().boxed();
        Ok(Some(bytes.eventsource()))
    }
}
