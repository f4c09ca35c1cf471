//! What the leader does.

use std::time::Duration;

use flowfleet_core::run::{EndedBecause, NewRun};
use flowfleet_core::{Capabilities, EventKind, Pool, Priority, RunState};
use sqlx::Connection as _;

use crate::bed::{Bed, OVER, TTL, kinds, release, until};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn due_runs_are_promoted(bed: Bed) {
    let (mut due, mut later) = (bed.new_run(), bed.new_run());
    due.run_at = Some(jiff::Timestamp::now() + Duration::from_millis(200));
    later.run_at = Some(jiff::Timestamp::now() + HOUR);
    bed.submit(&[due.clone(), later.clone()]).await;
    let next = bed.store.next_due().await.unwrap().unwrap();
    assert_eq!(next.as_microsecond(), due.run_at.unwrap().as_microsecond());
    let outbox = until("the due run", || async {
        bed.store.promote_due(10).await.unwrap().1
    })
    .await;
    assert!(jiff::Timestamp::now() >= due.run_at.unwrap());
    assert_eq!(
        outbox.envelopes.iter().map(|e| e.message.run).collect::<Vec<_>>(),
        [due.id]
    );
    let view = bed.get(due.id).await;
    assert_eq!(view.state, RunState::Queued);
    assert!(view.queued_at.unwrap() >= view.created_at);
    assert_eq!(kinds(&bed.events(due.id).await), ["run.scheduled", "run.queued"]);
    assert_eq!(bed.store.promote_due(10).await.unwrap(), (0, None));
    assert_eq!(bed.get(later.id).await.state, RunState::Scheduled);
}

pub(crate) async fn late_runs_expire(bed: Bed) {
    let (mut queued, mut scheduled, mut patient) = (bed.new_run(), bed.new_run(), bed.new_run());
    queued.expires_at = Some(jiff::Timestamp::now());
    scheduled.expires_at = Some(jiff::Timestamp::now());
    scheduled.run_at = Some(jiff::Timestamp::now() + HOUR);
    patient.expires_at = Some(jiff::Timestamp::now() + HOUR);
    bed.submit(&[queued.clone(), scheduled.clone(), patient.clone()])
        .await;
    assert!(
        bed.try_claim(queued.id, TTL).await.is_none(),
        "it is too late to start it"
    );
    let events = bed.store.expire(10).await.unwrap();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|e| e.kind == EventKind::RunExpired));
    for run in [queued.id, scheduled.id] {
        let view = bed.get(run).await;
        assert_eq!(view.state, RunState::Expired);
        assert!(view.finished_at.is_some());
        assert_eq!(bed.events(run).await.last().unwrap().kind, EventKind::RunExpired);
    }
    assert_eq!(bed.store.expire(10).await.unwrap(), []);
    bed.claim(patient.id, TTL).await;
}

pub(crate) async fn started_runs_do_not_expire(bed: Bed) {
    let mut run = bed.new_run();
    run.expires_at = Some(jiff::Timestamp::now() + Duration::from_millis(500));
    bed.submit(std::slice::from_ref(&run)).await;
    let lease = bed.claim(run.id, TTL).await.lease;
    bed.store
        .release(&[release(lease, EndedBecause::Interrupted, None)])
        .await
        .unwrap();
    until("its time to pass", || async {
        (jiff::Timestamp::now() > run.expires_at.unwrap()).then_some(())
    })
    .await;
    assert_eq!(bed.store.expire(10).await.unwrap(), []);
    bed.claim(run.id, TTL).await;
}

pub(crate) async fn the_outbox_is_emptied(bed: Bed) {
    let mut rows = Vec::new();
    for _ in 0..3 {
        rows.push(
            bed.store
                .submit(&[bed.new_run(), bed.new_run()])
                .await
                .unwrap()
                .outbox
                .unwrap(),
        );
    }
    assert_eq!(bed.store.outbox_leftover(HOUR, 10).await.unwrap(), []);
    assert_eq!(bed.store.outbox_leftover(OVER, 10).await.unwrap(), rows);
    assert_eq!(bed.store.outbox_leftover(OVER, 2).await.unwrap(), rows[..2]);
    bed.store.outbox_done(&[rows[0].id, rows[2].id]).await.unwrap();
    bed.store.outbox_done(&[rows[0].id, 999_999]).await.unwrap();
    bed.store.outbox_done(&[]).await.unwrap();
    assert_eq!(bed.store.outbox_leftover(OVER, 10).await.unwrap(), rows[1..2]);
    bed.store.outbox_done(&[rows[1].id]).await.unwrap();
    let next = bed.store.submit(&[bed.new_run()]).await.unwrap().outbox.unwrap();
    assert!(next.id > rows[2].id, "ids are not given out again");
}

pub(crate) async fn republishing_keeps_its_distance(bed: Bed) {
    let pool = Pool::default();
    let mut runs: Vec<NewRun> = (0..4).map(|_| bed.new_run()).collect();
    runs[3].queue = "gpu".parse().unwrap();
    let first: Vec<_> = runs[..2].to_vec();
    bed.submit(&first).await;
    bed.submit(&runs[2..]).await;
    bed.claim(runs[0].id, TTL).await;
    assert_eq!(bed.store.republish(&pool, HOUR, 10).await.unwrap(), None);
    let row = bed.store.republish(&pool, OVER, 1).await.unwrap().unwrap();
    assert_eq!(
        row.envelopes.iter().map(|e| e.message.run).collect::<Vec<_>>(),
        [runs[1].id],
        "the oldest"
    );
    // What was published just now is not old enough, the other one is (to the millisecond).
    let old = Duration::from_millis(100);
    until("the other run to age", || async {
        let age = jiff::Timestamp::now().duration_since(bed.get(runs[2].id).await.queued_at.unwrap());
        (age.as_millis() > 150).then_some(())
    })
    .await;
    let row = bed.store.republish(&pool, old, 10).await.unwrap().unwrap();
    assert!(row.envelopes.iter().any(|e| e.message.run == runs[2].id));
    assert_eq!(bed.store.republish(&pool, HOUR, 10).await.unwrap(), None);
    assert_eq!(
        bed.store
            .republish(&pool, Duration::from_secs(5), 10)
            .await
            .unwrap(),
        None
    );
    let stored = bed.store.outbox_leftover(OVER, 10).await.unwrap();
    assert_eq!(stored.last(), Some(&row));
}

