//! Knowledge: what a search finds, with and without pgvector.

use flowfleet_core::knowledge::{Chunk, Distance, FOUND, SearchBy, Tags};
use serde_json::json;
use sqlx::{Connection, Executor as _, PgConnection};

use crate::bed::Bed;
use crate::knowledge::{chunk, kept};

pub(crate) async fn the_nearest_are_found(bed: Bed) {
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    assert_eq!(bed.texts_near(&base, &[0.0, 0.0], 3).await, "", "an empty base");
    let mut first = chunk("a", &[0.0, 1.0]);
    first.content = "\u{0}a\u{e9}\u{1f600} b\n".to_owned();
    first.metadata = json!({"z": "\u{0}\u{1}", "n": [1.5, null], "a": {}});
    let chunks = [
        first.clone(),
        chunk("b", &[3.0, 0.0]),
        chunk("c", &[2.0, 0.0]),
        chunk("d", &[-2.0, 0.0]),
        chunk("e", &[0.0, 10.0]),
    ];
    assert_eq!(bed.bring(lease, &base, &chunks, true).await, kept(&[true; 5]));
    let found = bed.look(&base, &[0.0, 0.0], 2, Tags::new()).await;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].content, first.content.replace('\0', ""));
    assert_eq!(
        found[0].metadata.to_string(),
        first.metadata.to_string(),
        "in its order"
    );
    assert_eq!((found[0].distance, found[1].distance), (1.0, 2.0));
    assert_eq!(found[0].vector, first.vector);
    assert_eq!(found[1].content, "c", "the older of two as far away");
    assert_eq!(bed.texts_near(&base, &[0.0, 0.0], 0).await, "");
    assert_eq!(
        bed.look(&base, &[0.0, 0.0], FOUND * 2, Tags::new()).await.len(),
        5
    );
    let base = bed.stored("docs").await;
    let characters: usize = chunks.iter().map(|chunk| chunk.content.chars().count()).sum();
    assert_eq!((base.dimensions, base.chunks, base.words), (Some(2), 5, 6));
    assert_eq!(base.characters, characters as u64);
}

/// Vectors of several lengths, and of numbers that 32 bits square to nothing or not at all.
pub(crate) async fn distances_are_those_of_the_domain(bed: Bed) {
    let lease = bed.lease().await;
    let mut state = 7_u64;
    let mut number = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    for dimensions in [1, 3, 16, 33, 64, 1536] {
        let base = bed.base(&format!("of-{dimensions}")).await;
        let mut vector = || -> Vec<f32> { (0..dimensions).map(|_| number()).collect() };
        let mut chunks: Vec<Chunk> = (0..90).map(|n| chunk(&n.to_string(), &vector())).collect();
        chunks[5].vector[0] = 1e-20;
        chunks[6].vector[0] = 1e30;
        bed.bring(lease, &base, &chunks, true).await;
        let from = vector();
        let distance = Distance::from(&from);
        let mut expected: Vec<(f64, &str)> = chunks
            .iter()
            .map(|chunk| (distance.to(&chunk.vector), chunk.content.as_str()))
            .collect();
        expected.sort_by(|a, b| a.0.total_cmp(&b.0));
        expected.truncate(7);
        let found = bed.look(&base, &from, 7, Tags::new()).await;
        let found: Vec<(f64, &str)> = found
            .iter()
            .map(|found| (found.distance, found.content.as_str()))
            .collect();
        assert_eq!(found, expected, "{dimensions}");
    }
}

pub(crate) async fn tags_narrow_a_search(bed: Bed) {
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    let tags = |pairs: &[(&str, &str)]| {
        let mut tags = Tags::new();
        for (key, value) in pairs {
            tags.entry((*key).to_owned())
                .or_default()
                .push((*value).to_owned());
        }
        tags
    };
    let tagged = |content: &str, distance: f32, pairs: &[(&str, &str)]| Chunk {
        tags: tags(pairs),
        ..chunk(content, &[distance])
    };
    let chunks = [
        tagged("a", 1.0, &[("kind", "x"), ("year", "1\u{0}")]),
        tagged("b", 2.0, &[("kind", "y"), ("kind", "x")]),
        tagged("c", 3.0, &[("kind", "z")]),
        tagged("d", 0.0, &[]),
    ];
    bed.bring(lease, &base, &chunks, true).await;
    for (wanted, expected) in [
        (tags(&[]), "dab"),
        (tags(&[("kind", "x")]), "ab"),
        (tags(&[("kind", "z"), ("kind", "y")]), "bc"),
        (tags(&[("kind", "x"), ("year", "1\u{0}")]), "a"),
        (tags(&[("kind", "nothing")]), ""),
        (tags(&[("other", "x")]), ""),
    ] {
        let found = bed.look(&base, &[0.0], 3, wanted.clone()).await;
        let found: String = found.into_iter().map(|found| found.content).collect();
        assert_eq!(found, expected, "{wanted:?}");
    }
}

/// Whoever administers the database drops the extension, or it never was there.
pub(crate) async fn without_the_extension(bed: Bed) {
    let mut database = PgConnection::connect(&bed.url).await.unwrap();
    let offered: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector')")
            .fetch_one(&mut database)
            .await
            .unwrap();
    let by = if offered {
        SearchBy::Extension
    } else {
        SearchBy::Scan
    };
    assert_eq!(
        bed.store.searches_by().await.unwrap(),
        by,
        "the migration takes what there is"
    );
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    let chunks = [("a", 2.0), ("b", 1.0)].map(|(content, at)| chunk(content, &[at]));
    bed.bring(lease, &base, &chunks, true).await;
    assert_eq!(bed.texts_near(&base, &[0.0], 2).await, "ba");
    database.execute("DROP EXTENSION IF EXISTS vector").await.unwrap();
    assert_eq!(bed.store.searches_by().await.unwrap(), SearchBy::Scan);
    assert_eq!(bed.texts_near(&base, &[0.0], 2).await, "ba");
    if offered {
        database
            .execute("CREATE SCHEMA \"Odd schema\"; CREATE EXTENSION vector SCHEMA \"Odd schema\"")
            .await
            .unwrap();
        assert_eq!(bed.store.searches_by().await.unwrap(), SearchBy::Extension);
        assert_eq!(bed.texts_near(&base, &[0.0], 2).await, "ba", "wherever it is");
    }
}
