//! Which payloads stay inline and which go to the blob store, and what is said when a blob is missing or changed.

use flowfleet_core::RunId;
use flowfleet_core::error::Kind;
use flowfleet_core::payload::{INLINE_LIMIT, Payload};
use flowfleet_runtime::payload::{open, seal};
use serde_json::{Value, json};

use crate::fakes::FakeBlobs;

fn large() -> Value {
    json!({ "text": "x".repeat(INLINE_LIMIT) })
}

#[tokio::test]
async fn small_values_stay_inline_and_large_ones_do_not() {
    let blobs = FakeBlobs::default();
    let run = RunId::generate();
    // A string of n characters is n + 2 bytes of JSON.
    for (value, inline) in [
        (json!(null), true),
        (json!("x".repeat(INLINE_LIMIT - 2)), true),
        (json!("x".repeat(INLINE_LIMIT - 1)), false),
        (large(), false),
    ] {
        let payload = seal(&blobs, run, "output", value.clone()).await.unwrap();
        assert_eq!(matches!(payload, Payload::Inline(_)), inline);
        assert_eq!(open(&blobs, &payload).await.unwrap(), value);
    }
}

#[tokio::test]
async fn keys_are_safe_and_the_same_for_the_same_value() {
    let blobs = FakeBlobs::default();
    let run = RunId::generate();
    let payload = seal(&blobs, run, "node-../Prompt œ/1", large()).await.unwrap();
    assert_eq!(
        seal(&blobs, run, "node-../Prompt œ/1", large()).await.unwrap(),
        payload
    );
    let Payload::Blob(reference) = payload else {
        panic!("large")
    };
    assert!(
        reference
            .key
            .starts_with(&format!("runs/{run}/node----Prompt---1-")),
        "{}",
        reference.key
    );
    assert!(
        reference
            .key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_/.".contains(&b))
    );
}

#[tokio::test]
async fn a_missing_or_changed_blob_is_said() {
    let blobs = FakeBlobs::default();
    let payload = seal(&blobs, RunId::generate(), "input", large()).await.unwrap();
    let Payload::Blob(reference) = &payload else {
        panic!("large")
    };
    blobs
        .0
        .lock()
        .unwrap()
        .insert(reference.key.clone(), b"\"other\"".as_slice().into());
    assert_eq!(open(&blobs, &payload).await.unwrap_err().kind, Kind::Bug);
    blobs.0.lock().unwrap().clear();
    let error = open(&blobs, &payload).await.unwrap_err();
    assert_eq!(error.kind, Kind::Permanent);
    assert!(error.to_string().contains("missing"));
}
