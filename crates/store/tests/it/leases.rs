//! The path of a run under its lease.

use std::slice;
use std::time::Duration;

use flowfleet_core::port::{Claim, Fenced, Renewal};
use flowfleet_core::run::{EndedBecause, Ending, Progress, RunError, RunErrorKind, Usage};
use flowfleet_core::{Capabilities, EventKind, Kind, Lease, Payload, RunId, RunState};
use serde_json::json;

use crate::bed::{Bed, OVER, TTL, applied, checkpoint, finish, kinds, node_event, progress, release};

pub(crate) async fn the_path_of_one_run(bed: Bed) {
    let run = bed.submit_one().await;
    let claimed = bed.claim(run, TTL).await;
    let first = Lease {
        run,
        attempt: 1,
        epoch: 1,
    };
    assert_eq!((claimed.lease, claimed.checkpoints), (first, vec![]));
    let view = bed.get(run).await;
    assert_eq!(
        (view.state, view.worker, view.attempt),
        (RunState::Running, Some(bed.worker), 1)
    );
    assert!(view.lease_until.unwrap() > view.started_at.unwrap());
    assert_eq!(view.attempts.len(), 1);
    assert_eq!(view.attempts[0].ended_at, None);

    let step = progress(
        first,
        claimed.last_seq,
        vec![checkpoint("a", json!(1))],
        vec![
            node_event(EventKind::NodeStarted, "a"),
            node_event(EventKind::NodeFinished, "a"),
        ],
    );
    let written = applied(&bed.store.checkpoint(&[step]).await.unwrap());
    assert_eq!(written.iter().map(|e| e.seq).collect::<Vec<_>>(), [3, 4]);

    let mut end = finish(first, Ending::Succeeded);
    end.after_seq = 4;
    end.events = vec![node_event(EventKind::NodeFinished, "b")];
    end.nodes_reused = 2;
    let written = applied(&bed.store.finish(&[end.clone()]).await.unwrap());
    assert_eq!(kinds(&written), ["node.finished", "run.succeeded"]);
    let events = bed.events(run).await;
    assert_eq!(events[4..], written);
    assert_eq!(events[1].data, json!({ "attempt": 1, "worker": bed.worker }));

    let view = bed.get(run).await;
    assert_eq!(
        (view.state, view.worker, view.lease_until),
        (RunState::Succeeded, None, None)
    );
    assert_eq!(view.output, Some(Payload::Inline(json!("done"))));
    assert_eq!(view.outputs, Some(end.outputs.clone()));
    assert_eq!(view.usage, end.usage);
    assert!(view.finished_at.unwrap() >= view.started_at.unwrap());
    assert_eq!(view.attempts.len(), 1);
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::Succeeded));
    assert_eq!(
        (view.attempts[0].nodes_reused, view.attempts[0].worker),
        (2, bed.worker)
    );
    assert_eq!(bed.store.finish(&[end]).await.unwrap(), [Fenced::Stale]);
}

