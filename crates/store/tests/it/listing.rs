//! Lists, events, and that tenants see only their own.

use std::collections::BTreeMap;

use flowfleet_core::port::{Actor, CancelOutcome, NewFlow, RunFilter};
use flowfleet_core::run::{Ending, NewRun};
use flowfleet_core::{EventKind, FlowId, RunState, Tenant};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::bed::{Bed, TTL, filter, new_run, node_event, progress};

pub(crate) async fn pages_make_up_the_list(bed: Bed) {
    let mut runs: Vec<NewRun> = (0..23).map(|_| bed.new_run()).collect();
    for run in runs.iter_mut().step_by(2) {
        run.queue = "odd".parse().unwrap();
    }
    bed.submit(&runs).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..24 {
        let (limit, only_odd) = (1u32..30, proptest::bool::ANY)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut expected: Vec<_> = runs
            .iter()
            .filter(|r| !only_odd || r.queue.as_str() == "odd")
            .map(|r| r.id)
            .collect();
        expected.sort();
        expected.reverse();
        let mut wanted = filter(limit);
        wanted.queue = only_odd.then(|| "odd".parse().unwrap());
        let mut found = Vec::new();
        loop {
            let page = bed.store.list(&bed.tenant, &wanted).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            found.extend(page.items.iter().map(|r| r.id));
            assert_eq!(page.more, found.len() < expected.len());
            if !page.more {
                break;
            }
            wanted.before = found.last().copied();
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
}

pub(crate) async fn filters_hold(bed: Bed) {
    let (plain, mut other_flow, mut other_queue) = (bed.new_run(), bed.new_run(), bed.new_run());
    other_flow.flow.name = "other".parse().unwrap();
    other_queue.queue = "gpu".parse().unwrap();
    bed.submit(&[plain.clone(), other_flow.clone(), other_queue.clone()])
        .await;
    let lease = bed.claim(plain.id, TTL).await.lease;
    let found = async |wanted: RunFilter| {
        let page = bed.store.list(&bed.tenant, &wanted).await.unwrap();
        page.items.into_iter().map(|r| r.id).collect::<Vec<_>>()
    };
    let states = |states: &[RunState]| RunFilter {
        states: states.to_vec(),
        ..filter(10)
    };
    assert_eq!(found(states(&[RunState::Running])).await, [plain.id]);
    assert_eq!(
        found(states(&[RunState::Queued])).await,
        [other_queue.id, other_flow.id]
    );
    assert_eq!(
        found(states(&[RunState::Queued, RunState::Running])).await.len(),
        3
    );
    assert_eq!(found(states(&[RunState::Failed])).await, []);
    bed.finish(lease, Ending::Failed).await;
    assert_eq!(found(states(&[RunState::Failed])).await, [plain.id]);
    let flow = RunFilter {
        flow: Some("other".parse().unwrap()),
        ..filter(10)
    };
    assert_eq!(found(flow).await, [other_flow.id]);
    let queue = RunFilter {
        queue: Some("gpu".parse().unwrap()),
        ..filter(10)
    };
    assert_eq!(found(queue).await, [other_queue.id]);
    let created = bed.get(plain.id).await.created_at;
    let since = RunFilter {
        since: Some(created),
        ..filter(10)
    };
    assert_eq!(found(since.clone()).await.len(), 3);
    let until = RunFilter {
        until: Some(created),
        ..filter(10)
    };
    assert_eq!(found(until).await, []);
    let everything = RunFilter {
        until: Some(jiff::Timestamp::now() + std::time::Duration::from_secs(60)),
        ..since
    };
    assert_eq!(found(everything).await.len(), 3);
}

pub(crate) async fn labels_must_all_match(bed: Bed) {
    let labelled = |pairs: &[(&str, &str)]| {
        let mut run = bed.new_run();
        let map: BTreeMap<_, _> = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        run.labels = map.try_into().unwrap();
        run
    };
    let (both, one, none) = (
        labelled(&[("team", "a'b\"c"), ("env.x-y", "prod")]),
        labelled(&[("team", "a'b\"c")]),
        labelled(&[]),
    );
    bed.submit(&[both.clone(), one.clone(), none]).await;
    let found = async |pairs: &[(&str, &str)]| {
        let wanted = RunFilter {
            labels: pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..filter(10)
        };
        let page = bed.store.list(&bed.tenant, &wanted).await.unwrap();
        page.items.into_iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(found(&[("team", "a'b\"c")]).await, [one.id, both.id]);
    assert_eq!(found(&[("team", "a'b\"c"), ("env.x-y", "prod")]).await, [both.id]);
    assert_eq!(found(&[("team", "a")]).await, []);
    assert_eq!(found(&[("$.\"]' key", "x")]).await, []);
    let page = bed.store.list(&bed.tenant, &filter(10)).await.unwrap();
    assert_eq!(
        page.items.iter().find(|r| r.id == both.id).unwrap().labels,
        both.labels
    );
}

pub(crate) async fn nothing_crosses_tenants(bed: Bed) {
    let stranger: Tenant = "stranger".parse().unwrap();
    let run = bed.submit_one().await;
    let theirs = new_run(&stranger);
    bed.submit(std::slice::from_ref(&theirs)).await;
    assert!(bed.store.get(&stranger, run).await.unwrap().is_none());
    assert!(bed.store.events(&stranger, run, 0, 10).await.unwrap().is_none());
    assert_eq!(
        bed.store.cancel(&stranger, run).await.unwrap(),
        CancelOutcome::NotFound
    );
    assert_eq!(bed.get(run).await.state, RunState::Queued);
    let listed = bed.store.list(&stranger, &filter(10)).await.unwrap();
    assert_eq!(listed.items.iter().map(|r| r.id).collect::<Vec<_>>(), [theirs.id]);

    let name = "f".parse().unwrap();
    let flow = NewFlow {
        tenant: bed.tenant.clone(),
        name,
        id: FlowId::generate(),
        digest: "d".to_owned(),
        document: "{}".into(),
        nodes: 1,
        engine: "native".to_owned(),
    };
    let stored = bed.store.put_flow(flow.clone()).await.unwrap().record.flow;
    assert!(bed.store.flow_by_id(&stranger, flow.id).await.unwrap().is_none());
    assert!(
        bed.store
            .flow(&stranger, &flow.name, None)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        bed.store
            .flow(&stranger, &flow.name, Some(1))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        bed.store
            .flow_document(&stranger, &stored)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        bed.store
            .flows(&stranger, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(!bed.store.delete_flow(&stranger, &flow.name).await.unwrap());

    let key = crate::keys::new_key(&bed.tenant, "h");
    bed.store.create_key(key.clone()).await.unwrap();
    assert!(bed.store.keys(&stranger).await.unwrap().is_empty());
    assert!(!bed.store.revoke_key(&stranger, key.id).await.unwrap());
    assert_eq!(
        bed.store.key_by_hash("h").await.unwrap().unwrap().tenant,
        bed.tenant
    );
    let actor = Actor {
        tenant: bed.tenant.clone(),
        name: "cli".to_owned(),
    };
    bed.store.audit(&actor, "run.cancel", "x").await.unwrap();
    assert!(
        bed.store
            .audit_log(&stranger, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

pub(crate) async fn events_are_read_in_windows(bed: Bed) {
    let run = bed.submit_one().await;
    let lease = bed.claim(run, TTL).await.lease;
    for (after, size) in [(2, 1), (3, 4), (7, 2), (9, 5)] {
        let events = (0..size)
            .map(|_| node_event(EventKind::NodeStarted, "n"))
            .collect();
        bed.store
            .checkpoint(&[progress(lease, after, vec![], events)])
            .await
            .unwrap();
    }
    let all = bed.events(run).await;
    assert_eq!(all.len(), 14);
    for after in 0..=15u64 {
        for limit in [1u32, 3, 20] {
            let found = bed
                .store
                .events(&bed.tenant, run, after, limit)
                .await
                .unwrap()
                .unwrap();
            let expected: Vec<_> = all
                .iter()
                .filter(|e| e.seq > after)
                .take(limit as usize)
                .cloned()
                .collect();
            assert_eq!(found, expected, "after {after}, at most {limit}");
        }
    }
    assert_eq!(
        bed.store.events(&bed.tenant, run, u64::MAX, 10).await.unwrap(),
        Some(vec![])
    );
    assert_eq!(
        bed.store
            .events(&bed.tenant, flowfleet_core::RunId::generate(), 0, 10)
            .await
            .unwrap(),
        None
    );
}
