//! Keeps what Redis sends us in step with who listens here.
//!
//! The hub notes which shards gained their first or lost their last listener; one task tells Redis. After a reconnect
//! it subscribes to everything again and then tells every listener that it may have missed something.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::{Message, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use super::target::Names;
use crate::hub::Hub;
use crate::metrics::UNDECODABLE;
use crate::shard::{SHARDS, Shard};
use crate::wire;

/// How often an idle subscription is checked and failed changes are tried again.
const LOOK: Duration = Duration::from_secs(5);

/// Whether Redis sends us a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    No,
    /// A command failed, and may have been done all the same.
    Perhaps,
    Yes,
}

pub(super) struct Subscriptions {
    client: Client,
    connects: Receiver<fred::types::config::Server>,
    hub: Arc<Hub>,
    names: Names,
    sent: [Sent; SHARDS],
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
            sent: [Sent::No; SHARDS],
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
        self.sent = [Sent::No; SHARDS];
        let shards = self.hub.start_over();
        if self.confirmed(vec![self.names.cancel()]).await.is_err() || !self.subscribe(&shards).await {
            tracing::debug!("could not subscribe again: trying later");
            return false;
        }
        self.hub.attached.send_replace(true);
        if std::mem::take(&mut self.gap) {
            self.hub.lagged();
        }
        true
    }

    /// Tells Redis of shards that gained or lost their listeners.
    async fn changes(&mut self) {
        let (wanted, unwanted): (Vec<_>, Vec<_>) = self
            .hub
            .take_changed()
            .into_iter()
            .partition(|(_, wanted)| *wanted);
        let wanted: Vec<Shard> = wanted.into_iter().map(|(shard, _)| shard).collect();
        self.subscribe(&wanted).await;
        let mut unwanted: Vec<Shard> = unwanted.into_iter().map(|(shard, _)| shard).collect();
        unwanted.retain(|shard| self.sent[shard.number()] != Sent::No);
        if unwanted.is_empty() {
            return;
        }
        let left = match self.client.unsubscribe(self.channels(&unwanted)).await {
            Ok(()) => Sent::No,
            // Looked at again with the next change or tick; a new connection forgets them anyway.
            Err(_) => {
                self.hub.look_again(&unwanted);
                Sent::Perhaps
            }
        };
        self.mark(&unwanted, left);
    }

    fn channels(&self, shards: &[Shard]) -> Vec<String> {
        shards.iter().map(|shard| self.names.shard(*shard)).collect()
    }

    fn mark(&mut self, shards: &[Shard], sent: Sent) {
        for shard in shards {
            self.sent[shard.number()] = sent;
        }
    }

    /// Subscribes, and waits until Redis has done so. The library answers a SUBSCRIBE as soon as it is written; Redis takes
    /// the commands of a connection in order, so the answer to a later one says that this one is done.
    async fn confirmed(&self, channels: Vec<String>) -> fred::prelude::FredResult<()> {
        self.client.subscribe(channels).await?;
        self.client.ping(None).await
    }

    async fn subscribe(&mut self, shards: &[Shard]) -> bool {
        let (known, new): (Vec<Shard>, Vec<Shard>) = shards
            .iter()
            .partition(|shard| self.sent[shard.number()] == Sent::Yes);
        self.hub.activate(&known);
        if new.is_empty() {
            return true;
        }
        match self.confirmed(self.channels(&new)).await {
            Ok(()) => {
                self.mark(&new, Sent::Yes);
                self.hub.activate(&new);
                true
            }
            Err(error) => {
                tracing::debug!(%error, shards = new.len(), "could not subscribe");
                self.mark(&new, Sent::Perhaps);
                self.hub.look_again(&new);
                false
            }
        }
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
    if !names.is_shard(&message.channel) {
        metrics::counter!(UNDECODABLE).increment(1);
        return;
    }
    for group in wire::groups(body) {
        let Ok((run, items)) = group else {
            metrics::counter!(UNDECODABLE).increment(1);
            return;
        };
        if !hub.listens(run) {
            continue;
        }
        match wire::decode(items) {
            Ok(items) => items.into_iter().for_each(|live| hub.deliver(run, live)),
            Err(_) => metrics::counter!(UNDECODABLE).increment(1),
        }
    }
}
