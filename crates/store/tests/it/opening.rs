//! Opening and migrating.

use flowfleet_core::Kind;
use flowfleet_store::{Options, open};

use crate::bed::Bed;

/// Another database beside the one of the case, not migrated.
async fn empty_beside(bed: &Bed) -> String {
    if bed.url.starts_with("sqlite") {
        return "sqlite::memory:".to_owned();
    }
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&bed.url)
        .await
        .unwrap();
    sqlx::Executor::execute(&mut connection, "CREATE SCHEMA empty")
        .await
        .unwrap();
    format!("{}?options=-c%20search_path%3Dempty", bed.url)
}

pub(crate) async fn an_empty_database_asks_for_migrate(bed: Bed) {
    bed.store.ping().await.unwrap();
    let store = open(&empty_beside(&bed).await, Options::default()).await.unwrap();
    let refused = store.ping().await.unwrap_err();
    assert_eq!(refused.kind, Kind::Permanent);
    assert!(refused.detail.contains("flowfleet migrate"), "{refused}");
    let refused = store.submit(&[bed.new_run()]).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Permanent);
    assert!(refused.detail.contains("flowfleet migrate"), "{refused}");
    assert!(store.migrate().await.unwrap() > 0);
    store.ping().await.unwrap();
}

pub(crate) async fn migrating_twice_changes_nothing(bed: Bed) {
    let run = bed.submit_one().await;
    assert_eq!(bed.store.migrate().await.unwrap(), 0);
    let (one, other) = tokio::join!(bed.store.migrate(), bed.store.migrate());
    assert_eq!((one.unwrap(), other.unwrap()), (0, 0));
    bed.get(run).await;
}

#[tokio::test]
async fn unknown_schemes_are_refused_without_showing_the_password() {
    for url in ["mysql://user:secret@host/db", "", "/just/a/path", "sqlite:"] {
        let refused = open(url, Options::default()).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Permanent, "{url}");
        assert!(refused.detail.contains("sqlite:PATH"), "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_worth_another_try() {
    // Port 1 of this machine refuses connections.
    let store = open("postgres://nobody@127.0.0.1:1/none", Options::default())
        .await
        .unwrap();
    let refused = store.ping().await.unwrap_err();
    assert_eq!(refused.kind, Kind::Retryable, "{refused}");
}

#[tokio::test]
async fn a_file_keeps_its_runs_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("deep/er/store.db").display());
    let tenant = "acme".parse().unwrap();
    let run = crate::bed::new_run(&tenant);
    {
        let store = open(&url, Options::default()).await.unwrap();
        assert!(store.migrate().await.unwrap() > 0);
        store.submit(std::slice::from_ref(&run)).await.unwrap();
    }
    let store = open(&url, Options::default()).await.unwrap();
    store.ping().await.unwrap();
    assert!(store.get(&tenant, run.id).await.unwrap().is_some());
}
