//! One batch on its way to the store: tried again while the store is away, taken apart when it is refused.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::error::PortError;
use flowfleet_core::port::{Fenced, Store};
use flowfleet_core::run::{Finish, Progress, Release};
use flowfleet_runtime::backoff::Backoff;
use flowfleet_runtime::{Readiness, Relay};

use crate::metrics::JOURNAL_BATCH_SIZE;

/// How long one write may take before it counts as failed. If it was committed after all, the second try
/// changes nothing: progress says after which event it comes, ends are fenced.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// One kind of write.
#[async_trait]
pub(super) trait Write<T: Sync>: Sync {
    const KIND: &'static str;
    async fn write(&self, items: &[T]) -> Result<Vec<Fenced>, PortError>;
}

pub(super) struct Checkpoints<'a>(pub(super) &'a dyn Store);

#[async_trait]
impl Write<Progress> for Checkpoints<'_> {
    const KIND: &'static str = "checkpoint";

    async fn write(&self, items: &[Progress]) -> Result<Vec<Fenced>, PortError> {
        self.0.checkpoint(items).await
    }
}

pub(super) struct Finishes<'a>(pub(super) &'a dyn Store);

#[async_trait]
impl Write<Finish> for Finishes<'_> {
    const KIND: &'static str = "finish";

    async fn write(&self, items: &[Finish]) -> Result<Vec<Fenced>, PortError> {
        self.0.finish(items).await
    }
}

pub(super) struct Releases<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) relay: &'a Relay,
}

#[async_trait]
impl Write<Release> for Releases<'_> {
    const KIND: &'static str = "release";

    async fn write(&self, items: &[Release]) -> Result<Vec<Fenced>, PortError> {
        let (fenced, outbox) = self.store.release(items).await?;
        if let Some(row) = outbox {
            self.relay.send(row);
        }
        Ok(fenced)
    }
}

/// Writes all items and answers in their order. Waits as long as the store is away; an item that the store refuses for
/// good is an error of its own and takes no other with it.
pub(super) async fn write_all<T: Sync, W: Write<T>>(
    store: &W,
    items: &[T],
    readiness: &Readiness,
) -> Vec<Result<Fenced, Arc<PortError>>> {
    if items.is_empty() {
        return Vec::new();
    }
    metrics::histogram!(JOURNAL_BATCH_SIZE, "kind" => W::KIND).record(items.len() as f64);
    let refused = match until_answered(store, items, readiness).await {
        Ok(results) => return results.into_iter().map(Ok).collect(),
        Err(refused) => Arc::new(refused),
    };
    if items.len() == 1 {
        return vec![Err(refused)];
    }
    tracing::warn!(error = %refused, items = items.len(), kind = W::KIND, "a batch was refused: one by one");
    let mut results = Vec::with_capacity(items.len());
    for item in items {
        let result = until_answered(store, std::slice::from_ref(item), readiness).await;
        results.push(
            result
                .map_err(Arc::new)
                .and_then(|mut one| one.pop().ok_or_else(|| Arc::clone(&refused))),
        );
    }
    results
}

async fn until_answered<T: Sync, W: Write<T>>(
    store: &W,
    items: &[T],
    readiness: &Readiness,
) -> Result<Vec<Fenced>, PortError> {
    let mut backoff = Backoff::default();
    loop {
        let away = match tokio::time::timeout(PATIENCE, store.write(items)).await {
            Ok(Ok(results)) if results.len() == items.len() => return Ok(results),
            Ok(Ok(results)) => {
                let detail = format!("{} answers to {} writes", results.len(), items.len());
                return Err(PortError::bug(W::KIND, detail));
            }
            Ok(Err(error)) if error.is_retryable() => error.to_string(),
            Ok(Err(error)) => return Err(error),
            Err(_) => format!("{}: no answer within {PATIENCE:?}", W::KIND),
        };
        readiness.set("store", Err(away));
        backoff.wait().await;
    }
}
