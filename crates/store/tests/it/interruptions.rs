//! Losing machines, and cancelling.

use flowfleet_core::port::{CancelOutcome, Fenced};
use flowfleet_core::retry::MAX_INTERRUPTIONS;
use flowfleet_core::run::{EndedBecause, Ending, RunErrorKind};
use flowfleet_core::{EventKind, RunId, RunState};
use serde_json::json;

use crate::bed::{Bed, OVER, TTL, applied, checkpoint, kinds, node_event, release};

pub(crate) async fn a_lost_worker_is_not_a_failure(bed: Bed) {
    let run = bed.submit_one().await;
    bed.claim(run, OVER).await;
    let (events, outbox) = crate::bed::until("a lost lease", || async {
        let (events, outbox) = bed.store.reap(100).await.unwrap();
        outbox.map(|outbox| (events, outbox))
    })
    .await;
    assert_eq!(kinds(&events), ["run.interrupted", "run.queued"]);
    assert_eq!(events[0].data.value()["reason"], json!("worker_lost"));
    assert_eq!(outbox.envelopes[0].message.run, run);
    let view = bed.get(run).await;
    assert_eq!(
        (view.state, view.attempt, view.interruptions),
        (RunState::Queued, 1, 1)
    );
    assert_eq!((view.worker, view.lease_until), (None, None));
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::WorkerLost));
    assert_eq!(bed.store.reap(100).await.unwrap(), (vec![], None));
}

pub(crate) async fn too_many_fail_the_run(bed: Bed) {
    let run = bed.submit_one().await;
    for count in 1..=MAX_INTERRUPTIONS + 1 {
        assert_eq!(
            bed.get(run).await.state,
            RunState::Queued,
            "before interruption {count}"
        );
        let lease = bed.claim(run, OVER).await.lease;
        assert_eq!(lease.attempt, 1);
        if count % 2 == 0 {
            bed.reap().await;
        } else {
            let given = release(lease, EndedBecause::SpotNotice, None);
            applied(&bed.store.release(&[given]).await.unwrap().0);
        }
    }
    let view = bed.get(run).await;
    assert_eq!(
        (view.state, view.interruptions),
        (RunState::Failed, MAX_INTERRUPTIONS + 1)
    );
    let error = view.error.unwrap();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (RunErrorKind::Infrastructure, "too_many_interruptions")
    );
    assert_eq!(view.attempts.len(), MAX_INTERRUPTIONS as usize + 1);
    assert!(view.finished_at.is_some());
    let events = bed.events(run).await;
    let last = events.last().unwrap();
    assert_eq!(
        (last.kind, &last.data.value()["error"]["code"]),
        (EventKind::RunFailed, &json!("too_many_interruptions"))
    );
    assert!(bed.try_claim(run, TTL).await.is_none());
}

pub(crate) async fn the_second_asks_for_on_demand(bed: Bed) {
    let run = bed.submit_one().await;
    for on_demand in [false, true, true] {
        let lease = bed.claim(run, TTL).await.lease;
        let given = release(lease, EndedBecause::Interrupted, None);
        let (answers, outbox) = bed.store.release(&[given]).await.unwrap();
        assert_eq!(outbox.unwrap().envelopes[0].message.run, run);
        let events = applied(&answers);
        assert_eq!(kinds(&events), ["run.interrupted", "run.queued"]);
        assert_eq!(events[0].data.value()["on_demand"], json!(on_demand));
        assert_eq!(events[0].data.value()["reason"], json!("interrupted"));
    }
}

/// A fleet that shrinks may move a run as often as it likes.
pub(crate) async fn what_was_handed_off_does_not_count(bed: Bed) {
    let run = bed.submit_one().await;
    for _ in 0..MAX_INTERRUPTIONS + 5 {
        let lease = bed.claim(run, TTL).await.lease;
        assert_eq!(lease.attempt, 1);
        let given = release(lease, EndedBecause::HandedOff, None);
        let (answers, outbox) = bed.store.release(&[given]).await.unwrap();
        assert_eq!(outbox.unwrap().envelopes[0].message.run, run);
        let events = applied(&answers);
        assert_eq!(kinds(&events), ["run.interrupted", "run.queued"]);
        let data = events[0].data.value();
        assert_eq!(
            (&data["reason"], &data["on_demand"], &data["interruptions"]),
            (&json!("handed_off"), &json!(false), &json!(0))
        );
    }
    let view = bed.get(run).await;
    assert_eq!((view.state, view.interruptions), (RunState::Queued, 0));
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::HandedOff));
    // A true one counts as ever.
    let lease = bed.claim(run, TTL).await.lease;
    let given = release(lease, EndedBecause::Interrupted, None);
    applied(&bed.store.release(&[given]).await.unwrap().0);
    assert_eq!(bed.get(run).await.interruptions, 1);
    // So does what the history says, and a cancellation that comes in between.
    let lease = bed.claim(run, TTL).await.lease;
    bed.store.cancel(&bed.tenant, run).await.unwrap();
    let given = release(lease, EndedBecause::HandedOff, None);
    let events = applied(&bed.store.release(&[given]).await.unwrap().0);
    assert_eq!(kinds(&events), ["run.cancelled"]);
    let history = bed.store.histories_of(&[run]).await.unwrap().runs;
    assert_eq!(
        flowfleet_core::history::check(&history[0], jiff::Timestamp::now(), TTL * 100),
        []
    );
    assert_eq!(bed.get(run).await.interruptions, 1);
}

