//! Submitting: batches, times, idempotency.

use std::collections::{BTreeMap, HashSet};

use flowfleet_core::port::{SubmitOutcome, UsedKey};
use flowfleet_core::run::{NewRun, RunSettings};
use flowfleet_core::{BlobRef, Payload, Priority, RunState, TraceContext};
use serde_json::json;

use crate::bed::{Bed, filter, key, kinds, until};

fn hour_from_now() -> jiff::Timestamp {
    flowfleet_core::clock::later(jiff::Timestamp::now(), std::time::Duration::from_secs(3600))
}

pub(crate) async fn a_batch_is_stored_with_one_outbox_row(bed: Bed) {
    let mut runs: Vec<NewRun> = (0..20).map(|_| bed.new_run()).collect();
    runs[3].priority = Priority::High;
    runs[4].queue = "gpu".parse().unwrap();
    let submission = bed.store.submit(&runs).await.unwrap();
    let row = submission.outbox.unwrap();
    let sent: Vec<_> = row.envelopes.iter().map(|e| e.message.run).collect();
    assert_eq!(sent, runs.iter().map(|r| r.id).collect::<Vec<_>>());
    assert_eq!(row.envelopes[3].priority, Priority::High);
    assert_eq!(row.envelopes[4].pool.queue.as_str(), "gpu");
    for (run, outcome) in runs.iter().zip(submission.outcomes) {
        assert_eq!(
            outcome,
            SubmitOutcome::Created {
                id: run.id,
                state: RunState::Queued
            }
        );
    }
    assert_eq!(kinds(&bed.events(runs[0].id).await), ["run.queued"]);
    assert_eq!(bed.store.submit(&[]).await.unwrap().outbox, None);
}

pub(crate) async fn a_later_time_makes_it_scheduled(bed: Bed) {
    let (mut later, mut past) = (bed.new_run(), bed.new_run());
    later.run_at = Some(hour_from_now());
    past.run_at = Some(jiff::Timestamp::UNIX_EPOCH);
    let submission = bed.store.submit(&[later.clone()]).await.unwrap();
    assert_eq!(submission.outbox, None);
    assert!(matches!(
        submission.outcomes[0],
        SubmitOutcome::Created {
            state: RunState::Scheduled,
            ..
        }
    ));
    let view = bed.get(later.id).await;
    assert_eq!((view.state, view.queued_at), (RunState::Scheduled, None));
    assert_eq!(
        view.run_at.unwrap().as_microsecond(),
        later.run_at.unwrap().as_microsecond()
    );
    assert_eq!(kinds(&bed.events(later.id).await), ["run.scheduled"]);
    assert!(bed.try_claim(later.id, crate::bed::TTL).await.is_none());
    bed.submit(&[past.clone()]).await;
    assert_eq!(bed.get(past.id).await.state, RunState::Queued);
}

/// A submitter's clock, however wrong, decides nothing.
pub(crate) async fn relative_times_are_reckoned_by_the_stores_clock(bed: Bed) {
    let now = jiff::Timestamp::now();
    let day = jiff::SignedDuration::from_hours(24);
    for clock in [now - day, now, now + day] {
        let mut run = bed.new_run();
        run.reckoned_at = Some(clock);
        run.run_at = Some(clock + jiff::SignedDuration::from_mins(10));
        run.expires_at = Some(clock + jiff::SignedDuration::from_mins(20));
        bed.submit(&[run.clone()]).await;
        let view = bed.get(run.id).await;
        let minutes = |at: Option<jiff::Timestamp>| at.unwrap().duration_since(now).as_mins();
        assert_eq!(
            (minutes(view.run_at), minutes(view.expires_at)),
            (10, 20),
            "{clock}"
        );
        assert_eq!(view.state, RunState::Scheduled);
    }
}