pub(crate) async fn a_claim_answers_each_message(bed: Bed) {
    let (one, two) = (bed.submit_one().await, bed.submit_one().await);
    let asked = [two, RunId::generate(), one, two];
    let claims = bed
        .store
        .claim(bed.worker, &Capabilities::default(), &asked, TTL)
        .await
        .unwrap();
    let got: Vec<_> = claims
        .iter()
        .map(|claim| match claim {
            Claim::Claimed(run) => Some(run.lease.run),
            Claim::NotClaimable => None,
        })
        .collect();
    assert_eq!(got, [Some(two), None, Some(one), None]);
    assert!(
        bed.store
            .claim(bed.worker, &Capabilities::default(), &[], TTL)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn claims_of_one_run_are_counted_once(bed: Bed) {
    let run = bed.submit_one().await;
    bed.claim(run, TTL).await;
    assert!(bed.try_claim(run, TTL).await.is_none());
    assert_eq!(bed.get(run).await.attempt, 1);
    assert_eq!(kinds(&bed.events(run).await), ["run.queued", "run.started"]);
}

pub(crate) async fn a_stale_epoch_changes_nothing(bed: Bed) {
    let run = bed.submit_one().await;
    let old = bed.claim(run, OVER).await.lease;
    bed.reap().await;
    let new = bed.claim(run, TTL).await.lease;
    assert_eq!((new.attempt, new.epoch), (1, 2));
    let before = bed.get(run).await;
    let stale = progress(
        old,
        before.last_seq,
        vec![checkpoint("a", json!(0))],
        vec![node_event(EventKind::NodeStarted, "a")],
    );
    assert_eq!(bed.store.checkpoint(&[stale]).await.unwrap(), [Fenced::Stale]);
    assert_eq!(bed.finish(old, Ending::Succeeded).await, Fenced::Stale);
    for retry in [None, Some(Duration::ZERO)] {
        let given = release(old, EndedBecause::Interrupted, retry);
        let (answers, outbox) = bed.store.release(&[given]).await.unwrap();
        assert_eq!((answers, outbox), (vec![Fenced::Stale], None));
    }
    assert_eq!(
        bed.store.renew(bed.worker, &[old], TTL).await.unwrap(),
        [Renewal::Lost]
    );
    assert_eq!(bed.get(run).await, before);
    // A mixed batch writes what is held and nothing else.
    let answers = bed
        .store
        .finish(&[finish(old, Ending::Failed), finish(new, Ending::Succeeded)])
        .await
        .unwrap();
    assert_eq!(answers[0], Fenced::Stale);
    assert!(matches!(answers[1], Fenced::Applied { .. }));
    assert_eq!(bed.get(run).await.state, RunState::Succeeded);
}

pub(crate) async fn renewing_carries_the_cancellation(bed: Bed) {
    let (calm, called_off) = (bed.submit_one().await, bed.submit_one().await);
    let leases = [
        bed.claim(calm, TTL).await.lease,
        bed.claim(called_off, TTL).await.lease,
    ];
    bed.store.cancel(&bed.tenant, called_off).await.unwrap();
    let before = bed.get(calm).await.lease_until.unwrap();
    let renewed = bed.store.renew(bed.worker, &leases, 2 * TTL).await.unwrap();
    assert_eq!(
        renewed,
        [Renewal::Held { cancel: false }, Renewal::Held { cancel: true }]
    );
    assert!(bed.get(calm).await.lease_until.unwrap() > before);
}

pub(crate) async fn a_lost_lease_is_told(bed: Bed) {
    let run = bed.submit_one().await;
    let lease = bed.claim(run, TTL).await.lease;
    let stranger = flowfleet_core::WorkerId::generate();
    let unknown = Lease {
        run: RunId::generate(),
        ..lease
    };
    assert_eq!(
        bed.store.renew(stranger, &[lease], TTL).await.unwrap(),
        [Renewal::Lost]
    );
    let answers = bed
        .store
        .renew(bed.worker, &[unknown, lease, lease], TTL)
        .await
        .unwrap();
    let held = Renewal::Held { cancel: false };
    assert_eq!(answers, [Renewal::Lost, held, held]);
    // A lease that is over and not yet reaped is still its holder's.
    assert_eq!(bed.store.renew(bed.worker, &[lease], OVER).await.unwrap(), [held]);
    assert_eq!(bed.store.renew(bed.worker, &[lease], TTL).await.unwrap(), [held]);
    assert_eq!(bed.store.reap(10).await.unwrap(), (vec![], None));
    bed.finish(lease, Ending::Succeeded).await;
    assert_eq!(
        bed.store.renew(bed.worker, &[lease], TTL).await.unwrap(),
        [Renewal::Lost]
    );
}

pub(crate) async fn checkpoints_are_found_by_the_next_attempt(bed: Bed) {
    let run = bed.submit_one().await;
    let lease = bed.claim(run, OVER).await.lease;
    let steps = [
        progress(
            lease,
            2,
            vec![
                checkpoint("a", json!("first")),
                checkpoint("b", json!("\"quoted\" \u{0}")),
            ],
            vec![],
        ),
        progress(
            lease,
            2,
            vec![checkpoint("a", json!("second"))],
            vec![node_event(EventKind::NodeFinished, "a")],
        ),
        progress(lease, 3, vec![], vec![node_event(EventKind::NodeStarted, "c")]),
    ];
    let written = applied(&bed.store.checkpoint(&steps).await.unwrap());
    assert_eq!(written.iter().map(|e| e.seq).collect::<Vec<_>>(), [3, 4]);
    bed.store.checkpoint(&steps[..1]).await.unwrap();
    bed.store.checkpoint(&steps[1..2]).await.unwrap();
    bed.reap().await;
    let claimed = bed.claim(run, TTL).await;
    let expected = [
        checkpoint("a", json!("second")),
        checkpoint("b", json!("\"quoted\" \u{0}")),
    ];
    assert_eq!(claimed.checkpoints, expected);
    assert_eq!(claimed.interruptions, 1);
    bed.events(run).await;
}

/// As after an answer that was lost: alone, late, and together with what came after it.
pub(crate) async fn a_repeated_checkpoint_changes_nothing(bed: Bed) {
    let run = bed.submit_one().await;
    let claimed = bed.claim(run, TTL).await;
    assert_eq!(claimed.last_seq, 2);
    let step = |node: &str, after_seq| {
        let events = [EventKind::NodeStarted, EventKind::NodeFinished].map(|kind| node_event(kind, node));
        let nodes = vec![checkpoint(node, json!(node))];
        progress(claimed.lease, after_seq, nodes, events.to_vec())
    };
    let (a, b, c) = (step("a", 2), step("b", 4), step("c", 6));
    let write = async |steps: &[Progress]| bed.store.checkpoint(steps).await.unwrap();

    let first = write(slice::from_ref(&a)).await;
    let before = (bed.get(run).await, bed.events(run).await);
    assert_eq!(write(slice::from_ref(&a)).await, first);
    assert_eq!((bed.get(run).await, bed.events(run).await), before);

    let second = write(&[a.clone(), b.clone()]).await;
    assert_eq!(second[0], first[0]);
    assert_eq!(write(&[b.clone(), c.clone(), b.clone()]).await[..1], second[1..]);
    let before = (bed.get(run).await, bed.events(run).await);
    assert_eq!(write(slice::from_ref(&a)).await, first, "long after");
    assert_eq!((bed.get(run).await, bed.events(run).await), before);
    assert_eq!(before.1[2..4], applied(&first));
    let nodes: Vec<_> = before.1[2..]
        .iter()
        .map(|e| e.data.value()["node"].clone())
        .collect();
    assert_eq!(nodes, ["a", "a", "b", "b", "c", "c"]);

    bed.store
        .release(&[release(claimed.lease, EndedBecause::Interrupted, None)])
        .await
        .unwrap();
    assert_eq!(write(slice::from_ref(&c)).await, [Fenced::Stale]);
    let kept = bed.claim(run, TTL).await.checkpoints;
    assert_eq!(kept, ["a", "b", "c"].map(|node| checkpoint(node, json!(node))));
}

pub(crate) async fn progress_that_does_not_follow_is_refused(bed: Bed) {
    let (run, other) = (bed.submit_one().await, bed.submit_one().await);
    let lease = bed.claim(run, TTL).await.lease;
    let others = bed.claim(other, TTL).await.lease;
    let step = |lease, after_seq, events| {
        let event = node_event(EventKind::NodeStarted, "a");
        progress(
            lease,
            after_seq,
            vec![checkpoint("a", json!(1))],
            vec![event; events],
        )
    };
    bed.store.checkpoint(&[step(lease, 2, 2)]).await.unwrap();
    let before = (bed.get(run).await, bed.get(other).await);
    for (what, wrong) in [
        ("a hole", step(lease, 5, 1)),
        ("half of it is there", step(lease, 3, 2)),
    ] {
        let error = bed
            .store
            .checkpoint(&[step(others, 2, 1), wrong])
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::Bug, "{what}: {error}");
        assert!(error.to_string().contains("the last event is 4"), "{error}");
        assert_eq!((bed.get(run).await, bed.get(other).await), before, "{what}");
    }
}

pub(crate) async fn a_retry_waits_and_then_counts(bed: Bed) {
    let run = bed.submit_one().await;
    let lease = bed.claim(run, TTL).await.lease;
    let error = RunError {
        kind: RunErrorKind::Node,
        code: "model_timeout".to_owned(),
        message: "slow".to_owned(),
        node: Some("llm".to_owned()),
    };
    let mut retry = release(lease, EndedBecause::Failed, Some(Duration::from_secs(3600)));
    retry.error = Some(error.clone());
    retry.nodes = vec![checkpoint("a", json!(1))];
    retry.events = vec![node_event(EventKind::NodeFailed, "llm")];
    let (answers, outbox) = bed.store.release(&[retry]).await.unwrap();
    assert_eq!(outbox, None);
    let events = applied(&answers);
    assert_eq!(kinds(&events), ["node.failed", "run.retrying"]);
    let retrying = events[1].data.value();
    assert_eq!(
        (&retrying["delay_s"], &retrying["error"]["code"]),
        (&json!(3600.0), &json!("model_timeout"))
    );
    let view = bed.get(run).await;
    assert_eq!(
        (view.state, view.attempt, view.interruptions),
        (RunState::Scheduled, 1, 0)
    );
    assert_eq!(view.attempts[0].error, Some(error));
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::Failed));
    assert_eq!(bed.store.promote_due(10).await.unwrap(), (0, None));
    assert_eq!(bed.store.next_due().await.unwrap(), view.run_at);

    let due = bed.submit_one().await;
    let lease = bed.claim(due, TTL).await.lease;
    let retry = release(lease, EndedBecause::TimedOut, Some(Duration::ZERO));
    bed.store.release(&[retry]).await.unwrap();
    let (count, outbox) = bed.store.promote_due(10).await.unwrap();
    assert_eq!((count, outbox.unwrap().envelopes[0].message.run), (1, due));
    let claimed = bed.claim(due, TTL).await;
    assert_eq!((claimed.lease.attempt, claimed.lease.epoch), (2, 2));
    bed.finish(claimed.lease, Ending::Succeeded).await;
    let view = bed.get(due).await;
    assert_eq!(
        view.attempts.iter().map(|a| a.attempt).collect::<Vec<_>>(),
        [1, 2]
    );
    let total = Usage {
        input_tokens: 4,
        output_tokens: 5,
    };
    assert_eq!(view.usage, total);
    let path = [
        "run.queued",
        "run.started",
        "run.retrying",
        "run.queued",
        "run.started",
        "run.succeeded",
    ];
    assert_eq!(kinds(&bed.events(due).await), path);
}