pub(crate) async fn a_cancelled_run_is_not_queued_again(bed: Bed) {
    for way in 0..3 {
        let run = bed.submit_one().await;
        let lease = bed.claim(run, if way == 0 { OVER } else { TTL }).await.lease;
        bed.store.cancel(&bed.tenant, run).await.unwrap();
        let events = match way {
            0 => bed.reap().await,
            1 => applied(
                &bed.store
                    .release(&[release(lease, EndedBecause::Interrupted, None)])
                    .await
                    .unwrap()
                    .0,
            ),
            _ => {
                let retry = release(lease, EndedBecause::Failed, Some(TTL));
                applied(&bed.store.release(&[retry]).await.unwrap().0)
            }
        };
        assert_eq!(kinds(&events), ["run.cancelled"], "way {way}");
        let view = bed.get(run).await;
        assert_eq!((view.state, view.cancel_requested), (RunState::Cancelled, true));
        assert_eq!(
            view.interruptions,
            u32::from(way < 2),
            "a failure interrupts nothing"
        );
        assert!(view.finished_at.is_some());
    }
    assert!(
        bed.store
            .republish(&Default::default(), OVER, 10)
            .await
            .unwrap()
            .is_none()
    );
}

pub(crate) async fn cancelling_in_every_state(bed: Bed) {
    let cancel = async |run: RunId| bed.store.cancel(&bed.tenant, run).await.unwrap();
    assert_eq!(cancel(RunId::generate()).await, CancelOutcome::NotFound);

    let queued = bed.submit_one().await;
    let mut later = bed.new_run();
    later.run_at = Some(jiff::Timestamp::MAX);
    let scheduled = bed.submit(&[later]).await[0];
    for run in [queued, scheduled] {
        assert_eq!(cancel(run).await, CancelOutcome::Cancelled);
        assert_eq!(
            cancel(run).await,
            CancelOutcome::AlreadyFinal(RunState::Cancelled)
        );
        assert!(bed.try_claim(run, TTL).await.is_none());
        assert_eq!(
            bed.events(run).await.last().unwrap().kind,
            EventKind::RunCancelled
        );
        assert!(bed.get(run).await.finished_at.is_some());
    }

    let running = bed.submit_one().await;
    let lease = bed.claim(running, TTL).await.lease;
    let requested = CancelOutcome::Requested {
        worker: Some(bed.worker),
    };
    assert_eq!(cancel(running).await, requested);
    assert_eq!(cancel(running).await, requested);
    let view = bed.get(running).await;
    assert_eq!((view.state, view.cancel_requested), (RunState::Running, true));
    assert!(matches!(
        bed.finish(lease, Ending::Cancelled).await,
        Fenced::Applied { .. }
    ));
    assert_eq!(
        cancel(running).await,
        CancelOutcome::AlreadyFinal(RunState::Cancelled)
    );

    for (ending, state) in [
        (Ending::Succeeded, RunState::Succeeded),
        (Ending::Failed, RunState::Failed),
    ] {
        let run = bed.submit_one().await;
        let lease = bed.claim(run, TTL).await.lease;
        bed.finish(lease, ending).await;
        assert_eq!(cancel(run).await, CancelOutcome::AlreadyFinal(state));
    }
}

pub(crate) async fn what_was_handed_back_keeps_its_nodes(bed: Bed) {
    let run = bed.submit_one().await;
    let lease = bed.claim(run, TTL).await.lease;
    let mut given = release(lease, EndedBecause::SpotNotice, None);
    given.nodes = vec![checkpoint("a", json!("kept"))];
    given.events = vec![node_event(EventKind::NodeFinished, "a")];
    given.nodes_reused = 3;
    bed.store.release(&[given.clone(), given]).await.unwrap();
    let claimed = bed.claim(run, TTL).await;
    assert_eq!(claimed.checkpoints, [checkpoint("a", json!("kept"))]);
    assert_eq!((claimed.lease.attempt, claimed.lease.epoch), (1, 2));
    let view = bed.get(run).await;
    assert_eq!((view.attempts[0].nodes_reused, view.interruptions), (3, 1));
    let path = [
        "run.queued",
        "run.started",
        "node.finished",
        "run.interrupted",
        "run.queued",
        "run.started",
    ];
    assert_eq!(kinds(&bed.events(run).await), path);
}
