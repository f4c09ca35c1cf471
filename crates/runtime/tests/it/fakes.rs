//! Ports that record calls and fail when told to.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::event::RunEvent;
use flowfleet_core::pool::Pool;
use flowfleet_core::port::{
    Backlog, BlobStore, Consumer, Depth, Envelope, Leadership, OutboxRow, Queue, Result, Upkeep,
};
use jiff::Timestamp;

fn away(operation: &'static str) -> PortError {
    PortError::new(Kind::Retryable, operation, "away")
}

/// Counts down the failures still to come.
fn fails(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok()
}

#[derive(Debug, Default)]
pub(crate) struct FakeQueue {
    /// While there are any to come the broker is away.
    pub(crate) failures: AtomicU32,
    /// A pool that the broker takes no messages for, and the kind of its refusal.
    pub(crate) refused: Mutex<Option<(Pool, Kind)>>,
    pub(crate) published: Mutex<Vec<Vec<Envelope>>>,
}

#[async_trait]
impl Queue for FakeQueue {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<()> {
        tokio::task::yield_now().await;
        if fails(&self.failures) {
            return Err(away("publish"));
        }
        if let Some((queue, kind)) = &*self.refused.lock().unwrap()
            && envelopes.iter().any(|envelope| envelope.pool == *queue)
        {
            return Err(PortError::new(*kind, "publish", "refused"));
        }
        self.published.lock().unwrap().push(envelopes.to_vec());
        Ok(())
    }

    async fn consume(&self, _: &[Pool], _: u16) -> Result<Box<dyn Consumer>> {
        Err(away("consume"))
    }

    async fn depth(&self, _: &Pool) -> Result<Depth> {
        Ok(Depth::default())
    }

    async fn ping(&self, _: Duration) -> Result<()> {
        if self.failures.load(Ordering::SeqCst) > 0 {
            return Err(away("ping"));
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeOutbox {
    pub(crate) failures: AtomicU32,
    pub(crate) done: Mutex<Vec<i64>>,
}

#[async_trait]
impl Upkeep for FakeOutbox {
    async fn outbox_done(&self, ids: &[i64]) -> Result<()> {
        if fails(&self.failures) {
            return Err(away("outbox_done"));
        }
        self.done.lock().unwrap().extend(ids);
        Ok(())
    }

    async fn outbox_leftover(&self, _: Duration, _: u32) -> Result<Vec<OutboxRow>> {
        Ok(Vec::new())
    }

    async fn promote_due(&self, _: u32) -> Result<(u32, Option<OutboxRow>)> {
        Ok((0, None))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    async fn reap(&self, _: u32) -> Result<(Vec<RunEvent>, Option<OutboxRow>)> {
        Ok((Vec::new(), None))
    }

    async fn expire(&self, _: u32) -> Result<Vec<RunEvent>> {
        Ok(Vec::new())
    }

    async fn republish(&self, _: &Pool, _: Duration, _: u32) -> Result<Option<OutboxRow>> {
        Ok(None)
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        Ok(Vec::new())
    }

    async fn lead(&self, _: &str) -> Result<Option<Box<dyn Leadership>>> {
        Ok(None)
    }

    async fn migrate(&self) -> Result<u32> {
        Ok(0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeBlobs(pub(crate) Mutex<HashMap<String, Bytes>>);

#[async_trait]
impl BlobStore for FakeBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.0.lock().unwrap().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}
