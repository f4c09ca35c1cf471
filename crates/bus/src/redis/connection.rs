//! One connection to Redis that is made, and made again, in the background.
//!
//! While it is away every call fails at once: nothing queues up for a bus that is lossy anyway. Only before
//! the first attempt has ended a call waits, so that a process may use the bus as soon as it has opened it.

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::port::Result;
use fred::clients::{Client, WithOptions};
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::Builder;
use fred::types::config::{Options, ReconnectPolicy, UnresponsiveConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::target::Target;
use crate::hub::Hub;
use crate::metrics::CONNECTED;

const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for one command, and for a first connection.
const COMMAND: Duration = Duration::from_secs(2);
/// An answer overdue by this means that the connection is dead.
const UNRESPONSIVE: Duration = Duration::from_secs(5);
const RECONNECT_FIRST_MS: u32 = 50;
const RECONNECT_MOST_MS: u32 = 2_000;
/// Commands waiting in the client: beyond it they fail.
const WAITING: usize = 10_000;
/// Messages that may have arrived and not been handed on. The client keeps room for as many of each kind of news it
/// tells of, so it is not a large number.
const ARRIVED: usize = 1_024;

/// How the connection is.
#[derive(Debug, Clone)]
enum Health {
    /// The first attempt has not ended.
    Starting,
    Up,
    Down(Kind, Arc<str>),
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Commands,
    Subscriber,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Subscriber => "subscriber",
        }
    }
}

/// A connection; dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    role: &'static str,
    place: String,
    health: watch::Sender<Health>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let tasks = self
            .tasks
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for task in tasks.drain(..) {
            task.abort();
        }
        let client = self.client.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Nobody is left to tell if it fails.
            runtime.spawn(async move { client.quit().await });
        }
    }
}

impl Connection {
    pub(super) fn new(target: &Target, role: Role) -> Result<Self> {
        let mut builder = Builder::from_config(target.config.clone());
        builder
            .with_connection_config(|config| {
                config.connection_timeout = CONNECT;
                config.internal_command_timeout = CONNECT;
                config.max_command_attempts = 1;
                config.max_command_buffer_len = WAITING;
                config.reconnect_on_auth_error = true;
                config.unresponsive = UnresponsiveConfig {
                    max_timeout: Some(UNRESPONSIVE),
                    interval: Duration::from_secs(1),
                };
                config.tcp.nodelay = Some(true);
            })
            .with_performance_config(|config| {
                config.default_command_timeout = COMMAND;
                if role == Role::Subscriber {
                    config.broadcast_channel_capacity = ARRIVED;
                }
            })
            .set_policy(ReconnectPolicy::new_exponential(
                0,
                RECONNECT_FIRST_MS,
                RECONNECT_MOST_MS,
                2,
            ));
        let client = builder
            .build()
            .map_err(|error| PortError::permanent("bus.open", error))?;
        Ok(Self {
            client,
            role: role.name(),
            place: target.place.clone(),
            health: watch::Sender::new(Health::Starting),
            tasks: std::sync::Mutex::default(),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Starts to connect; events can be listened to before.
    pub(super) fn start(&self) {
        let watching = watch_health(
            self.client.clone(),
            self.role,
            self.place.clone(),
            self.health.clone(),
        );
        let tasks = [tokio::spawn(watching), tokio::spawn(keep(self.client.clone()))];
        self.tasks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .extend(tasks);
    }

    /// The client when it is connected.
    pub(super) async fn ready(&self, operation: &'static str) -> Result<&Client> {
        if self.client.is_connected() {
            return Ok(&self.client);
        }
        let mut health = self.health.subscribe();
        let settled = timeout(
            COMMAND,
            health.wait_for(|health| !matches!(health, Health::Starting)),
        )
        .await;
        drop(settled);
        if self.client.is_connected() {
            return Ok(&self.client);
        }
        let health = self.health.borrow().clone();
        Err(match health {
            Health::Down(kind, reason) => PortError::new(kind, operation, format!("not connected: {reason}")),
            Health::Starting | Health::Up => PortError::new(
                Kind::Retryable,
                operation,
                format!("not connected to Redis at {}", self.place),
            ),
        })
    }

    /// The client for what is worth nothing later: a command that cannot be sent now, or whose connection is
    /// lost, is over. The plain client would send it on the next connection, long after the caller had its error; this
    /// one does so only with what it took before it knew that the connection was gone.
    pub(super) async fn brief(&self, operation: &'static str) -> Result<WithOptions<Client>> {
        let options = Options {
            fail_fast: true,
            max_attempts: Some(1),
            timeout: Some(COMMAND),
            ..Options::default()
        };
        Ok(self.ready(operation).await?.with_options(&options))
    }

    /// Waits until this process is subscribed to what it always is, if the connection is there at all.
    pub(super) async fn subscribed(&self, operation: &'static str, hub: &Hub) -> Result<()> {
        if self.ready(operation).await.is_err() {
            // It will be, once the connection is back.
            return Ok(());
        }
        let mut attached = hub.attached.subscribe();
        // A subscription that takes longer is made all the same: cancels are lossy.
        let _ = timeout(COMMAND, attached.wait_for(|attached| *attached)).await;
        Ok(())
    }
}

/// Connects, and again if the client gives up (it does on errors it thinks nobody can cure).
async fn keep(client: Client) {
    let mut pause = Duration::from_millis(100);
    loop {
        let started = tokio::time::Instant::now();
        // Its errors are broadcast, and reported from there.
        let _ = client.connect().await;
        if started.elapsed() > Duration::from_secs(30) {
            pause = Duration::from_millis(100);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(u64::from(RECONNECT_MOST_MS)));
    }
}

async fn watch_health(client: Client, role: &'static str, place: String, health: watch::Sender<Health>) {
    let mut errors = client.error_rx();
    let mut connects = client.reconnect_rx();
    let gauge = metrics::gauge!(CONNECTED, "connection" => role);
    gauge.set(0.0);
    loop {
        tokio::select! {
            error = errors.recv() => {
                let Ok((error, _)) = error else { continue };
                if !matches!(*health.borrow(), Health::Down(..)) {
                    tracing::warn!(role, %place, %error, "not connected to Redis");
                }
                let PortError { kind, detail, .. } = explain("bus.connect", error);
                gauge.set(0.0);
                health.send_replace(Health::Down(kind, detail.into()));
            }
            server = connects.recv() => {
                if server.is_err() {
                    continue;
                }
                // The connection is announced a moment before it takes commands.
                let _ = timeout(COMMAND, async {
                    while !client.is_connected() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                })
                .await;
                tracing::info!(role, %place, "connected to Redis");
                gauge.set(1.0);
                health.send_replace(Health::Up);
            }
        }
    }
}

/// An error of the client library, in the words of the port.
pub(super) fn explain(operation: &'static str, error: fred::error::Error) -> PortError {
    use fred::error::ErrorKind;
    let kind = match error.kind() {
        ErrorKind::Auth | ErrorKind::Config | ErrorKind::Url | ErrorKind::Tls => Kind::Permanent,
        ErrorKind::InvalidArgument | ErrorKind::InvalidCommand => Kind::Bug,
        _ => Kind::Retryable,
    };
    PortError {
        kind,
        operation,
        detail: format!("Redis: {}", error.details()),
        source: Some(Box::new(error)),
    }
}
