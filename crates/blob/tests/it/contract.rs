//! What every blob store must do.

use std::sync::Arc;

use bytes::Bytes;
use flowfleet_core::error::Kind;
use flowfleet_core::port::BlobStore;

/// The whole suite against a fresh store.
pub(crate) async fn suite(store: Arc<dyn BlobStore>) {
    store.ping().await.unwrap();
    round_trip(&*store).await;
    put_and_delete_are_idempotent(&*store).await;
    keys_are_checked(&*store).await;
    a_key_is_not_a_directory(&*store).await;
    folders_are_listed(&*store).await;
    many_at_once(store).await;
}

async fn round_trip(store: &dyn BlobStore) {
    assert_eq!(store.get("rt/none").await.unwrap(), None);
    for (key, bytes) in [
        ("rt/a", Bytes::from_static(b"hello")),
        ("rt/empty", Bytes::new()),
        ("rt/deep/er/x.json", Bytes::from(vec![0, 255, 10, 13])),
        ("rt/large", Bytes::from(vec![7; 3 << 20])),
    ] {
        store.put(key, bytes.clone()).await.unwrap();
        assert_eq!(store.get(key).await.unwrap(), Some(bytes), "{key}");
    }
}

async fn put_and_delete_are_idempotent(store: &dyn BlobStore) {
    for _ in 0..3 {
        store.put("idem/x", Bytes::from_static(b"same")).await.unwrap();
    }
    assert_eq!(store.get("idem/x").await.unwrap().unwrap(), "same");
    for _ in 0..3 {
        store.delete("idem/x").await.unwrap();
        assert_eq!(store.get("idem/x").await.unwrap(), None);
    }
    store.put("idem/x", Bytes::from_static(b"same")).await.unwrap();
    assert_eq!(store.get("idem/x").await.unwrap().unwrap(), "same");
}

async fn keys_are_checked(store: &dyn BlobStore) {
    for key in ["", "/etc/x", "../x", "a/../../x", "a//b", "a b", "~tmp/x"] {
        let put = store.put(key, Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(put.kind, Kind::Permanent, "{key:?}");
        assert_eq!(store.get(key).await.unwrap_err().kind, Kind::Permanent, "{key:?}");
        assert_eq!(
            store.delete(key).await.unwrap_err().kind,
            Kind::Permanent,
            "{key:?}"
        );
    }
}

async fn folders_are_listed(store: &dyn BlobStore) {
    assert_eq!(store.list("list/none", 10).await.unwrap(), []);
    for (key, bytes) in [
        ("list/b", "22"),
        ("list/a", "1"),
        ("list/c/d", "4"),
        ("lis/e", "5"),
    ] {
        store
            .put(key, Bytes::from_static(bytes.as_bytes()))
            .await
            .unwrap();
    }
    let list = async |limit| {
        let found = store.list("list", limit).await.unwrap();
        found
            .into_iter()
            .map(|blob| (blob.key, blob.size))
            .collect::<Vec<_>>()
    };
    let (a, b) = (("list/a".to_owned(), 1), ("list/b".to_owned(), 2));
    assert_eq!(list(10).await, [a.clone(), b.clone()], "what is directly in it");
    assert_eq!(list(1).await, [a]);
    store.delete("list/a").await.unwrap();
    assert_eq!(list(10).await, [b]);
    assert_eq!(store.list("list/b", 10).await.unwrap(), [], "a blob is no folder");
    assert_eq!(store.list("../x", 10).await.unwrap_err().kind, Kind::Permanent);
}

async fn a_key_is_not_a_directory(store: &dyn BlobStore) {
    store.put("dir/a/b", Bytes::from_static(b"b")).await.unwrap();
    assert_eq!(store.get("dir/a").await.unwrap(), None);
    assert_eq!(store.get("dir/a/b/c").await.unwrap(), None);
    store.delete("dir/a").await.unwrap();
    assert_eq!(store.get("dir/a/b").await.unwrap().unwrap(), "b");
}

/// Puts and deletes in the same places at once lose nothing that was not deleted.
async fn many_at_once(store: Arc<dyn BlobStore>) {
    let tasks: Vec<_> = (0..32)
        .map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..8 {
                    let key = format!("many/{}/{i}-{round}", i % 4);
                    store.put(&key, Bytes::from(key.clone())).await.unwrap();
                    assert_eq!(store.get(&key).await.unwrap().unwrap(), key);
                    if round % 2 == 0 {
                        store.delete(&key).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for i in 0..32 {
        for round in 0..8 {
            let key = format!("many/{}/{i}-{round}", i % 4);
            let found = store.get(&key).await.unwrap();
            assert_eq!(found.is_some(), round % 2 == 1, "{key}");
        }
    }
}
