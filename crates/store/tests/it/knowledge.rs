//! Knowledge: bases, and the chunks that are brought into them.

use flowfleet_core::knowledge::{
    BATCH, CONTENT_BYTES, Chunk, Found, Ingest, Ingested, Knowledge, NewKnowledge, Search, Tags,
};
use flowfleet_core::{Kind, KnowledgeName, Lease, Tenant};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bed::{Bed, TTL};

fn new(name: &str) -> NewKnowledge {
    NewKnowledge {
        id: Uuid::now_v7(),
        name: name.parse().unwrap(),
        provider: "OpenAI".to_owned(),
        model: "text-embedding-3-small".to_owned(),
        settings: json!({"z": 1, "a": ["é", null]}),
    }
}

pub(crate) fn chunk(content: &str, vector: &[f32]) -> Chunk {
    Chunk {
        id: Uuid::now_v7(),
        hash: format!("hash of {content}"),
        content: content.to_owned(),
        metadata: json!({"z": content, "a": "1"}),
        tags: Tags::new(),
        vector: vector.to_vec(),
    }
}

impl Bed {
    pub(crate) async fn base(&self, name: &str) -> Knowledge {
        let made = self
            .store
            .create_knowledge(&self.tenant, &new(name))
            .await
            .unwrap();
        made.expect("a free name")
    }

    pub(crate) async fn stored(&self, name: &str) -> Knowledge {
        let found = self.store.knowledge(&self.tenant, &name.parse().unwrap()).await;
        found.unwrap().expect("the base exists")
    }

    pub(crate) async fn lease(&self) -> Lease {
        self.claim(self.submit_one().await, TTL).await.lease
    }

    pub(crate) async fn bring(
        &self,
        lease: Lease,
        base: &Knowledge,
        chunks: &[Chunk],
        unique: bool,
    ) -> Ingested {
        let ingest = Ingest {
            lease,
            knowledge: base.id,
            chunks: chunks.to_vec(),
            unique,
        };
        self.store.ingest(&ingest).await.unwrap()
    }

    pub(crate) async fn look(&self, base: &Knowledge, vector: &[f32], limit: u32, tags: Tags) -> Vec<Found> {
        let search = Search {
            knowledge: base.id,
            vector: vector.to_vec(),
            limit,
            tags,
        };
        self.store.search(&self.tenant, &search).await.unwrap()
    }

    pub(crate) async fn texts_near(&self, base: &Knowledge, vector: &[f32], limit: u32) -> String {
        let found = self.look(base, vector, limit, Tags::new()).await;
        found.into_iter().map(|found| found.content).collect()
    }
}

pub(crate) fn kept(of: &[bool]) -> Ingested {
    Ingested::Kept(of.to_vec())
}

pub(crate) async fn a_base_is_made_once(bed: Bed) {
    let given = new("docs");
    let made = bed
        .store
        .create_knowledge(&bed.tenant, &given)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (made.id, &made.name, &made.provider),
        (given.id, &given.name, &given.provider)
    );
    assert_eq!((&made.model, &made.settings), (&given.model, &given.settings));
    assert_eq!(
        made.settings.to_string(),
        given.settings.to_string(),
        "in its order"
    );
    assert_eq!(
        (made.dimensions, made.chunks, made.words, made.characters),
        (None, 0, 0, 0)
    );
    let again = bed.store.create_knowledge(&bed.tenant, &given).await.unwrap();
    assert_eq!(again, Some(made.clone()), "by id");
    assert_eq!(
        bed.store
            .create_knowledge(&bed.tenant, &new("docs"))
            .await
            .unwrap(),
        None
    );
    assert_eq!(bed.stored("docs").await, made);
    assert_eq!(
        bed.store
            .knowledge(&bed.tenant, &"Docs".parse().unwrap())
            .await
            .unwrap(),
        None
    );
    let large = NewKnowledge {
        settings: json!("x".repeat(100 << 10)),
        ..new("large")
    };
    let nameless = NewKnowledge {
        model: String::new(),
        ..new("nameless")
    };
    for bad in [large, nameless] {
        let error = bed.store.create_knowledge(&bed.tenant, &bad).await.unwrap_err();
        assert_eq!(error.kind, Kind::Permanent, "{error}");
    }
}

