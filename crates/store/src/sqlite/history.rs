//! How runs went, for the checker. Each history is read by one statement, so that it is one snapshot.

use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::RunId;
use flowfleet_core::history::Stray;
use flowfleet_core::port::{Histories, HistoryStore, Result as PortResult};

use super::Sqlite;
use super::upkeep::before;
use crate::error::{Repeat, attempt};
use crate::history::{FIRST, HistoryRow, LAST, StrayRow, histories};
use crate::value::{Id, Time};
use crate::{HISTORY_LIMIT, UPKEEP_LIMIT};

/// All events of the run `r` as rows `(first_seq, count, events)`, those that other rows tell included.
macro_rules! event_rows {
    () => {
        "SELECT 1 AS first_seq, 1 AS count, json_array(json_object('k', 'run.queued', 't', r.created_at)) AS events
         FROM r WHERE NOT EXISTS (SELECT 1 FROM run_events f WHERE f.run_id = r.id AND f.first_seq = 1)
         UNION ALL
         SELECT r.started_seq, 1, json_array(json_object('k', 'run.started', 't', r.attempt_started_at,
            'd', json_object('attempt', r.attempt, 'worker', r.worker)))
         FROM r WHERE r.state = 'running'
         UNION ALL
         SELECT a.started_seq, 1, json_array(json_object('k', 'run.started', 't', a.started_at,
            'd', json_object('attempt', a.attempt, 'worker', a.worker)))
         FROM run_attempts a WHERE a.run_id = (SELECT id FROM r)
         UNION ALL
         SELECT a.first_seq, a.count, a.events
         FROM run_attempts a WHERE a.run_id = (SELECT id FROM r) AND a.count > 0
         UNION ALL
         SELECT e.first_seq, e.count, e.events FROM run_events e WHERE e.run_id = (SELECT id FROM r)"
    };
}
pub(super) use event_rows;

macro_rules! history_columns {
    () => {
        concat!("SELECT h.id, h.state, h.attempt, h.failures, h.interruptions, h.epoch, h.last_seq, h.queued_at,
            h.published_at, h.started_at, h.attempt_started_at, h.lease_until, h.run_at, h.expires_at,
            h.finished_at, (
                SELECT d.settings FROM run_data d WHERE d.run_id = h.id
            ) AS settings, (
                SELECT json_group_array(json_array(e.first_seq, e.count, e.events))
                FROM (WITH r AS (SELECT * FROM runs WHERE id = h.id) SELECT * FROM (",
        event_rows!(),
        ") ORDER BY first_seq) e
            ) AS events, (
                SELECT json_group_array(json_array(a.epoch, a.attempt, a.ended_because))
                FROM (SELECT * FROM run_attempts WHERE run_id = h.id ORDER BY epoch) a
            ) AS attempts, (
                SELECT json_group_array(k.node) FROM (SELECT node FROM checkpoints WHERE run_id = h.id ORDER BY node) k
            ) AS checkpoints, ?1 AS now
         FROM runs h ")
    };
}

pub(super) const AFTER: &str = concat!(history_columns!(), "WHERE h.id > ?2 ORDER BY h.id LIMIT ?3");

pub(super) const OF: &str = concat!(
    history_columns!(),
    "WHERE h.id IN (SELECT value FROM json_each(?2)) ORDER BY h.id"
);

/// `?1` is the time that is `slack` ago.
pub(super) const UNFINISHED: &str = "
SELECT id FROM (SELECT id FROM runs WHERE state = 'running' LIMIT ?2)
UNION
SELECT id FROM (SELECT id FROM runs WHERE state = 'scheduled' AND run_at <= ?1 ORDER BY run_at LIMIT ?2)
UNION
SELECT id FROM (
    SELECT id FROM runs
    WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'blocked', 'queued')
      AND expires_at <= ?1
    ORDER BY expires_at LIMIT ?2
)
";

macro_rules! strays_of {
    ($table:literal) => {
        concat!(
            "SELECT DISTINCT '",
            $table,
            "' AS place, d.run_id AS run FROM ",
            $table,
            " d WHERE d.run_id > ?1 AND d.run_id <= ?2
               AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = d.run_id)"
        )
    };
}

pub(super) const STRAYS: &str = concat!(
    strays_of!("run_data"),
    " UNION ALL ",
    strays_of!("run_events"),
    " UNION ALL ",
    strays_of!("run_attempts"),
    " UNION ALL ",
    strays_of!("checkpoints"),
    " LIMIT ?3"
);

#[async_trait]
impl HistoryStore for Sqlite {
    async fn histories(&self, after: Option<RunId>, limit: u32) -> PortResult<Histories> {
        attempt("histories", Repeat::Idempotent, || async {
            let rows: Vec<HistoryRow> = sqlx::query_as(AFTER)
                .bind(Time::now())
                .bind(after.map_or(FIRST, Id::from))
                .bind(i64::from(limit.clamp(1, HISTORY_LIMIT)))
                .fetch_all(&self.readers)
                .await?;
            Ok(histories(rows))
        })
        .await
    }

    async fn histories_of(&self, runs: &[RunId]) -> PortResult<Histories> {
        attempt("histories_of", Repeat::Idempotent, || async {
            let rows: Vec<HistoryRow> = sqlx::query_as(OF)
                .bind(Time::now())
                .bind(serde_json::to_string(runs)?)
                .fetch_all(&self.readers)
                .await?;
            Ok(histories(rows))
        })
        .await
    }

    async fn unfinished(&self, slack: Duration, limit: u32) -> PortResult<Vec<RunId>> {
        attempt("unfinished", Repeat::Idempotent, || async {
            let rows: Vec<Id> = sqlx::query_scalar(UNFINISHED)
                .bind(before(Time::now(), slack))
                .bind(i64::from(limit.min(UPKEEP_LIMIT)))
                .fetch_all(&self.readers)
                .await?;
            Ok(rows.into_iter().map(|id| RunId(id.0)).collect())
        })
        .await
    }

    async fn strays(&self, after: Option<RunId>, upto: Option<RunId>, limit: u32) -> PortResult<Vec<Stray>> {
        attempt("strays", Repeat::Idempotent, || async {
            let rows: Vec<StrayRow> = sqlx::query_as(STRAYS)
                .bind(after.map_or(FIRST, Id::from))
                .bind(upto.map_or(LAST, Id::from))
                .bind(i64::from(limit.min(UPKEEP_LIMIT)))
                .fetch_all(&self.readers)
                .await?;
            Ok(rows.into_iter().map(Stray::from).collect())
        })
        .await
    }

    async fn runs_after(&self, after: Option<RunId>) -> PortResult<u64> {
        attempt("runs_after", Repeat::Idempotent, || async {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM runs WHERE id > ?1")
                .bind(after.map_or(FIRST, Id::from))
                .fetch_one(&self.readers)
                .await?;
            crate::row::unsigned("count", count)
        })
        .await
    }
}
