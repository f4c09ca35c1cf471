//! What the leader does for all tenants.

use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::port::{Backlog, Leadership, OutboxRow, Result as PortResult, Upkeep};
use flowfleet_core::{Pool, RunEvent};
use jiff::Timestamp;

use super::Sqlite;
use super::write::{apply, lock, locked_columns, outbox};
use crate::UPKEEP_LIMIT;
use crate::batch::Batch;
use crate::change::envelope;
use crate::error::{Error, Repeat, attempt};
use crate::row::{self, BacklogRow, LeftoverRow};
use crate::value::Time;

const LEFTOVER: &str = "
SELECT o.id AS outbox, r.id AS run, r.queue, r.priority, d.trace
FROM (SELECT id, runs FROM outbox WHERE created_at <= ?1 ORDER BY id LIMIT ?2) o
LEFT JOIN json_each(o.runs) u
LEFT JOIN runs r ON r.id = u.value AND r.state = 'queued'
LEFT JOIN run_data d ON d.run_id = r.id
ORDER BY o.id, u.key
";

pub(super) const LOCK_DUE: &str = concat!(
    locked_columns!(),
    " WHERE r.state = 'scheduled' AND r.run_at <= ?1 ORDER BY r.run_at LIMIT ?2"
);

pub(super) const LOCK_LOST: &str = concat!(
    locked_columns!(),
    " WHERE r.state = 'running' AND r.lease_until < ?1 ORDER BY r.lease_until LIMIT ?2"
);

pub(super) const LOCK_LATE: &str = concat!(
    locked_columns!(),
    " WHERE r.expires_at IS NOT NULL AND r.started_at IS NULL AND r.expires_at <= ?1
      AND r.state IN ('scheduled', 'blocked', 'queued')
      ORDER BY r.expires_at LIMIT ?2"
);

pub(super) const LOCK_UNPUBLISHED: &str = concat!(
    locked_columns!(),
    " WHERE r.state = 'queued' AND r.queue = ?3 AND r.published_at <= ?4
      ORDER BY r.priority, r.queued_at, r.id LIMIT ?2"
);

pub(super) const BACKLOG: &str = "
SELECT queue, priority, 'queued' AS state, count(*) AS runs, min(queued_at) AS oldest
FROM runs WHERE state = 'queued' GROUP BY queue, priority
UNION ALL
SELECT queue, priority, 'running', count(*), NULL FROM runs WHERE state = 'running' GROUP BY queue, priority
UNION ALL
SELECT queue, priority, 'scheduled', count(*), NULL FROM runs WHERE state = 'scheduled' GROUP BY queue, priority
";

pub(super) const REPUBLISHED: &str = "
UPDATE runs SET published_at = ?1 WHERE id IN (SELECT value FROM json_each(?2)) AND state = 'queued'
";

/// The moment `age` before `now`.
pub(super) fn before(now: Time, age: Duration) -> Time {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Time(now.0.saturating_sub(micros))
}

fn rows(limit: u32) -> i64 {
    i64::from(limit.min(UPKEEP_LIMIT))
}

impl Sqlite {
    async fn promote_once(&self, limit: u32) -> Result<(u32, Option<OutboxRow>), Error> {
        let mut tx = self.begin().await?;
        let now = Time::now();
        let mut due = lock(&mut tx, sqlx::query_as(LOCK_DUE).bind(now).bind(rows(limit))).await?;
        let mut batch = Batch::default();
        for run in &mut due {
            batch.promote(run)?;
        }
        let outbox = apply(&mut tx, &batch, now).await?;
        tx.commit().await?;
        Ok((u32::try_from(batch.updates.len()).unwrap_or(u32::MAX), outbox))
    }

    async fn reap_once(&self, limit: u32) -> Result<(Vec<RunEvent>, Option<OutboxRow>), Error> {
        let mut tx = self.begin().await?;
        let now = Time::now();
        let mut lost = lock(&mut tx, sqlx::query_as(LOCK_LOST).bind(now).bind(rows(limit))).await?;
        let (mut batch, mut events) = (Batch::default(), Vec::new());
        for run in &mut lost {
            events.extend(batch.reap(run)?);
        }
        let outbox = apply(&mut tx, &batch, now).await?;
        tx.commit().await?;
        Ok((events, outbox))
    }

    async fn expire_once(&self, limit: u32) -> Result<Vec<RunEvent>, Error> {
        let mut tx = self.begin().await?;
        let now = Time::now();
        let mut late = lock(&mut tx, sqlx::query_as(LOCK_LATE).bind(now).bind(rows(limit))).await?;
        let (mut batch, mut events) = (Batch::default(), Vec::new());
        for run in &mut late {
            events.extend(batch.expire(run)?.unwrap_or_default());
        }
        apply(&mut tx, &batch, now).await?;
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
        let now = Time::now();
        let query = sqlx::query_as(LOCK_UNPUBLISHED)
            .bind(now)
            .bind(rows(limit))
            .bind(pool.to_string())
            .bind(before(now, age));
        let waiting = lock(&mut tx, query).await?;
        let envelopes = waiting
            .iter()
            .map(|run| envelope(&run.pool, run.priority, run.id, run.trace.as_ref()))
            .collect();
        let outbox = outbox(&mut tx, envelopes, now).await?;
        let ids: Vec<_> = waiting.iter().map(|run| run.id).collect();
        sqlx::query(REPUBLISHED)
            .bind(now)
            .bind(serde_json::to_string(&ids)?)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(outbox)
    }

    async fn leftover_once(&self, age: Duration, limit: u32) -> Result<Vec<OutboxRow>, Error> {
        let found: Vec<LeftoverRow> = sqlx::query_as(LEFTOVER)
            .bind(before(Time::now(), age))
            .bind(rows(limit))
            .fetch_all(&self.readers)
            .await?;
        row::leftover(found)
    }
}

#[async_trait]
impl Upkeep for Sqlite {
    async fn outbox_done(&self, ids: &[i64]) -> PortResult<()> {
        attempt("outbox_done", Repeat::Idempotent, || async {
            sqlx::query("DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?1))")
                .bind(serde_json::to_string(ids)?)
                .execute(&self.writer)
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
                    .fetch_one(&self.readers)
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
            let found: Vec<BacklogRow> = sqlx::query_as(BACKLOG).fetch_all(&self.readers).await?;
            row::backlog(found)
        })
        .await
    }

    async fn lead(&self, role: &str) -> PortResult<Option<Box<dyn Leadership>>> {
        let leader = self.leaders.elect(role);
        Ok(leader.map(|leader| Box::new(leader) as Box<dyn Leadership>))
    }

    async fn migrate(&self) -> PortResult<u32> {
        self.migrate_once()
            .await
            .map_err(|error| error.into_port("migrate"))
    }
}