pub(crate) async fn everything_given_comes_back(bed: Bed) {
    let original = bed.submit_one().await;
    let mut run = bed.new_run();
    run.input = Payload::Blob(BlobRef {
        key: "runs/1".to_owned(),
        size: 70_000,
        sha256: "ab".to_owned(),
    });
    run.settings = RunSettings {
        max_attempts: 7,
        timeout_s: 12.5,
        ..RunSettings::default()
    };
    run.session_id = Some("s 'quoted' \"twice\"".to_owned());
    run.labels = BTreeMap::from([("team".to_owned(), "ünï 'c' \"ode\"".to_owned())])
        .try_into()
        .unwrap();
    run.expires_at = Some(hour_from_now());
    run.trace = Some(TraceContext {
        traceparent: "00-1-2-01".to_owned(),
        tracestate: Some("a=b".to_owned()),
    });
    run.replay_of = Some(original);
    let submission = bed.store.submit(std::slice::from_ref(&run)).await.unwrap();
    assert_eq!(submission.outbox.unwrap().envelopes[0].message.trace, run.trace);
    let view = bed.get(run.id).await;
    assert_eq!(view.flow, run.flow);
    assert_eq!(view.input, Some(run.input.clone()));
    assert_eq!(
        (view.settings.clone(), view.session_id),
        (run.settings.clone(), run.session_id.clone())
    );
    assert_eq!((view.attempt, view.attempts.len(), view.output), (0, 0, None));
    assert_eq!((view.labels, view.replay_of), (run.labels, run.replay_of));
    let claimed = bed.claim(run.id, crate::bed::TTL).await;
    assert_eq!((claimed.input, claimed.settings), (run.input, run.settings));
    assert_eq!((claimed.trace, claimed.session_id), (run.trace, run.session_id));
    assert_eq!(claimed.queued_at, view.queued_at.unwrap());
}

