//! How runs went, for the checker. Each history is read by one statement, so that it is one snapshot.

use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::RunId;
use flowfleet_core::history::Stray;
use flowfleet_core::port::{Histories, HistoryStore, Result as PortResult};

use super::Postgres;
use crate::error::{Repeat, attempt};
use crate::history::{FIRST, HistoryRow, LAST, StrayRow, histories};
use crate::value::Id;
use crate::{HISTORY_LIMIT, UPKEEP_LIMIT};

/// All events of the run `r` as rows `(first_seq, count, events)`, those that other rows tell included.
macro_rules! event_rows {
    () => {
        "SELECT 1::bigint AS first_seq, 1 AS count, json_build_array(json_build_object(
                'k', 'run.queued', 't', (extract(epoch FROM r.created_at) * 1000000)::bigint))::text AS events
         WHERE NOT EXISTS (SELECT 1 FROM run_events f WHERE f.run_id = r.id AND f.first_seq = 1)
         UNION ALL
         SELECT s.seq, 1, json_build_array(json_build_object(
                'k', 'run.started', 't', (extract(epoch FROM s.at) * 1000000)::bigint,
                'd', json_build_object('attempt', s.attempt, 'worker', s.worker)))::text
         FROM (
            SELECT r.started_seq, r.attempt_started_at, r.attempt, r.worker WHERE r.state = 'running'
            UNION ALL
            SELECT a.started_seq, a.started_at, a.attempt, a.worker FROM run_attempts a WHERE a.run_id = r.id
         ) s (seq, at, attempt, worker)
         UNION ALL
         SELECT a.first_seq, a.count, a.events FROM run_attempts a WHERE a.run_id = r.id AND a.count > 0
         UNION ALL
         SELECT e.first_seq, e.count, e.events FROM run_events e WHERE e.run_id = r.id"
    };
}
pub(super) use event_rows;

/// Sub-selects, no joins: for a join the planner may walk `run_data` from its beginning to where the page begins.
macro_rules! history_columns {
    () => {
        concat!("SELECT r.id, r.state, r.attempt, r.failures, r.interruptions, r.epoch, r.last_seq, r.queued_at,
            r.published_at, r.started_at, r.attempt_started_at, r.lease_until, r.run_at, r.expires_at,
            r.finished_at, (
                SELECT d.settings FROM run_data d WHERE d.run_id = r.id
            ) AS settings, (
                SELECT json_agg(json_build_array(e.first_seq, e.count, e.events) ORDER BY e.first_seq)::text
                FROM (",
        event_rows!(),
        ") e
            ) AS events, (
                SELECT json_agg(json_build_array(a.epoch, a.attempt, a.ended_because) ORDER BY a.epoch)::text
                FROM run_attempts a WHERE a.run_id = r.id
            ) AS attempts, (
                SELECT json_agg(k.node ORDER BY k.node)::text FROM checkpoints k WHERE k.run_id = r.id
            ) AS checkpoints, now() AS now
         FROM runs r ")
    };
}

const AFTER: &str = concat!(history_columns!(), "WHERE r.id > $1 ORDER BY r.id LIMIT $2");

const OF: &str = concat!(history_columns!(), "WHERE r.id = ANY($1) ORDER BY r.id");

const UNFINISHED: &str = "
(SELECT id FROM runs WHERE state = 'running' LIMIT $2)
UNION
(SELECT id FROM runs WHERE state = 'scheduled' AND run_at <= now() - make_interval(secs => $1)
 ORDER BY run_at LIMIT $2)
UNION
(SELECT id FROM runs
 WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'blocked', 'queued')
   AND expires_at <= now() - make_interval(secs => $1)
 ORDER BY expires_at LIMIT $2)
";

/// `IS NULL` and not `NOT EXISTS`, which the planner may turn into a join of two ranges.
macro_rules! strays_of {
    ($table:literal) => {
        concat!(
            "(SELECT '",
            $table,
            "' AS place, d.run_id AS run
              FROM (SELECT DISTINCT run_id FROM ",
            $table,
            " WHERE run_id > $1 AND run_id <= $2) d
              WHERE (SELECT r.id FROM runs r WHERE r.id = d.run_id) IS NULL LIMIT $3)"
        )
    };
}

const STRAYS: &str = concat!(
    strays_of!("run_data"),
    " UNION ALL ",
    strays_of!("run_events"),
    " UNION ALL ",
    strays_of!("run_attempts"),
    " UNION ALL ",
    strays_of!("checkpoints"),
    " LIMIT $3"
);

#[async_trait]
impl HistoryStore for Postgres {
    async fn histories(&self, after: Option<RunId>, limit: u32) -> PortResult<Histories> {
        attempt("histories", Repeat::Idempotent, || async {
            let rows: Vec<HistoryRow> = sqlx::query_as(AFTER)
                .bind(after.map_or(FIRST, Id::from))
                .bind(i64::from(limit.clamp(1, HISTORY_LIMIT)))
                .fetch_all(&self.pool)
                .await?;
            Ok(histories(rows))
        })
        .await
    }

    async fn histories_of(&self, runs: &[RunId]) -> PortResult<Histories> {
        attempt("histories_of", Repeat::Idempotent, || async {
            let rows: Vec<HistoryRow> = sqlx::query_as(OF)
                .bind(runs.iter().map(|&run| Id::from(run)).collect::<Vec<_>>())
                .fetch_all(&self.pool)
                .await?;
            Ok(histories(rows))
        })
        .await
    }

    async fn unfinished(&self, slack: Duration, limit: u32) -> PortResult<Vec<RunId>> {
        attempt("unfinished", Repeat::Idempotent, || async {
            let rows: Vec<Id> = sqlx::query_scalar(UNFINISHED)
                .bind(slack.as_secs_f64())
                .bind(i64::from(limit.min(UPKEEP_LIMIT)))
                .fetch_all(&self.pool)
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
                .fetch_all(&self.pool)
                .await?;
            Ok(rows.into_iter().map(Stray::from).collect())
        })
        .await
    }

    async fn runs_after(&self, after: Option<RunId>) -> PortResult<u64> {
        attempt("runs_after", Repeat::Idempotent, || async {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM runs WHERE id > $1")
                .bind(after.map_or(FIRST, Id::from))
                .fetch_one(&self.pool)
                .await?;
            crate::row::unsigned("count", count)
        })
        .await
    }
}
