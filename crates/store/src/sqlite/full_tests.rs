//! A full disk: what cannot be stored is refused as something to try again, and with room again everything works.

use flowfleet_core::port::{RunStore, Upkeep};

use super::*;

#[tokio::test]
async fn the_writer_recovers_from_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.db");
    let store = Sqlite::open(path.to_str().unwrap(), &Options::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    // No page more than there is: what a full disk answers.
    sqlx::query("PRAGMA max_page_count = 1")
        .execute(&store.writer)
        .await
        .unwrap();
    let mut full = None;
    for _ in 0..100 {
        let mut tx = store.begin().await.unwrap();
        let big = sqlx::query("INSERT INTO outbox (created_at, runs) VALUES (0, hex(zeroblob(100000)))");
        full = big.execute(&mut *tx).await.err();
        if full.is_some() {
            break;
        }
        tx.commit().await.unwrap();
    }
    let refused = Error::from(full.expect("the limit is met")).into_port("submit");
    assert!(refused.is_retryable(), "{refused}");
    // A second connection has no such limit: with a sound one there is room again.
    let tx = store.begin().await.unwrap();
    tx.commit().await.unwrap();
    store.ping().await.unwrap();
}
