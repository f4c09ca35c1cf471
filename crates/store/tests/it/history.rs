//! Histories as the checker reads them, and a store that was damaged on purpose.

use std::time::Duration;

use flowfleet_core::history::{Invariant, SLACK, check};
use flowfleet_core::run::{EndedBecause, Ending};
use flowfleet_core::{EventKind, RunId, RunState};
use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use crate::bed::{Bed, OVER, TTL, checkpoint, node_event, progress, release, until};

const HOUR: Duration = Duration::from_secs(3600);

async fn tampered(url: String, statement: String) {
    if url.starts_with("sqlite") {
        let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
        file.execute(statement.as_str()).await.unwrap();
        file.close().await.unwrap();
    } else {
        let mut server = sqlx::PgConnection::connect(&url).await.unwrap();
        server.execute(statement.as_str()).await.unwrap();
        server.close().await.unwrap();
    }
}

impl Bed {
    /// Changes the database behind the store's back.
    async fn tamper(&self, statement: &str) {
        tokio::spawn(tampered(self.url.clone(), statement.to_owned()))
            .await
            .unwrap();
    }

    /// What a walk over the whole store finds, without repetitions.
    pub(crate) async fn violated(&self) -> Vec<Invariant> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.histories(after, 2).await.unwrap();
            let last = page.runs.last().map(|history| history.run);
            for stray in self.store.strays(after, last, 100).await.unwrap() {
                found.push(stray.violation().invariant);
            }
            for history in &page.runs {
                found.extend(check(history, page.now, SLACK).iter().map(|v| v.invariant));
            }
            if last.is_none() {
                found.sort();
                found.dedup();
                return found;
            }
            after = last;
        }
    }

    /// Claimed, node `a` done, lost, claimed again.
    async fn resumed(&self) -> RunId {
        let run = self.submit_one().await;
        let lease = self.claim(run, OVER).await.lease;
        let events = vec![
            node_event(EventKind::NodeStarted, "a"),
            node_event(EventKind::NodeFinished, "a"),
        ];
        let done = progress(lease, 2, vec![checkpoint("a", json!(1))], events);
        self.store.checkpoint(&[done]).await.unwrap();
        self.reap().await;
        self.claim(run, TTL).await;
        run
    }

    async fn succeeded(&self) -> RunId {
        let run = self.submit_one().await;
        let lease = self.claim(run, TTL).await.lease;
        self.finish(lease, Ending::Succeeded).await;
        run
    }
}

pub(crate) async fn a_history_is_what_happened(bed: Bed) {
    let run = bed.resumed().await;
    let read = bed.store.histories_of(&[run]).await.unwrap();
    assert!((read.now.as_second() - jiff::Timestamp::now().as_second()).abs() < 60);
    let history = &read.runs[0];
    assert_eq!(history.events, bed.events(run).await);
    assert_eq!(
        (
            history.run,
            history.state,
            history.epoch,
            history.attempt,
            history.failures
        ),
        (run, RunState::Running, 2, 1, 0)
    );
    assert_eq!((history.interruptions, history.timeout_s), (1, 3600.0));
    assert_eq!(history.last_seq, history.events.len() as u64);
    assert_eq!(history.checkpoints, ["a"]);
    let ended: Vec<_> = history
        .attempts
        .iter()
        .map(|a| (a.epoch, a.attempt, a.because))
        .collect();
    assert_eq!(ended, [(1, 1, EndedBecause::WorkerLost)]);
    let view = bed.get(run).await;
    assert_eq!(
        (history.queued_at, history.started_at, history.lease_until),
        (view.queued_at, view.started_at, view.lease_until)
    );
    assert!(history.published_at.is_some() && history.attempt_started_at.is_some());
    assert_eq!((history.finished_at, history.damage.len()), (None, 0));
    assert_eq!(bed.violated().await, []);
}

