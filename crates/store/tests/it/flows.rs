//! Flows and their versions.

use flowfleet_core::port::NewFlow;
use flowfleet_core::{FlowId, FlowName, FlowVersion};

use crate::bed::Bed;

fn flow(bed: &Bed, name: &str, content: &str) -> NewFlow {
    NewFlow {
        tenant: bed.tenant.clone(),
        name: name.parse().unwrap(),
        id: FlowId(uuid::Uuid::from_u128(7)),
        digest: format!("digest of {content}"),
        document: content.to_owned().into(),
        nodes: 3,
        engine: "native".to_owned(),
    }
}

pub(crate) async fn versions_are_numbered(bed: Bed) {
    let name: FlowName = "hello".parse().unwrap();
    let mut versions = Vec::new();
    for content in ["a", "a", "b", "a"] {
        let put = bed.store.put_flow(flow(&bed, "hello", content)).await.unwrap();
        versions.push((put.record.flow.version, put.created));
    }
    assert_eq!(versions, [(1, true), (1, false), (2, true), (3, true)]);
    let newest = bed.store.flow(&bed.tenant, &name, None).await.unwrap().unwrap();
    assert_eq!(
        (newest.flow.version, newest.nodes, newest.engine.as_str()),
        (3, 3, "native")
    );
    let second = bed
        .store
        .flow(&bed.tenant, &name, Some(2))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(second.flow.digest, "digest of b");
    assert!(
        bed.store
            .flow(&bed.tenant, &name, Some(4))
            .await
            .unwrap()
            .is_none()
    );
    let document = bed
        .store
        .flow_document(&bed.tenant, &second.flow)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(document, "b");
    let forged = FlowVersion {
        digest: "another".to_owned(),
        ..second.flow
    };
    assert!(
        bed.store
            .flow_document(&bed.tenant, &forged)
            .await
            .unwrap()
            .is_none()
    );
}

pub(crate) async fn ids_lead_to_the_newest_version(bed: Bed) {
    let id = |n| FlowId(uuid::Uuid::from_u128(n));
    let put = async |name: &str, content: &str, n: u128| {
        let flow = NewFlow {
            id: id(n),
            ..flow(&bed, name, content)
        };
        bed.store.put_flow(flow).await.unwrap().record
    };
    let found = async |n: u128| {
        let record = bed.store.flow_by_id(&bed.tenant, id(n)).await.unwrap();
        record.map(|record| (record.flow.name.to_string(), record.flow.version))
    };
    assert_eq!(put("a", "1", 1).await.id, id(1));
    put("a", "2", 1).await;
    put("b", "1", 2).await;
    assert_eq!(found(1).await, Some(("a".to_owned(), 2)));
    assert_eq!(found(2).await, Some(("b".to_owned(), 1)));
    assert_eq!(found(3).await, None);
    // The newest version counts, and of several flows the one stored last.
    put("a", "3", 3).await;
    assert_eq!(found(1).await, None);
    put("b", "2", 3).await;
    assert_eq!(found(3).await, Some(("b".to_owned(), 2)));
    bed.store
        .delete_flow(&bed.tenant, &"b".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(found(3).await, Some(("a".to_owned(), 3)));
}

pub(crate) async fn deleting_hides(bed: Bed) {
    let name: FlowName = "hello".parse().unwrap();
    assert!(!bed.store.delete_flow(&bed.tenant, &name).await.unwrap());
    let first = bed
        .store
        .put_flow(flow(&bed, "hello", "a"))
        .await
        .unwrap()
        .record
        .flow;
    assert!(bed.store.delete_flow(&bed.tenant, &name).await.unwrap());
    assert!(!bed.store.delete_flow(&bed.tenant, &name).await.unwrap());
    assert!(bed.store.flow(&bed.tenant, &name, None).await.unwrap().is_none());
    assert!(
        bed.store
            .flow(&bed.tenant, &name, Some(1))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        bed.store
            .flows(&bed.tenant, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(
        bed.store
            .flow_document(&bed.tenant, &first)
            .await
            .unwrap()
            .unwrap(),
        "a"
    );
    let again = bed.store.put_flow(flow(&bed, "hello", "a")).await.unwrap();
    assert_eq!((again.record.flow.version, again.created), (2, true));
    assert!(bed.store.flow(&bed.tenant, &name, None).await.unwrap().is_some());
}

pub(crate) async fn flows_are_paged_by_name(bed: Bed) {
    let names = ["a", "B", "c-1", "c.1", "c_1", "z", "Z9"];
    for name in names {
        bed.store.put_flow(flow(&bed, name, "1")).await.unwrap();
        bed.store.put_flow(flow(&bed, name, "2")).await.unwrap();
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = bed.store.flows(&bed.tenant, after.as_ref(), 2).await.unwrap();
        assert!(page.items.iter().all(|r| r.flow.version == 2));
        found.extend(page.items.iter().map(|r| r.flow.name.to_string()));
        after = page.items.last().map(|r| r.flow.name.clone());
        if !page.more {
            break;
        }
    }
    let mut expected = names.map(str::to_owned);
    expected.sort();
    assert_eq!(found, expected);
}

pub(crate) async fn writers_of_one_flow_take_turns(bed: Bed) {
    let puts: Vec<_> = (0..12)
        .map(|i| {
            let bed = bed.clone();
            tokio::spawn(async move {
                let put = bed
                    .store
                    .put_flow(flow(&bed, "hello", &format!("{}", i / 2)))
                    .await
                    .unwrap();
                (put.record.flow.version, put.created)
            })
        })
        .collect();
    let mut created = Vec::new();
    for put in puts {
        let (version, new) = put.await.unwrap();
        if new {
            created.push(version);
        }
    }
    created.sort_unstable();
    assert_eq!(
        created,
        (1..=created.len() as u32).collect::<Vec<_>>(),
        "no number twice, none left out"
    );
    assert!(created.len() >= 6);
}