pub(crate) async fn bases_are_paged_and_deleted(bed: Bed) {
    for name in ["b", "A", "c", "a.1", "a-1"] {
        bed.base(name).await;
    }
    let names = |after: Option<&'static str>, limit| {
        let bed = bed.clone();
        async move {
            let after: Option<KnowledgeName> = after.map(|name| name.parse().unwrap());
            let page = bed
                .store
                .knowledge_list(&bed.tenant, after.as_ref(), limit)
                .await
                .unwrap();
            let names: Vec<String> = page.items.into_iter().map(|base| base.name.to_string()).collect();
            (names.join(" "), page.more)
        }
    };
    assert_eq!(names(None, 10).await, ("A a-1 a.1 b c".to_owned(), false));
    assert_eq!(names(None, 2).await, ("A a-1".to_owned(), true));
    assert_eq!(names(Some("a-1"), 2).await, ("a.1 b".to_owned(), true));
    let (lease, base) = (bed.lease().await, bed.stored("b").await);
    assert_eq!(
        bed.bring(lease, &base, &[chunk("x", &[1.0])], true).await,
        kept(&[true])
    );
    let delete = |name: &'static str| {
        let bed = bed.clone();
        async move {
            bed.store
                .delete_knowledge(&bed.tenant, &name.parse().unwrap())
                .await
                .unwrap()
        }
    };
    assert!(delete("b").await);
    assert!(!delete("b").await);
    assert_eq!(
        bed.bring(lease, &base, &[chunk("x", &[1.0])], true).await,
        Ingested::Gone
    );
    let again = bed.base("b").await;
    assert_eq!((again.chunks, again.dimensions), (0, None));
    assert_eq!(
        bed.texts_near(&again, &[1.0], 10).await,
        "",
        "nothing came back with the name"
    );
    assert!(
        bed.store
            .search(
                &bed.tenant,
                &Search {
                    knowledge: base.id,
                    vector: vec![1.0],
                    limit: 1,
                    tags: Tags::new()
                }
            )
            .await
            .is_err()
    );
}

pub(crate) async fn duplicates_are_left_out(bed: Bed) {
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    let chunks = ["a", "b", "a"].map(|content| chunk(content, &[1.0]));
    let ids = |chunks: &[Chunk]| {
        chunks
            .iter()
            .map(|chunk| (chunk.id, chunk.hash.clone()))
            .collect::<Vec<_>>()
    };
    let unknown = |chunks: Vec<(Uuid, String)>| {
        let (bed, id) = (bed.clone(), base.id);
        async move { bed.store.unknown_chunks(&bed.tenant, id, &chunks).await.unwrap() }
    };
    assert_eq!(unknown(ids(&chunks)).await, [true; 3]);
    assert_eq!(
        bed.bring(lease, &base, &chunks, true).await,
        kept(&[true, true, false])
    );
    assert_eq!(
        unknown(ids(&chunks)).await,
        [true, true, false],
        "its own are known to nobody else"
    );
    let more = ["b", "c"].map(|content| chunk(content, &[1.0]));
    assert_eq!(unknown(ids(&more)).await, [false, true]);
    assert_eq!(bed.bring(lease, &base, &more, true).await, kept(&[false, true]));
    assert_eq!(bed.stored("docs").await.chunks, 3);
    let again = ["a", "a"].map(|content| chunk(content, &[1.0]));
    assert_eq!(
        bed.bring(lease, &base, &again, false).await,
        kept(&[true, true]),
        "where they are wanted"
    );
    assert_eq!(bed.stored("docs").await.chunks, 5);
    let other = bed.base("other").await;
    assert_eq!(
        bed.bring(lease, &other, &more, true).await,
        kept(&[true, true]),
        "of another base"
    );
}

pub(crate) async fn brought_again_is_not_brought_once_more(bed: Bed) {
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    let chunks = [chunk("a", &[1.0]), chunk("b", &[2.0]), chunk("a", &[1.0])];
    for unique in [true, true, false] {
        let answer = bed.bring(lease, &base, &chunks[..2], unique).await;
        assert_eq!(answer, kept(&[true, true]));
    }
    assert_eq!(
        bed.bring(lease, &base, &chunks, true).await,
        kept(&[true, true, false])
    );
    let twice = [chunks[2].clone(), chunks[2].clone()];
    assert_eq!(bed.bring(lease, &base, &twice, false).await, kept(&[true, true]));
    let base = bed.stored("docs").await;
    assert_eq!((base.chunks, base.characters), (3, 3));
    assert_eq!(bed.bring(lease, &base, &[], true).await, kept(&[]));
}

pub(crate) async fn a_stale_epoch_brings_nothing(bed: Bed) {
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    let stale = Lease {
        epoch: lease.epoch - 1,
        ..lease
    };
    assert_eq!(
        bed.bring(stale, &base, &[chunk("a", &[1.0])], true).await,
        Ingested::Stale
    );
    bed.finish(lease, flowfleet_core::run::Ending::Succeeded).await;
    assert_eq!(
        bed.bring(lease, &base, &[chunk("a", &[1.0])], true).await,
        Ingested::Stale
    );
    assert_eq!(bed.stored("docs").await, base);
}

