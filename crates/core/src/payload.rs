//! Inputs and outputs of runs: inline while small, a reference into the blob store when large.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Payloads whose JSON is longer than this go to the blob store.
pub const INLINE_LIMIT: usize = 64 * 1024;

/// Where a large payload lies, and what it must hash to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    pub key: String,
    pub size: u64,
    /// Lower-case hex sha256 of the bytes.
    pub sha256: String,
}

/// A JSON value, or where to find it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    Inline(Value),
    Blob(BlobRef),
}

impl Payload {
    pub fn null() -> Self {
        Self::Inline(Value::Null)
    }
}
