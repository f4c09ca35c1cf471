//! Files.

use std::path::Path;

use bytes::Bytes;
use flowfleet_core::error::Kind;

use crate::contract;

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn files_below(path: &Path) -> usize {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_pass_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store = flowfleet_blob::open(&url(&directory.path().join("new/blobs")))
        .await
        .unwrap();
    contract::suite(store).await;
    assert_eq!(
        files_below(&directory.path().join("new/blobs/~tmp")),
        0,
        "no temporary file stays"
    );
}

#[tokio::test]
async fn blobs_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    flowfleet_blob::open(&url)
        .await
        .unwrap()
        .put("a/b", Bytes::from_static(b"x"))
        .await
        .unwrap();
    let again = flowfleet_blob::open(&url).await.unwrap();
    assert_eq!(again.get("a/b").await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn empty_directories_go_with_their_last_blob() {
    let directory = tempfile::tempdir().unwrap();
    let store = flowfleet_blob::open(&url(directory.path())).await.unwrap();
    store.put("runs/1/in", Bytes::from_static(b"x")).await.unwrap();
    store.put("runs/1/out", Bytes::from_static(b"y")).await.unwrap();
    store.delete("runs/1/in").await.unwrap();
    assert!(directory.path().join("runs/1").is_dir());
    store.delete("runs/1/out").await.unwrap();
    assert!(!directory.path().join("runs").exists());
    assert!(directory.path().is_dir());
}

#[tokio::test]
async fn a_key_below_a_blob_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = flowfleet_blob::open(&url(directory.path())).await.unwrap();
    store.put("a", Bytes::from_static(b"x")).await.unwrap();
    let error = store.put("a/b", Bytes::from_static(b"y")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Permanent);
    assert_eq!(files_below(&directory.path().join("~tmp")), 0);
}

#[tokio::test]
async fn a_lost_directory_fails_the_ping_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("blobs");
    let store = flowfleet_blob::open(&url(&root)).await.unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    assert!(store.ping().await.is_err());
    store.put("a", Bytes::from_static(b"x")).await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn s3_says_that_it_is_missing() {
    let error = flowfleet_blob::open("s3://bucket/prefix").await.unwrap_err();
    assert_eq!(error.kind, Kind::Permanent);
    assert!(error.to_string().contains("this build has no S3"), "{error}");
}