pub(crate) async fn histories_are_walked_by_id(bed: Bed) {
    let mut runs: Vec<_> = (0..5).map(|_| bed.new_run()).collect();
    runs[2].tenant = "other".parse().unwrap();
    let ids = bed.submit(&runs).await;
    let walked = |page: &flowfleet_core::port::Histories| page.runs.iter().map(|h| h.run).collect::<Vec<_>>();
    let first = bed.store.histories(None, 3).await.unwrap();
    assert_eq!(walked(&first), ids[..3]);
    let second = bed.store.histories(Some(ids[2]), 3).await.unwrap();
    assert_eq!(walked(&second), ids[3..]);
    assert_eq!(bed.store.histories(Some(ids[4]), 3).await.unwrap().runs, []);
    let some = [ids[4], RunId::generate(), ids[0]];
    assert_eq!(
        walked(&bed.store.histories_of(&some).await.unwrap()),
        [ids[0], ids[4]]
    );
    assert_eq!(bed.store.histories_of(&[]).await.unwrap().runs, []);
    assert_eq!(bed.store.runs_after(None).await.unwrap(), 5);
    assert_eq!(bed.store.runs_after(Some(ids[3])).await.unwrap(), 1);
}

pub(crate) async fn unfinished_are_those_that_run_or_are_late(bed: Bed) {
    let soon = jiff::Timestamp::now() + Duration::from_secs(1);
    let mut runs: Vec<_> = (0..5).map(|_| bed.new_run()).collect();
    runs[1].run_at = Some(soon);
    runs[2].run_at = Some(jiff::Timestamp::now() + HOUR);
    runs[3].expires_at = Some(soon);
    let ids = bed.submit(&runs).await;
    bed.claim(ids[0], TTL).await;
    let found = async |slack, limit| {
        let mut found = bed.store.unfinished(slack, limit).await.unwrap();
        found.sort();
        found
    };
    let late = until("two runs to be late", || async {
        Some(found(Duration::ZERO, 10).await).filter(|found| found.len() == 3)
    })
    .await;
    assert_eq!(late, [ids[0], ids[1], ids[3]]);
    assert_eq!(found(HOUR, 10).await, [ids[0]]);
    assert_eq!(
        bed.succeeded().await,
        bed.store.histories(Some(ids[4]), 1).await.unwrap().runs[0].run
    );
    assert_eq!(found(HOUR, 10).await, [ids[0]], "what ended is not unfinished");
}

pub(crate) async fn strays_are_found_where_they_are(bed: Bed) {
    let (first, second) = (bed.resumed().await, bed.resumed().await);
    assert_eq!(bed.store.strays(None, None, 10).await.unwrap(), []);
    bed.tamper("DELETE FROM runs").await;
    let tables = async |after, upto, limit| {
        let found = bed.store.strays(after, upto, limit).await.unwrap();
        found.into_iter().map(|s| (s.run, s.table)).collect::<Vec<_>>()
    };
    let of = |run, table: &str| (run, table.to_owned());
    let mut upto = tables(None, Some(first), 10).await;
    upto.sort();
    assert_eq!(
        upto,
        ["checkpoints", "run_attempts", "run_data", "run_events"].map(|table| of(first, table))
    );
    assert!(
        tables(Some(first), None, 10)
            .await
            .iter()
            .all(|(run, _)| *run == second)
    );
    assert_eq!(tables(None, None, 10).await.len(), 8);
    assert_eq!(tables(None, None, 3).await.len(), 3);
    assert_eq!(bed.violated().await, [Invariant::NothingOrphaned]);
}

