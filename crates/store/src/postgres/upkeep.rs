//! What the leader does for all tenants.

use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::port::{Backlog, Leadership, OutboxRow, Result as PortResult, Upkeep};
use flowfleet_core::{Pool, RunEvent};
use jiff::Timestamp;

use super::Postgres;
use super::leader::{self, Leader};
use super::write::{apply, lock, locked_columns};
use crate::UPKEEP_LIMIT;
use crate::batch::Batch;
use crate::change::envelope;
use crate::error::{Error, Repeat, attempt};
use crate::row::{self, BacklogRow, LeftoverRow};
use crate::value::{Id, Time};

const LEFTOVER: &str = "
SELECT o.id AS outbox, r.id AS run, r.queue, r.priority, d.trace
FROM (
    SELECT id, runs FROM outbox WHERE created_at <= now() - make_interval(secs => $1) ORDER BY id LIMIT $2
) o
LEFT JOIN LATERAL unnest(o.runs) WITH ORDINALITY AS u (run, place) ON true
LEFT JOIN runs r ON r.id = u.run AND r.state || '' = 'queued'
LEFT JOIN run_data d ON d.run_id = r.id
ORDER BY o.id, u.place
";

const LOCK_DUE: &str = concat!(
    locked_columns!(),
    " WHERE r.state = 'scheduled' AND r.run_at <= now()
      ORDER BY r.run_at LIMIT $1 FOR UPDATE OF r SKIP LOCKED"
);

const LOCK_LOST: &str = concat!(
    locked_columns!(),
    " WHERE r.state = 'running' AND r.lease_until < now()
      ORDER BY r.lease_until LIMIT $1 FOR UPDATE OF r SKIP LOCKED"
);

const LOCK_LATE: &str = concat!(
    locked_columns!(),
    " WHERE r.expires_at IS NOT NULL AND r.started_at IS NULL AND r.expires_at <= now()
      AND r.state IN ('scheduled', 'blocked', 'queued')
      ORDER BY r.expires_at LIMIT $1 FOR UPDATE OF r SKIP LOCKED"
);

const LOCK_UNPUBLISHED: &str = concat!(
    locked_columns!(),
    " WHERE r.state = 'queued' AND r.queue = $2 AND r.published_at <= now() - make_interval(secs => $3)
      ORDER BY r.priority, r.queued_at, r.id LIMIT $1 FOR UPDATE OF r SKIP LOCKED"
);

const BACKLOG: &str = "
SELECT queue, priority, 'queued' AS state, count(*) AS runs, min(queued_at) AS oldest
FROM runs WHERE state = 'queued' GROUP BY queue, priority
UNION ALL
SELECT queue, priority, 'running', count(*), NULL FROM runs WHERE state = 'running' GROUP BY queue, priority
UNION ALL
SELECT queue, priority, 'scheduled', count(*), NULL FROM runs WHERE state = 'scheduled' GROUP BY queue, priority
";

fn rows(limit: u32) -> i64 {
    i64::from(limit.min(UPKEEP_LIMIT))
}

impl Postgres {
    async fn promote_once(&self, limit: u32) -> Result<(u32, Option<OutboxRow>), Error> {
        let mut tx = self.begin().await?;
        let mut due = lock(&mut tx, sqlx::query_as(LOCK_DUE).bind(rows(limit))).await?;
        let mut batch = Batch::default();
        for run in &mut due {
            batch.promote(run)?;
        }
        let outbox = apply(&mut tx, &batch).await?;
        tx.commit().await?;
        Ok((u32::try_from(batch.updates.len()).unwrap_or(u32::MAX), outbox))
    }

    async fn reap_once(&self, limit: u32) -> Result<(Vec<RunEvent>, Option<OutboxRow>), Error> {
        let mut tx = self.begin().await?;
        let mut lost = lock(&mut tx, sqlx::query_as(LOCK_LOST).bind(rows(limit))).await?;
        let (mut batch, mut events) = (Batch::default(), Vec::new());
        for run in &mut lost {
            events.extend(batch.reap(run)?);
        }
        let outbox = apply(&mut tx, &batch).await?;
        tx.commit().await?;
        Ok((events, outbox))
    }

