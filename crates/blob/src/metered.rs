//! Counts and times a blob store.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use flowfleet_core::port::{BlobInfo, BlobStore, Result};

use crate::metrics::{BYTES, ERRORS, OPERATION_SECONDS};

#[derive(Debug)]
pub(crate) struct Metered<T>(T);

impl<T: BlobStore> Metered<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(inner)
    }
}

async fn timed<R>(operation: &'static str, call: impl Future<Output = Result<R>>) -> Result<R> {
    let start = Instant::now();
    let result = call.await;
    metrics::histogram!(OPERATION_SECONDS, "operation" => operation).record(start.elapsed().as_secs_f64());
    if result.is_err() {
        metrics::counter!(ERRORS, "operation" => operation).increment(1);
    }
    result
}

#[async_trait]
impl<T: BlobStore> BlobStore for Metered<T> {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        timed("put", self.0.put(key, bytes)).await?;
        metrics::counter!(BYTES, "operation" => "put").increment(size);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let found = timed("get", self.0.get(key)).await?;
        if let Some(bytes) = &found {
            metrics::counter!(BYTES, "operation" => "get").increment(bytes.len() as u64);
        }
        Ok(found)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        timed("delete", self.0.delete(key)).await
    }

    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<BlobInfo>> {
        timed("list", self.0.list(folder, limit)).await
    }

    async fn ping(&self) -> Result<()> {
        timed("ping", self.0.ping()).await
    }
}