pub(crate) async fn how_runs_end(bed: Bed) {
    let error = |kind| RunError {
        kind,
        code: "c".to_owned(),
        message: "m".to_owned(),
        node: None,
    };
    let table = [
        (
            Ending::Succeeded,
            None,
            RunState::Succeeded,
            EndedBecause::Succeeded,
            "run.succeeded",
        ),
        (
            Ending::Failed,
            Some(RunErrorKind::Node),
            RunState::Failed,
            EndedBecause::Failed,
            "run.failed",
        ),
        (
            Ending::Failed,
            Some(RunErrorKind::Timeout),
            RunState::Failed,
            EndedBecause::TimedOut,
            "run.failed",
        ),
        (
            Ending::Cancelled,
            None,
            RunState::Cancelled,
            EndedBecause::Cancelled,
            "run.cancelled",
        ),
    ];
    let knowing = table.into_iter().flat_map(|row| [(row, true), (row, false)]);
    for ((ending, kind, state, because, name), knows) in knowing {
        let run = bed.submit_one().await;
        let claimed = bed.claim(run, TTL).await;
        let mut end = finish(claimed.lease, ending);
        end.after_seq = if knows { claimed.last_seq } else { 0 };
        end.error = kind.map(error);
        let events = applied(&bed.store.finish(&[end.clone(), end.clone()][..1]).await.unwrap());
        assert_eq!(kinds(&events), [name]);
        assert_eq!(events[0].data.get("error").is_some(), kind.is_some());
        let view = bed.get(run).await;
        assert_eq!(
            (view.state, view.attempts[0].ended_because, &view.error),
            (state, Some(because), &end.error)
        );
        let listed = bed.store.list(&bed.tenant, &crate::bed::filter(1)).await.unwrap();
        assert_eq!(
            (&listed.items[0].error, &listed.items[0].output),
            (&end.error, &None)
        );
    }
    // Twice within a call: the second finds it ended.
    for after_seq in [2, 0] {
        let run = bed.submit_one().await;
        let mut end = finish(bed.claim(run, TTL).await.lease, Ending::Succeeded);
        end.after_seq = after_seq;
        let answers = bed.store.finish(&[end.clone(), end]).await.unwrap();
        assert!(matches!(answers[..], [Fenced::Applied { .. }, Fenced::Stale]));
        bed.events(run).await;
    }
}

pub(crate) async fn checkpoints_go_when_it_ends(bed: Bed) {
    let [ended, by_count, kept] = [
        bed.submit_one().await,
        bed.submit_one().await,
        bed.submit_one().await,
    ];
    for run in [ended, by_count, kept] {
        let lease = bed.claim(run, TTL).await.lease;
        let step = progress(lease, 2, vec![checkpoint("a", json!(1))], vec![]);
        bed.store.checkpoint(&[step]).await.unwrap();
        let mut end = finish(lease, Ending::Succeeded);
        if run == by_count {
            end.after_seq = 2;
        }
        if run != kept {
            bed.store.finish(&[end]).await.unwrap();
        }
    }
    let sql = "SELECT run_id FROM checkpoints";
    let left: Vec<String> = if bed.url.starts_with("sqlite") {
        let pool = sqlx::SqlitePool::connect(&bed.url).await.unwrap();
        sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap()
    } else {
        let pool = sqlx::PgPool::connect(&bed.url).await.unwrap();
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
        ids.iter().map(uuid::Uuid::to_string).collect()
    };
    assert_eq!(left, [kept.to_string()]);
}
