//! Keeps what Redis sends us in step with who listens here.
//!
//! The hub notes which runs gained their first or lost their last listener; one task tells Redis, many runs in
//! one command. After a reconnect it subscribes to everything again and then tells every listener that it may
//! have missed something.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::id::RunId;
use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::{Message, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use super::target::Names;
use crate::hub::Hub;
use crate::metrics::UNDECODABLE;
use crate::wire;

/// Channels in one command.
const BATCH: usize = 500;
/// How often an idle subscription is checked and failed changes are tried again.
const LOOK: Duration = Duration::from_secs(5);

pub(super) struct Subscriptions {
    client: Client,
    connects: Receiver<fred::types::config::Server>,
    hub: Arc<Hub>,
    names: Names,
    /// What Redis sends us, as far as it confirmed.
    subscribed: HashSet<RunId>,
    /// A subscription to everything is owed.
    owed: bool,
    /// Listeners may have missed something.
    gap: bool,
}

impl Subscriptions {
    /// Listens to connections from now on.
    pub(super) fn new(client: &Client, hub: Arc<Hub>, names: Names) -> Self {
        Self {
            client: client.clone(),
            connects: client.reconnect_rx(),
            hub,
            names,
            subscribed: HashSet::new(),
            owed: false,
            gap: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hub = Arc::clone(&self.hub);
        let mut first = true;
        loop {
            tokio::select! {
                connected = self.connects.recv() => match connected {
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        self.gap = !first;
                        first = false;
                        self.owed = true;
                    }
                    // The client was closed, or is being replaced.
                    Err(RecvError::Closed) => {
                        tokio::time::sleep(LOOK).await;
                        self.connects = self.client.reconnect_rx();
                    }
                },
                () = hub.dirty.notified() => {}
                _ = look.tick() => {
                    if self.client.is_connected() {
                        // Without traffic a dead connection looks like a quiet one.
                        let _ = self.client.ping::<()>(None).await;
                    }
                }
            }
            if self.owed {
                self.owed = !self.everything().await;
            } else {
                self.changes().await;
            }
        }
    }

    /// Subscribes to all that is listened to, on a new connection.
    async fn everything(&mut self) -> bool {
        self.subscribed.clear();
        self.hub.take_changed();
        let runs = self.hub.runs();
        if self.confirmed(vec![self.names.cancel()]).await.is_err() || !self.subscribe(&runs).await {
            tracing::debug!("could not subscribe again: trying later");
            return false;
        }
        self.hub.attached.send_replace(true);
        if std::mem::take(&mut self.gap) {
            self.hub.lagged();
        }
        true
    }

    /// Tells Redis of runs that gained or lost their listeners.
    async fn changes(&mut self) {
        let (wanted, unwanted): (Vec<_>, Vec<_>) = self
            .hub
            .take_changed()
            .into_iter()
            .partition(|(_, listened)| *listened);
        let wanted: Vec<RunId> = wanted.into_iter().map(|(run, _)| run).collect();
        self.subscribe(&wanted).await;
        let unwanted: Vec<RunId> = unwanted
            .into_iter()
            .map(|(run, _)| run)
            .filter(|run| self.subscribed.contains(run))
            .collect();
        for batch in unwanted.chunks(BATCH) {
            let channels: Vec<String> = batch.iter().map(|run| self.names.run(*run)).collect();
            let gone: HashSet<&RunId> = batch.iter().collect();
            match self.client.unsubscribe(channels).await {
                Ok(()) => self.subscribed.retain(|run| !gone.contains(run)),
                // Looked at again with the next change or tick; a new connection forgets them anyway.
                Err(_) => self.hub.look_again(batch),
            }
        }
    }

    /// Subscribes, and waits until Redis has done so. The library answers a SUBSCRIBE as soon as it is written; Redis takes
    /// the commands of a connection in order, so the answer to a later one says that this one is done.
    async fn confirmed(&self, channels: Vec<String>) -> fred::prelude::FredResult<()> {
        self.client.subscribe(channels).await?;
        self.client.ping(None).await
    }

    async fn subscribe(&mut self, runs: &[RunId]) -> bool {
        let (known, new): (Vec<RunId>, Vec<RunId>) =
            runs.iter().partition(|run| self.subscribed.contains(run));
        self.hub.set_active(&known, true);
        let mut complete = true;
        for batch in new.chunks(BATCH) {
            let channels: Vec<String> = batch.iter().map(|run| self.names.run(*run)).collect();
            match self.confirmed(channels).await {
                Ok(()) => {
                    self.subscribed.extend(batch);
                    self.hub.set_active(batch, true);
                }
                Err(error) => {
                    tracing::debug!(%error, runs = batch.len(), "could not subscribe");
                    self.hub.look_again(batch);
                    complete = false;
                }
            }
        }
        complete
    }
}

/// Hands what Redis sends to the listeners here, for as long as the client lives.
pub(super) fn messages(client: &Client, hub: Arc<Hub>, names: Names) -> impl Future<Output = ()> + use<> {
    let client = client.clone();
    let mut arriving = client.message_rx();
    async move {
        let cancel = names.cancel();
        loop {
            match arriving.recv().await {
                Ok(message) => hand_on(&message, &cancel, &hub, &names),
                // More arrived than this process could take.
                Err(RecvError::Lagged(_)) => hub.lagged(),
                Err(RecvError::Closed) => {
                    tokio::time::sleep(LOOK).await;
                    arriving = client.message_rx();
                }
            }
        }
    }
}

fn hand_on(message: &Message, cancel: &str, hub: &Hub, names: &Names) {
    let body: &[u8] = match &message.value {
        Value::Bytes(bytes) => bytes,
        Value::String(text) => text.as_bytes(),
        _ => &[],
    };
    if *message.channel == *cancel {
        match std::str::from_utf8(body).ok().and_then(|text| text.parse().ok()) {
            Some(run) => hub.cancel(run),
            None => metrics::counter!(UNDECODABLE).increment(1),
        }
        return;
    }
    let Some(run) = names.run_of(&message.channel) else {
        metrics::counter!(UNDECODABLE).increment(1);
        return;
    };
    match wire::decode(body) {
        Ok(items) => items.into_iter().for_each(|live| hub.deliver(run, live)),
        Err(_) => metrics::counter!(UNDECODABLE).increment(1),
    }
}