pub(crate) async fn fifty_equal_submits_make_one_run(bed: Bed) {
    let submits: Vec<_> = (0..50)
        .map(|_| {
            let bed = bed.clone();
            let mut run = bed.new_run();
            run.idempotency = key("once", "same");
            tokio::spawn(async move { bed.store.submit(&[run]).await.unwrap() })
        })
        .collect();
    let (mut created, mut existing, mut rows) = (Vec::new(), HashSet::new(), 0);
    for submit in submits {
        let submission = submit.await.unwrap();
        rows += usize::from(submission.outbox.is_some());
        match &submission.outcomes[0] {
            SubmitOutcome::Created { id, .. } => created.push(*id),
            SubmitOutcome::Existing { id, .. } => {
                existing.insert(*id);
            }
            SubmitOutcome::Conflict { .. } => panic!("equal bodies do not conflict"),
        }
    }
    assert_eq!((created.len(), rows), (1, 1));
    assert_eq!(existing, HashSet::from([created[0]]));
    assert_eq!(
        bed.store
            .list(&bed.tenant, &filter(10))
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

pub(crate) async fn the_same_key_with_another_body_conflicts(bed: Bed) {
    let (mut first, mut other, plain) = (bed.new_run(), bed.new_run(), bed.new_run());
    first.idempotency = key("k", "a");
    other.idempotency = key("k", "b");
    bed.submit(&[first.clone()]).await;
    let submission = bed.store.submit(&[other.clone(), plain.clone()]).await.unwrap();
    assert_eq!(submission.outcomes[0], SubmitOutcome::Conflict { id: first.id });
    assert!(matches!(submission.outcomes[1], SubmitOutcome::Created { id, .. } if id == plain.id));
    assert_eq!(submission.outbox.unwrap().envelopes.len(), 1);
    assert!(bed.store.get(&bed.tenant, other.id).await.unwrap().is_none());
    // The key is the tenant's own.
    let stranger = "stranger".parse().unwrap();
    let mut theirs = crate::bed::new_run(&stranger);
    theirs.idempotency = key("k", "c");
    bed.submit(&[theirs]).await;
}

pub(crate) async fn used_keys_are_the_tenants_own(bed: Bed) {
    let mut run = bed.new_run();
    run.idempotency = key("k", "a");
    bed.submit(&[run.clone(), bed.new_run()]).await;
    let used = bed
        .store
        .used_keys(&bed.tenant, &["other", "k", ""])
        .await
        .unwrap();
    let expected = UsedKey {
        key: "k".to_owned(),
        digest: "a".to_owned(),
        run: run.id,
    };
    assert_eq!(used, [expected]);
    let stranger = "stranger".parse().unwrap();
    assert_eq!(bed.store.used_keys(&stranger, &["k"]).await.unwrap(), []);
    assert_eq!(bed.store.used_keys(&bed.tenant, &[]).await.unwrap(), []);
}

pub(crate) async fn keys_repeated_within_a_call(bed: Bed) {
    let mut runs: Vec<NewRun> = (0..4).map(|_| bed.new_run()).collect();
    runs[0].idempotency = key("k", "a");
    runs[1].idempotency = key("k", "a");
    runs[2].idempotency = key("k", "b");
    let first = runs[0].id;
    let outcomes = bed.store.submit(&runs).await.unwrap().outcomes;
    assert!(matches!(outcomes[0], SubmitOutcome::Created { id, .. } if id == first));
    assert!(matches!(outcomes[1], SubmitOutcome::Existing { id, .. } if id == first));
    assert_eq!(outcomes[2], SubmitOutcome::Conflict { id: first });
    assert!(matches!(outcomes[3], SubmitOutcome::Created { .. }));
    // The same call again, as after a lost answer, changes nothing and publishes nothing.
    let again = bed.store.submit(&runs).await.unwrap();
    assert!(
        again
            .outcomes
            .iter()
            .all(|o| !matches!(o, SubmitOutcome::Created { .. }))
    );
    assert_eq!(again.outbox, None);
    let twice = bed.new_run();
    let outcomes = bed
        .store
        .submit(&[twice.clone(), twice.clone()])
        .await
        .unwrap()
        .outcomes;
    assert!(matches!(outcomes[0], SubmitOutcome::Created { .. }));
    assert!(matches!(outcomes[1], SubmitOutcome::Existing { .. }));
}

pub(crate) async fn ten_thousand_at_once(bed: Bed) {
    let runs: Vec<NewRun> = (0..10_000).map(|_| bed.new_run()).collect();
    let submission = bed.store.submit(&runs).await.unwrap();
    assert!(
        submission
            .outcomes
            .iter()
            .all(|o| matches!(o, SubmitOutcome::Created { .. }))
    );
    assert_eq!(submission.outbox.unwrap().envelopes.len(), 10_000);
    let backlog = bed.store.backlog().await.unwrap();
    assert_eq!(backlog[0].queued, 10_000);
    let stored = until("the outbox row", || async {
        bed.store
            .outbox_leftover(std::time::Duration::ZERO, 10)
            .await
            .unwrap()
            .pop()
    })
    .await;
    assert_eq!(stored.envelopes.len(), 10_000);
}

pub(crate) async fn nothing_is_stored_when_one_is_refused(bed: Bed) {
    let run = bed.submit_one().await;
    let mut stolen = crate::bed::new_run(&"stranger".parse().unwrap());
    stolen.id = run;
    let refused = bed.store.submit(&[stolen]).await.unwrap_err();
    assert_eq!(refused.kind, flowfleet_core::Kind::Permanent);
    assert_eq!(bed.get(run).await.tenant, bed.tenant);
}

pub(crate) async fn an_odd_payload_comes_back_as_it_was(bed: Bed) {
    let odd = json!({ "z": "\u{0} \\u0000 \" ' ? $1 ?1", "a": [1.5, -0.0, 1e300, null, {}], "": "🦀" });
    let mut run = bed.new_run();
    run.input = Payload::Inline(odd.clone());
    bed.submit(&[run.clone()]).await;
    let lease = bed.claim(run.id, crate::bed::TTL).await.lease;
    let mut end = crate::bed::finish(lease, flowfleet_core::run::Ending::Succeeded);
    end.output = Payload::Inline(odd.clone());
    bed.store.finish(&[end]).await.unwrap();
    let view = bed.get(run.id).await;
    assert_eq!(view.input, Some(Payload::Inline(odd.clone())));
    let Some(Payload::Inline(output)) = view.output else {
        panic!("the output is inline");
    };
    // The order of keys too.
    assert_eq!(output.to_string(), odd.to_string());
}