pub(crate) async fn the_backlog_is_exact(bed: Bed) {
    assert_eq!(bed.store.backlog().await.unwrap(), []);
    let mut runs: Vec<NewRun> = (0..7).map(|_| bed.new_run()).collect();
    runs[4].priority = Priority::High;
    runs[5].queue = "gpu".parse().unwrap();
    runs[6].run_at = Some(jiff::Timestamp::now() + HOUR);
    bed.submit(&runs).await;
    let lease = bed.claim(runs[0].id, TTL).await.lease;
    bed.claim(runs[1].id, TTL).await;
    let lines = bed.store.backlog().await.unwrap();
    let found: Vec<_> = lines
        .iter()
        .map(|l| {
            (
                l.queue.as_str(),
                l.priority,
                l.scheduled,
                l.queued,
                l.running,
                l.oldest_queued_at.is_some(),
            )
        })
        .collect();
    let expected = [
        ("default", Priority::High, 0, 1, 0, true),
        ("default", Priority::Normal, 1, 2, 2, true),
        ("gpu", Priority::Normal, 0, 1, 0, true),
    ];
    assert_eq!(found, expected);
    assert_eq!(lines[1].oldest_queued_at, bed.get(runs[2].id).await.queued_at);
    bed.finish(lease, flowfleet_core::run::Ending::Succeeded).await;
    assert_eq!(bed.store.backlog().await.unwrap()[1].running, 1);
}

pub(crate) async fn ahead_counts_who_comes_first(bed: Bed) {
    let mut runs: Vec<NewRun> = (0..6).map(|_| bed.new_run()).collect();
    runs[5].priority = Priority::High;
    runs[4].queue = "gpu".parse().unwrap();
    for run in &runs {
        bed.submit(std::slice::from_ref(run)).await;
    }
    let ahead = async |run: usize, cap| bed.store.ahead_of(runs[run].id, cap).await.unwrap();
    assert_eq!(ahead(5, 10).await, 0);
    assert_eq!(ahead(0, 10).await, 1);
    assert_eq!(ahead(3, 10).await, 4);
    assert_eq!(ahead(3, 2).await, 2);
    assert_eq!(ahead(4, 10).await, 0);
    bed.claim(runs[0].id, TTL).await;
    assert_eq!(ahead(3, 10).await, 3);
    assert_eq!(ahead(0, 10).await, 0, "it does not wait");
    // Of one batch, in the order of ids.
    let batch: Vec<NewRun> = (0..3).map(|_| bed.new_run()).collect();
    bed.submit(&batch).await;
    assert_eq!(bed.store.ahead_of(batch[2].id, 10).await.unwrap(), 6);
}

pub(crate) async fn one_leader_per_role(bed: Bed) {
    let mut leader = bed.store.lead("upkeep").await.unwrap().unwrap();
    assert!(leader.holds().await);
    assert!(bed.store.lead("upkeep").await.unwrap().is_none());
    let other = bed.store.lead("cron").await.unwrap();
    assert!(other.is_some());
    assert!(leader.holds().await);
    drop(leader);
    let mut next = until("the role to be free", || async {
        bed.store.lead("upkeep").await.unwrap()
    })
    .await;
    assert!(next.holds().await);
}

pub(crate) async fn a_killed_leader_leads_no_more(bed: Bed) {
    let mut leader = bed.store.lead("upkeep").await.unwrap().unwrap();
    let mut server = sqlx::PgConnection::connect(&bed.url).await.unwrap();
    let killed: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .fetch_all(&mut server)
    .await
    .unwrap();
    assert_eq!(killed, [true]);
    let mut next = until("the role to be free", || async {
        bed.store.lead("upkeep").await.unwrap()
    })
    .await;
    assert!(!leader.holds().await);
    assert!(!leader.holds().await);
    assert!(next.holds().await);
}

pub(crate) async fn limits_hold(bed: Bed) {
    let mut runs: Vec<NewRun> = (0..5).map(|_| bed.new_run()).collect();
    for run in &mut runs {
        run.run_at = Some(jiff::Timestamp::now() + Duration::from_millis(500));
    }
    bed.submit(&runs).await;
    until("all to be due", || async {
        (jiff::Timestamp::now() > runs[4].run_at.unwrap() + Duration::from_millis(5)).then_some(())
    })
    .await;
    let mut promoted = Vec::new();
    for _ in 0..3 {
        promoted.push(bed.store.promote_due(2).await.unwrap().0);
    }
    assert_eq!(promoted, [2, 2, 1]);
    let ids: Vec<_> = runs.iter().map(|r| r.id).collect();
    bed.store
        .claim(bed.worker, &Capabilities::default(), &ids, OVER)
        .await
        .unwrap();
    let mut reaped = Vec::new();
    for _ in 0..3 {
        reaped.push(
            bed.store
                .reap(2)
                .await
                .unwrap()
                .1
                .map_or(0, |row| row.envelopes.len()),
        );
    }
    assert_eq!(reaped, [2, 2, 1]);
}