    async fn expire_once(&self, limit: u32) -> Result<Vec<RunEvent>, Error> {
        let mut tx = self.begin().await?;
        let mut late = lock(&mut tx, sqlx::query_as(LOCK_LATE).bind(rows(limit))).await?;
        let (mut batch, mut events) = (Batch::default(), Vec::new());
        for run in &mut late {
            events.extend(batch.expire(run)?.unwrap_or_default());
        }
        apply(&mut tx, &batch).await?;
        tx.commit().await?;
        Ok(events)
    }

    async fn republish_once(
        &self,
        pool: &Pool,
        age: Duration,
        limit: u32,
    ) -> Result<Option<OutboxRow>, Error> {
        let mut tx = self.begin().await?;
        let query = sqlx::query_as(LOCK_UNPUBLISHED)
            .bind(rows(limit))
            .bind(pool.to_string())
            .bind(age.as_secs_f64());
        let waiting = lock(&mut tx, query).await?;
        let batch = Batch {
            envelopes: waiting
                .iter()
                .map(|run| envelope(&run.pool, run.priority, run.id, run.trace.as_ref()))
                .collect(),
            ..Batch::default()
        };
        let outbox = apply(&mut tx, &batch).await?;
        sqlx::query("UPDATE runs SET published_at = now() WHERE id = ANY($1) AND state || '' = 'queued'")
            .bind(waiting.iter().map(|run| Id::from(run.id)).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(outbox)
    }

    async fn leftover_once(&self, age: Duration, limit: u32) -> Result<Vec<OutboxRow>, Error> {
        let found: Vec<LeftoverRow> = sqlx::query_as(LEFTOVER)
            .bind(age.as_secs_f64())
            .bind(rows(limit))
            .fetch_all(&self.pool)
            .await?;
        row::leftover(found)
    }
}

#[async_trait]
impl Upkeep for Postgres {
    async fn outbox_done(&self, ids: &[i64]) -> PortResult<()> {
        attempt("outbox_done", Repeat::Idempotent, || async {
            sqlx::query("DELETE FROM outbox WHERE id = ANY($1)")
                .bind(ids)
                .execute(&self.pool)
                .await?;
            Ok(())
        })
        .await
    }

    async fn outbox_leftover(&self, age: Duration, limit: u32) -> PortResult<Vec<OutboxRow>> {
        attempt("outbox_leftover", Repeat::Idempotent, || {
            self.leftover_once(age, limit)
        })
        .await
    }

    async fn promote_due(&self, limit: u32) -> PortResult<(u32, Option<OutboxRow>)> {
        attempt("promote_due", Repeat::Idempotent, || self.promote_once(limit)).await
    }

    async fn next_due(&self) -> PortResult<Option<Timestamp>> {
        attempt("next_due", Repeat::Idempotent, || async {
            let due: Option<Time> =
                sqlx::query_scalar("SELECT min(run_at) FROM runs WHERE state = 'scheduled'")
                    .fetch_one(&self.pool)
                    .await?;
            Ok(due.map(Time::stamp))
        })
        .await
    }

    async fn reap(&self, limit: u32) -> PortResult<(Vec<RunEvent>, Option<OutboxRow>)> {
        attempt("reap", Repeat::Idempotent, || self.reap_once(limit)).await
    }

    async fn expire(&self, limit: u32) -> PortResult<Vec<RunEvent>> {
        attempt("expire", Repeat::Idempotent, || self.expire_once(limit)).await
    }

    async fn republish(&self, pool: &Pool, age: Duration, limit: u32) -> PortResult<Option<OutboxRow>> {
        attempt("republish", Repeat::Idempotent, || {
            self.republish_once(pool, age, limit)
        })
        .await
    }

    async fn backlog(&self) -> PortResult<Vec<Backlog>> {
        attempt("backlog", Repeat::Idempotent, || async {
            let found: Vec<BacklogRow> = sqlx::query_as(BACKLOG).fetch_all(&self.pool).await?;
            row::backlog(found)
        })
        .await
    }

    async fn lead(&self, role: &str) -> PortResult<Option<Box<dyn Leadership>>> {
        attempt("lead", Repeat::Idempotent, || async {
            let leader = Leader::elect(&self.options, role, leader::SILENT).await?;
            Ok(leader.map(|leader| Box::new(leader) as Box<dyn Leadership>))
        })
        .await
    }

    async fn migrate(&self) -> PortResult<u32> {
        self.migrate_once()
            .await
            .map_err(|error| error.into_port("migrate"))
    }
}
