//! One connection while it lives, and the channels on it that are shared.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use flowfleet_core::pool::Pool;
use flowfleet_core::port::{Depth, Result};
use flowfleet_core::run::Priority;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::explain::{NOT_FOUND, code, explain};
use super::topology::{Names, arguments, durable, passive};

/// Channels that publish at once: measured, four are as fast as more.
const PUBLISHERS: usize = 4;

/// A connection and what hangs on it.
pub(super) struct Live {
    connection: Connection,
    /// Pools whose queues were declared on this connection.
    declared: AsyncMutex<HashSet<Pool>>,
    /// Confirming channels no call uses right now.
    idle: Mutex<Vec<Channel>>,
    /// Calls that may publish at once.
    pub(super) publishers: Semaphore,
    /// Asks for depths; an unknown queue costs it its life.
    asking: AsyncMutex<Option<Channel>>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("status", self.connection.status())
            .finish_non_exhaustive()
    }
}

impl Live {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            declared: AsyncMutex::default(),
            idle: Mutex::default(),
            publishers: Semaphore::new(PUBLISHERS),
            asking: AsyncMutex::default(),
        }
    }

    pub(super) fn alive(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether the broker refuses to read from publishers (its memory or disk alarm).
    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    pub(super) async fn channel(&self, operation: &'static str) -> Result<Channel> {
        self.connection
            .create_channel()
            .await
            .map_err(|error| explain(operation, error))
    }

    /// Asks the broker for something it must answer.
    pub(super) async fn round_trip(&self) -> Result<()> {
        let channel = self.channel("queue.ping").await?;
        channel
            .close(200, "OK".into())
            .await
            .map_err(|error| explain("queue.ping", error))
    }

    /// Makes sure that a pool's queues exist.
    pub(super) async fn declare(&self, names: &Names, queue: &Pool) -> Result<()> {
        let mut declared = self.declared.lock().await;
        if declared.contains(queue) {
            return Ok(());
        }
        // A channel of its own: a refusal closes it.
        let channel = self.channel("queue.declare").await?;
        for priority in Priority::ALL {
            channel
                .queue_declare(names.of(queue, priority), durable(), arguments())
                .await
                .map_err(|error| explain("queue.declare", error))?;
        }
        declared.insert(queue.clone());
        Ok(())
    }

    /// The pool's queues may be gone: the next one to need them declares them.
    pub(super) async fn forget(&self, queue: &Pool) {
        self.declared.lock().await.remove(queue);
    }

    /// Messages ready in a pool.
    pub(super) async fn depth(&self, names: &Names, queue: &Pool) -> Result<Depth> {
        Ok(Depth {
            high: self.ready(names, queue, Priority::High).await?,
            normal: self.ready(names, queue, Priority::Normal).await?,
            low: self.ready(names, queue, Priority::Low).await?,
        })
    }

    /// Messages ready in one queue of a pool; none where there is no queue.
    pub(super) async fn ready(&self, names: &Names, queue: &Pool, priority: Priority) -> Result<u64> {
        let mut asking = self.asking.lock().await;
        let channel = match asking.take() {
            Some(channel) if channel.status().connected() => channel,
            _ => self.channel("queue.depth").await?,
        };
        match channel
            .queue_declare(names.of(queue, priority), passive(), arguments())
            .await
        {
            Ok(state) => {
                *asking = Some(channel);
                Ok(u64::from(state.message_count()))
            }
            // The channel is gone as well; the next question opens another.
            Err(error) if code(&error) == Some(NOT_FOUND) => Ok(0),
            Err(error) => Err(explain("queue.depth", error)),
        }
    }

    /// A channel that confirms, for one call. Whoever is done with it and had no error gives it back; a
    /// channel with confirms under way is dropped instead, which closes it.
    pub(super) async fn take_publisher(&self) -> Result<Channel> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(channel) = idle.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = self.channel("queue.publish").await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(|error| explain("queue.publish", error))?;
        Ok(channel)
    }

    pub(super) fn give_back(&self, channel: Channel) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(channel);
    }
}