/// Each damage to one of two runs, `live` and `ended`, and what the checker must say.
const DAMAGE: [(&str, &[Invariant]); 13] = [
    (
        "INSERT INTO run_events SELECT id, last_seq + 1, 1, '[{\"k\":\"run.failed\",\"t\":0}]' FROM runs WHERE id = $ended;
         UPDATE runs SET last_seq = last_seq + 1 WHERE id = $ended",
        &[Invariant::EndedOnce],
    ),
    (
        "UPDATE runs SET state = 'queued', finished_at = NULL WHERE id = $ended",
        &[Invariant::EndedOnce],
    ),
    (
        "INSERT INTO run_events SELECT id, last_seq + 1, 1, '[{\"k\":\"node.finished\",\"t\":0,\"d\":{\"node\":\"a\"}}]'
         FROM runs WHERE id = $live;
         UPDATE runs SET last_seq = last_seq + 1 WHERE id = $live",
        &[Invariant::OutputOnce],
    ),
    (
        "INSERT INTO run_events SELECT id, last_seq + 1, 1, '[{\"k\":\"node.started\",\"t\":0,\"d\":{\"node\":\"a\"}}]'
         FROM runs WHERE id = $live;
         UPDATE runs SET last_seq = last_seq + 1 WHERE id = $live",
        &[Invariant::NodeNotRerun],
    ),
    (
        "UPDATE run_attempts SET first_seq = first_seq + 5 WHERE run_id = $ended",
        &[Invariant::SequenceWhole],
    ),
    (
        "UPDATE runs SET started_seq = started_seq - 1 WHERE id = $live",
        &[Invariant::SequenceWhole],
    ),
    (
        "UPDATE runs SET lease_until = created_at - $day WHERE id = $live",
        &[Invariant::NotStuck],
    ),
    (
        "UPDATE runs SET published_at = NULL WHERE id = $queued",
        &[Invariant::NotStuck],
    ),
    (
        "UPDATE runs SET state = 'blocked' WHERE id = $queued",
        &[Invariant::LegalSteps],
    ),
    (
        "UPDATE run_attempts SET epoch = epoch + 7 WHERE run_id = $live",
        &[Invariant::AttemptsAddUp],
    ),
    (
        "INSERT INTO checkpoints VALUES ($ended, 'a', 'null')",
        &[Invariant::NothingOrphaned],
    ),
    (
        "UPDATE run_attempts SET events = 'odd' WHERE run_id = $ended",
        &[Invariant::Readable],
    ),
    (
        "DELETE FROM run_data WHERE run_id = $queued",
        &[Invariant::Readable],
    ),
];

pub(crate) async fn every_damage_is_named(bed: Bed) {
    let day = if bed.url.starts_with("sqlite") {
        "86400000000"
    } else {
        "interval '1 day'"
    };
    let mut named = std::collections::BTreeSet::new();
    for (damage, expected) in DAMAGE {
        let (live, ended, queued) = (bed.resumed().await, bed.succeeded().await, bed.submit_one().await);
        assert_eq!(bed.violated().await, [], "before {damage}");
        let statement = damage
            .replace("$live", &format!("'{live}'"))
            .replace("$ended", &format!("'{ended}'"))
            .replace("$queued", &format!("'{queued}'"))
            .replace("$day", day);
        bed.tamper(&statement).await;
        assert_eq!(bed.violated().await, expected, "{damage}");
        named.extend(expected);
        for table in ["run_data", "run_events", "run_attempts", "checkpoints", "runs"] {
            bed.tamper(&format!("DELETE FROM {table}")).await;
        }
    }
    assert_eq!(named.into_iter().copied().collect::<Vec<_>>(), Invariant::ALL);
}

pub(crate) async fn a_retry_and_a_cancellation_add_up(bed: Bed) {
    let (failing, cancelled) = (bed.submit_one().await, bed.submit_one().await);
    let lease = bed.claim(failing, TTL).await.lease;
    let retry = release(lease, EndedBecause::Failed, Some(Duration::ZERO));
    bed.store.release(&[retry]).await.unwrap();
    assert_eq!(bed.violated().await, []);
    until("the retry", || async {
        bed.store.promote_due(10).await.unwrap().1
    })
    .await;
    let lease = bed.claim(failing, TTL).await.lease;
    bed.store.cancel(&bed.tenant, failing).await.unwrap();
    // A worker that fails, and one that is lost, after the cancellation was asked for.
    let retry = release(lease, EndedBecause::Failed, Some(Duration::ZERO));
    bed.store.release(&[retry]).await.unwrap();
    bed.claim(cancelled, OVER).await;
    bed.store.cancel(&bed.tenant, cancelled).await.unwrap();
    bed.reap().await;
    for run in [failing, cancelled] {
        assert_eq!(bed.get(run).await.state, RunState::Cancelled);
    }
    assert_eq!(bed.violated().await, []);
}
