//! Keys and the audit log.

use flowfleet_core::port::{Actor, NewKey, Role};
use flowfleet_core::{KeyId, Kind, Tenant};

use crate::bed::Bed;

pub(crate) fn new_key(tenant: &Tenant, hash: &str) -> NewKey {
    NewKey {
        id: KeyId::generate(),
        tenant: tenant.clone(),
        name: "ci".to_owned(),
        role: Role::Submit,
        hash: hash.to_owned(),
    }
}

pub(crate) async fn keys_live_until_revoked(bed: Bed) {
    assert!(!bed.store.any_key().await.unwrap());
    let (first, second) = (new_key(&bed.tenant, "h1"), new_key(&bed.tenant, "h2"));
    let record = bed.store.create_key(first.clone()).await.unwrap();
    assert_eq!(
        (record.id, record.role, record.revoked_at),
        (first.id, Role::Submit, None)
    );
    assert_eq!(bed.store.create_key(first.clone()).await.unwrap(), record);
    bed.store.create_key(second.clone()).await.unwrap();
    let clash = bed
        .store
        .create_key(new_key(&bed.tenant, "h1"))
        .await
        .unwrap_err();
    assert_eq!(clash.kind, Kind::Permanent);
    assert!(bed.store.any_key().await.unwrap());
    assert_eq!(bed.store.key_by_hash("h1").await.unwrap(), Some(record));
    assert_eq!(bed.store.key_by_hash("h3").await.unwrap(), None);
    assert!(bed.store.revoke_key(&bed.tenant, first.id).await.unwrap());
    assert!(!bed.store.revoke_key(&bed.tenant, first.id).await.unwrap());
    assert_eq!(bed.store.key_by_hash("h1").await.unwrap(), None);
    let keys = bed.store.keys(&bed.tenant).await.unwrap();
    let found: Vec<_> = keys.iter().map(|k| (k.id, k.revoked_at.is_some())).collect();
    assert_eq!(found, [(second.id, false), (first.id, true)]);
    assert!(bed.store.any_key().await.unwrap());
    bed.store.revoke_key(&bed.tenant, second.id).await.unwrap();
    assert!(!bed.store.any_key().await.unwrap());
}

pub(crate) async fn the_audit_log_is_paged(bed: Bed) {
    let actor = Actor {
        tenant: bed.tenant.clone(),
        name: "loopback".to_owned(),
    };
    for number in 0..7 {
        bed.store
            .audit(&actor, "flow.put", &format!("f{number}"))
            .await
            .unwrap();
    }
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = bed.store.audit_log(&bed.tenant, before, 3).await.unwrap();
        assert!(
            page.items
                .iter()
                .all(|e| e.actor == "loopback" && e.action == "flow.put")
        );
        found.extend(page.items.iter().map(|e| e.target.clone()));
        before = page.items.last().map(|e| e.at);
        if !page.more {
            break;
        }
    }
    assert_eq!(found, ["f6", "f5", "f4", "f3", "f2", "f1", "f0"]);
}

pub(crate) async fn the_audit_log_bears_many_writers(bed: Bed) {
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let bed = bed.clone();
            tokio::spawn(async move {
                let actor = Actor {
                    tenant: bed.tenant.clone(),
                    name: format!("w{writer}"),
                };
                for number in 0..25 {
                    bed.store.audit(&actor, "a", &number.to_string()).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let page = bed.store.audit_log(&bed.tenant, None, 1_000).await.unwrap();
    assert_eq!(page.items.len(), 200);
    assert!(
        page.items.is_sorted_by(|a, b| a.at > b.at),
        "the time is a cursor"
    );
}
