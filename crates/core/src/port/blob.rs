//! Payloads too large for a row.

use async_trait::async_trait;
use bytes::Bytes;

use super::Result;

/// An object store. Keys are chosen by the caller, shaped `a/b/c` of `[A-Za-z0-9._-]` segments.
#[async_trait]
pub trait BlobStore: Send + Sync + std::fmt::Debug {
    /// Stores `bytes` under `key`, durably once it returns. Idempotent: the same key and bytes may be put again;
    /// keys are never reused for other bytes.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()>;

    /// Reads a blob; `None` when there is none under that key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Removes a blob. Idempotent: a missing one is fine.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Whether the backend answers and can be written to.
    async fn ping(&self) -> Result<()>;
}
