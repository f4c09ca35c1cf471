//! The one connection of this process: made in the background, watched, and made again when it is lost.
//!
//! The client library's own recovery is off: with it, confirms in flight neither resolve nor fail while the
//! connection is down, and a recovered channel looks like the one before. Here a lost connection fails all
//! that was on it at once, and whoever needs one gets the next, a different object.

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::port::Result;
use futures::{Stream, StreamExt};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, Event};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};

use super::explain::{busy, explain};
use super::live::Live;
use crate::metrics::{CONNECTED, LOST};

/// Longest time for TCP, TLS and the handshake.
const CONNECT: Duration = Duration::from_secs(15);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(5);
/// Seconds without a frame after which the peer has missed a heartbeat: one that vanished without a word is given up
/// after two of them. Until then the broker keeps what it had sent to a worker that stands still, free slots and all.
const HEARTBEAT: u16 = 5;
/// The largest frame, in bytes. The library keeps room for 64 of them, and what the broker proposes would be 8 MiB a
/// connection; our messages are a few hundred bytes.
const FRAME: u32 = 16 * 1024;
/// How often the connection's state is looked at besides its events.
const LOOK: Duration = Duration::from_millis(500);

/// Whether there is a connection, and if not, why.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) live: Option<Arc<Live>>,
    /// Attempts that failed and connections that were lost so far.
    failures: u64,
    reason: Option<(Kind, Arc<str>)>,
}

/// A handle to the connection; dropping it closes it.
#[derive(Debug)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    keeper: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Parses a URL. The error never repeats it: it may hold a password.
pub(super) fn parse(url: &str) -> std::result::Result<AMQPUri, &'static str> {
    const SHAPE: &str =
        "not an AMQP URL: use amqp://USER:PASSWORD@HOST[:5672]/VHOST with %2f for the vhost /";
    let parsed = url::Url::parse(url).map_err(|_| SHAPE)?;
    let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or(SHAPE)?;
    let mut uri: AMQPUri = url.parse().map_err(|_| SHAPE)?;
    // The library reads no IPv6 address and falls back to localhost.
    uri.authority.host = host.trim_matches(['[', ']']).to_owned();
    if uri.vhost.is_empty() {
        // A trailing slash means the empty vhost by the letter, which nobody has.
        uri.vhost = "/".to_owned();
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    uri.query.frame_max.get_or_insert(FRAME);
    Ok(uri)
}

impl Link {
    /// Starts to connect, in the background and for as long as the handle lives.
    pub(super) fn start(uri: AMQPUri, name: String) -> Self {
        let (sender, state) = watch::channel(State::default());
        let wanted = Arc::new(Notify::new());
        let keeper = tokio::spawn(keep(uri, name, sender, Arc::clone(&wanted)));
        Self {
            state,
            wanted,
            keeper,
        }
    }

    /// The connection, waiting up to `patience` for it.
    pub(super) async fn live(&self, operation: &'static str, patience: Duration) -> Result<Arc<Live>> {
        let mut state = self.state.clone();
        let found = timeout(patience, state.wait_for(|state| state.live.is_some())).await;
        match found {
            Ok(Ok(state)) => state.live.clone().ok_or_else(|| self.away(operation)),
            Ok(Err(_)) | Err(_) => Err(self.away(operation)),
        }
    }

    /// The connection, or why the attempt that runs now failed.
    pub(super) async fn live_now(&self, operation: &'static str) -> Result<Arc<Live>> {
        let mut state = self.state.clone();
        let before = state.borrow().failures;
        self.wanted.notify_one();
        let found = state
            .wait_for(|state| state.live.is_some() || state.failures > before)
            .await;
        let live = found.ok().and_then(|state| state.live.clone());
        live.ok_or_else(|| self.away(operation))
    }

    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// The connection if there is one right now.
    pub(super) fn current(&self) -> Option<Arc<Live>> {
        self.state.borrow().live.clone().filter(|live| live.alive())
    }

    fn away(&self, operation: &'static str) -> PortError {
        match self.state.borrow().reason.clone() {
            Some((kind, reason)) => PortError::new(kind, operation, format!("not connected: {reason}")),
            None => busy(operation, "not connected to RabbitMQ yet"),
        }
    }
}

