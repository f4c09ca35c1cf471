//! Payloads too large for a row.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::Result;
use crate::error::{Kind, PortError};

/// A stored blob, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    pub key: String,
    pub size: u64,
    /// By the backend's clock.
    pub stored_at: Timestamp,
}

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

    /// The blobs directly in a folder, the `a/b` of keys `a/b/c`, by their keys, at most `limit`. What is put or deleted
    /// meanwhile may or may not be among them.
    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<BlobInfo>> {
        let detail = format!("this store cannot list {limit} blobs of {folder}");
        Err(PortError::new(Kind::Permanent, "blob.list", detail))
    }

    /// Whether the backend answers and can be written to.
    async fn ping(&self) -> Result<()>;
}
