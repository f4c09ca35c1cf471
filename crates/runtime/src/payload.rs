//! Payloads on their way to and from the store: inline while small, in the blob store when large.

use bytes::Bytes;
use flowfleet_core::RunId;
use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::payload::{BlobRef, INLINE_LIMIT, Payload};
use flowfleet_core::port::BlobStore;
use serde_json::Value;
use sha2::{Digest, Sha256};

const SEAL: &str = "seal payload";
const OPEN: &str = "open payload";

/// Hex digits of the hash in a blob's key: enough that two values of one run never share a key.
const KEY_DIGITS: usize = 16;

/// Makes a payload of `value`, storing it under `runs/{run}/{what}-{hash}` when it is too large for a row.
/// Idempotent: the same value gives the same key.
pub async fn seal(blob: &dyn BlobStore, run: RunId, what: &str, value: Value) -> Result<Payload, PortError> {
    let text = serde_json::to_vec(&value).map_err(|error| PortError::bug(SEAL, error.to_string()))?;
    if text.len() <= INLINE_LIMIT {
        return Ok(Payload::Inline(value));
    }
    drop(value);
    let sha256 = hex_sha256(&text);
    let key = format!("runs/{run}/{}-{}", segment(what), &sha256[..KEY_DIGITS]);
    let size = text.len() as u64;
    blob.put(&key, Bytes::from(text)).await?;
    Ok(Payload::Blob(BlobRef { key, size, sha256 }))
}

/// Reads a payload back and checks that it is what was written.
pub async fn open(blob: &dyn BlobStore, payload: &Payload) -> Result<Value, PortError> {
    let reference = match payload {
        Payload::Inline(value) => return Ok(value.clone()),
        Payload::Blob(reference) => reference,
    };
    let Some(bytes) = blob.get(&reference.key).await? else {
        return Err(PortError::new(
            Kind::Permanent,
            OPEN,
            format!("blob {} is missing", reference.key),
        ));
    };
    let found = hex_sha256(&bytes);
    if found != reference.sha256 {
        let detail = format!(
            "blob {} hashes to {found}, not {}",
            reference.key, reference.sha256
        );
        return Err(PortError::bug(OPEN, detail));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| PortError::bug(OPEN, format!("{}: {error}", reference.key)))
}

/// Lower-case hex sha256.
pub fn hex_sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// `what` as one segment of a key: node ids may hold anything.
fn segment(what: &str) -> String {
    let kept = what.chars().map(|c| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
            c
        } else {
            '-'
        }
    });
    let segment: String = kept.take(64).collect();
    if segment.is_empty() {
        "payload".to_owned()
    } else {
        segment
    }
}
