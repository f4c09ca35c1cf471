//! Redis or Valkey 6 and later.
//!
//! Two connections a process: one for commands ([`connection`]), one that subscribes ([`subscriptions`]), so
//! that a flood of events delays no announcement. Workers are in one hash ([`presence`]).

mod connection;
mod presence;
mod subscriptions;
mod target;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::id::{RunId, WorkerId};
use flowfleet_core::port::{Bus, Live, LiveStream, Result, WorkerPresence};
use fred::clients::Pipeline;
use fred::interfaces::{ClientLike, PubsubInterface};
use futures::stream::BoxStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::hub::Hub;
use crate::wire;
use connection::{Connection, Role, explain};
use subscriptions::Subscriptions;
use target::Names;

/// Longest wait for a subscription to become active. Whoever gets none reads the store.
const SUBSCRIBE: Duration = Duration::from_secs(2);

/// A bus over Redis.
#[derive(Debug)]
pub(crate) struct RedisBus {
    names: Names,
    commands: Connection,
    subscriber: Connection,
    hub: Arc<Hub>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl RedisBus {
    pub(crate) fn open(url: &str) -> Result<Self> {
        let target = target::parse(url)
            .map_err(|detail| PortError::new(Kind::Permanent, "bus.open", detail.to_owned()))?;
        let commands = Connection::new(&target, Role::Commands)?;
        let subscriber = Connection::new(&target, Role::Subscriber)?;
        let hub = Hub::new(true);
        // Both listen before the connection is made: the first one is news as well.
        let subscriptions = Subscriptions::new(subscriber.client(), Arc::clone(&hub), target.names.clone());
        let messages = subscriptions::messages(subscriber.client(), Arc::clone(&hub), target.names.clone());
        let tasks = [tokio::spawn(subscriptions.run()), tokio::spawn(messages)];
        commands.start();
        subscriber.start();
        Ok(Self {
            names: target.names,
            commands,
            subscriber,
            hub,
            tasks,
        })
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn publish(&self, live: Vec<Live>) -> Result<()> {
        let messages =
            wire::messages(live).map_err(|error| PortError::bug("bus.publish", error.to_string()))?;
        if messages.is_empty() {
            return Ok(());
        }
        let pipeline = Pipeline::from(self.commands.brief("bus.publish").await?);
        for (shard, message) in messages {
            let queued: fred::prelude::FredResult<()> = pipeline
                .publish(self.names.shard(shard), Bytes::from(message))
                .await;
            queued.map_err(|error| explain("bus.publish", error))?;
        }
        pipeline
            .last::<()>()
            .await
            .map_err(|error| explain("bus.publish", error))
    }

    async fn subscribe(&self, run: RunId) -> Result<LiveStream> {
        self.subscriber.ready("bus.subscribe").await?;
        let (stream, mut active) = self.hub.listen(run);
        match timeout(SUBSCRIBE, active.wait_for(|active| *active)).await {
            Ok(Ok(_)) => Ok(stream),
            _ => {
                let detail = format!("Redis did not confirm the subscription within {SUBSCRIBE:?}");
                Err(PortError::new(Kind::Retryable, "bus.subscribe", detail))
            }
        }
    }

    async fn cancel(&self, run: RunId) -> Result<()> {
        let client = self.commands.brief("bus.cancel").await?;
        let sent = client
            .publish::<(), _, _>(self.names.cancel(), run.to_string())
            .await;
        sent.map_err(|error| explain("bus.cancel", error))
    }

    /// Every process is subscribed to cancels as long as it is connected.
    async fn cancels(&self) -> Result<BoxStream<'static, RunId>> {
        let cancels = self.hub.cancels();
        self.subscriber.subscribed("bus.cancels", &self.hub).await?;
        Ok(cancels)
    }

    async fn announce(&self, presence: &WorkerPresence, ttl: Duration) -> Result<()> {
        let client = self.commands.ready("bus.announce").await?;
        presence::announce(client, &self.names, presence, ttl).await
    }

    async fn withdraw(&self, worker: WorkerId) -> Result<()> {
        let client = self.commands.ready("bus.withdraw").await?;
        presence::withdraw(client, &self.names, worker).await
    }

    async fn workers(&self) -> Result<Vec<WorkerPresence>> {
        let client = self.commands.ready("bus.workers").await?;
        presence::workers(client, &self.names).await
    }

    async fn ping(&self) -> Result<()> {
        for connection in [&self.commands, &self.subscriber] {
            let client = connection.ready("bus.ping").await?;
            client
                .ping::<()>(None)
                .await
                .map_err(|error| explain("bus.ping", error))?;
        }
        Ok(())
    }
}