pub(crate) async fn another_tenants_base_is_none(bed: Bed) {
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    bed.bring(lease, &base, &[chunk("a", &[1.0])], true).await;
    let other: Tenant = "other".parse().unwrap();
    let name = base.name.clone();
    assert_eq!(bed.store.knowledge(&other, &name).await.unwrap(), None);
    assert!(
        bed.store
            .knowledge_list(&other, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(!bed.store.delete_knowledge(&other, &name).await.unwrap());
    let asked = [(Uuid::now_v7(), "hash of a".to_owned())];
    assert_eq!(
        bed.store.unknown_chunks(&other, base.id, &asked).await.unwrap(),
        [true]
    );
    let search = Search {
        knowledge: base.id,
        vector: vec![1.0],
        limit: 1,
        tags: Tags::new(),
    };
    assert_eq!(
        bed.store.search(&other, &search).await.unwrap_err().kind,
        Kind::Permanent
    );
    let theirs = bed
        .store
        .create_knowledge(&other, &new("docs"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        bed.bring(lease, &theirs, &[chunk("b", &[1.0])], true).await,
        Ingested::Gone
    );
    assert_eq!(bed.stored("docs").await.chunks, 1);
}

pub(crate) async fn vectors_of_another_length_are_refused(bed: Bed) {
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    assert_eq!(
        bed.bring(lease, &base, &[chunk("a", &[1.0, 2.0])], true).await,
        kept(&[true])
    );
    assert_eq!(
        bed.bring(lease, &base, &[chunk("b", &[1.0])], true).await,
        Ingested::Dimensions(2)
    );
    let search = Search {
        knowledge: base.id,
        vector: vec![1.0; 3],
        limit: 1,
        tags: Tags::new(),
    };
    let error = bed.store.search(&bed.tenant, &search).await.unwrap_err();
    assert_eq!(error.kind, Kind::Permanent);
    assert!(error.to_string().contains("2 dimensions"), "{error}");
}

pub(crate) async fn what_is_too_large_is_refused(bed: Bed) {
    let (lease, base) = (bed.lease().await, bed.base("docs").await);
    let changed = |change: fn(&mut Chunk)| {
        let mut chunk = chunk("a", &[1.0]);
        change(&mut chunk);
        vec![chunk]
    };
    let cases = [
        changed(|chunk| chunk.content = "x".repeat(CONTENT_BYTES + 1)),
        changed(|chunk| chunk.metadata = Value::String("x".repeat(300 << 10))),
        changed(|chunk| drop(chunk.tags.insert("x".to_owned(), vec!["x".repeat(300 << 10)]))),
        changed(|chunk| chunk.hash = String::new()),
        changed(|chunk| chunk.vector = Vec::new()),
        changed(|chunk| chunk.vector = vec![0.0; 16_001]),
        changed(|chunk| chunk.vector = vec![f32::NAN]),
        vec![chunk("a", &[1.0]), chunk("b", &[1.0, 2.0])],
        vec![chunk("a", &[1.0]); BATCH + 1],
    ];
    for chunks in cases {
        let ingest = Ingest {
            lease,
            knowledge: base.id,
            chunks,
            unique: true,
        };
        let error = bed.store.ingest(&ingest).await.unwrap_err();
        assert_eq!(error.kind, Kind::Permanent, "{error}");
    }
    let many: Vec<Chunk> = (0..BATCH).map(|n| chunk(&n.to_string(), &[n as f32])).collect();
    assert_eq!(bed.bring(lease, &base, &many, true).await, kept(&[true; BATCH]));
}

pub(crate) async fn writers_of_one_base_add_up(bed: Bed) {
    let base = bed.base("docs").await;
    let writers = (0..8).map(|_| {
        let (bed, base) = (bed.clone(), base.clone());
        tokio::spawn(async move {
            let lease = bed.lease().await;
            let chunks: Vec<Chunk> = (0..20).map(|n| chunk(&n.to_string(), &[n as f32])).collect();
            match bed.bring(lease, &base, &chunks, true).await {
                Ingested::Kept(kept) => kept.into_iter().filter(|kept| *kept).count(),
                other => panic!("{other:?}"),
            }
        })
    });
    let mut written = 0;
    for writer in writers.collect::<Vec<_>>() {
        written += writer.await.unwrap();
    }
    assert_eq!(written, 20, "each hash once");
    assert_eq!(bed.stored("docs").await.chunks, 20);
}