/// Connects, watches, and connects again, for ever.
async fn keep(uri: AMQPUri, name: String, state: watch::Sender<State>, wanted: Arc<Notify>) {
    let mut backoff = BACKOFF_FIRST;
    let mut generation = 0;
    metrics::gauge!(CONNECTED).set(0.0);
    loop {
        match connect(&uri, &name).await {
            Ok(connection) => {
                generation += 1;
                backoff = BACKOFF_FIRST;
                let events = connection.events_listener();
                let live = Arc::new(Live::new(connection));
                tracing::info!(host = %uri.authority.host, generation, "connected to RabbitMQ");
                metrics::gauge!(CONNECTED).set(1.0);
                state.send_modify(|state| state.live = Some(Arc::clone(&live)));
                let reason = lost(&live, events).await;
                tracing::warn!(host = %uri.authority.host, generation, %reason, "lost the connection to RabbitMQ");
                metrics::gauge!(CONNECTED).set(0.0);
                metrics::counter!(LOST).increment(1);
                fail(&state, busy("queue.connect", reason));
            }
            Err(error) => {
                tracing::warn!(host = %uri.authority.host, %error, "cannot connect to RabbitMQ");
                fail(&state, error);
            }
        }
        let jitter = rand::random_range(0.5..1.0);
        tokio::select! {
            () = tokio::time::sleep(backoff.mul_f64(jitter)) => {}
            // Somebody asks how the broker is: find out, but not more often than the first pause.
            () = async { tokio::time::sleep(BACKOFF_FIRST).await; wanted.notified().await } => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MOST);
    }
}

fn fail(state: &watch::Sender<State>, error: PortError) {
    state.send_modify(|state| {
        state.live = None;
        state.failures += 1;
        state.reason = Some((error.kind, error.detail.into()));
    });
}

async fn connect(uri: &AMQPUri, name: &str) -> Result<Connection> {
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "Flowfleet".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    match timeout(CONNECT, Connection::connect_uri(uri.clone(), properties)).await {
        Ok(result) => result.map_err(|error| explain("queue.connect", error)),
        Err(_) => Err(busy(
            "queue.connect",
            format!("RabbitMQ did not answer within {CONNECT:?}"),
        )),
    }
}

/// Waits until the connection is gone and says why.
async fn lost(live: &Live, events: impl Stream<Item = Event>) -> String {
    let mut events = std::pin::pin!(events);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reason = None;
    loop {
        tokio::select! {
            event = events.next() => match event {
                // An error of one channel arrives here too.
                Some(Event::Error(error)) => reason = Some(error.to_string()),
                Some(Event::ConnectionBlocked(why)) => {
                    tracing::warn!(%why, "RabbitMQ takes no messages: it is short of memory or disk");
                }
                Some(Event::ConnectionUnblocked) => tracing::info!("RabbitMQ takes messages again"),
                Some(_) => {}
                None => return reason.unwrap_or_else(|| "the connection ended".to_owned()),
            },
            _ = look.tick() => {}
        }
        if !live.alive() {
            return reason.unwrap_or_else(|| "RabbitMQ closed the connection".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_table() {
        for (url, host, port, vhost) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", "127.0.0.1", 5672, "/"),
            ("amqp://127.0.0.1", "127.0.0.1", 5672, "/"),
            ("amqp://h:5673/", "h", 5673, "/"),
            (
                "amqps://u:p@b-1.mq.eu-west-1.amazonaws.com/team",
                "b-1.mq.eu-west-1.amazonaws.com",
                5671,
                "team",
            ),
            ("amqp://[::1]:5672/%2f", "::1", 5672, "/"),
        ] {
            let uri = parse(url).unwrap();
            assert_eq!(
                (
                    uri.authority.host.as_str(),
                    uri.authority.port,
                    uri.vhost.as_str()
                ),
                (host, port, vhost)
            );
            assert_eq!(uri.query.heartbeat, Some(HEARTBEAT), "{url}");
        }
        assert_eq!(parse("amqp://h?heartbeat=30").unwrap().query.heartbeat, Some(30));
        assert_eq!(parse("amqp://h").unwrap().query.frame_max, Some(FRAME));
        assert_eq!(
            parse("amqp://h?frame_max=4096").unwrap().query.frame_max,
            Some(4096)
        );
        assert_eq!(
            parse("amqp://user:p%40ss@h").unwrap().authority.userinfo.password,
            "p@ss"
        );
    }
}
