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
    let value = match inline(value) {
        Ok(payload) => return Ok(payload),
        Err(value) => value,
    };
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

/// A payload of a value that certainly fits into a row, without writing its JSON to see; any other value comes back.
pub fn inline(value: Value) -> Result<Payload, Value> {
    if most(&value) <= INLINE_LIMIT {
        Ok(Payload::Inline(value))
    } else {
        Err(value)
    }
}

/// At least as many bytes as the JSON of a value has.
fn most(value: &Value) -> usize {
    // A control character is written as \u001f; two quotes, a comma or colon.
    let text = |text: &str| text.len() * 6 + 3;
    match value {
        Value::Null | Value::Bool(_) => 6,
        Value::Number(_) => 32,
        Value::String(string) => text(string),
        Value::Array(items) => items.iter().map(most).sum::<usize>() + 3,
        Value::Object(map) => {
            map.iter()
                .map(|(key, value)| text(key) + most(value))
                .sum::<usize>()
                + 3
        }
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[\\x00-\\x1f\"é\u{2028}a]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = "[\\x00-\\x1f\"é]{0,3}";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((key, inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_is_longer_than_reckoned(value in value()) {
            prop_assert!(value.to_string().len() <= most(&value));
        }
    }

    #[test]
    fn what_may_be_too_large_comes_back() {
        let long = json!("x".repeat(INLINE_LIMIT / 2));
        assert_eq!(inline(long.clone()), Err(long));
        assert_eq!(inline(json!({ "a": 1 })), Ok(Payload::Inline(json!({ "a": 1 }))));
    }
}
