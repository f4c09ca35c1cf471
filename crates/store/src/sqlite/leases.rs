//! Runs as workers see them: under a lease, in batches.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::clock::later;
use flowfleet_core::port::{Claim, Fenced, LeaseStore, OutboxRow, Renewal, Result as PortResult};
use flowfleet_core::run::{Finish, Progress, Release};
use flowfleet_core::{Capabilities, Lease, RunId, WorkerId};
use sqlx::{Sqlite as Lite, Transaction};

use super::Sqlite;
use super::write::{LOCK, apply, lock};
use crate::batch::Batch;
use crate::change::Locked;
use crate::error::{Error, Repeat, attempt};
use crate::leased;
use crate::row::ClaimRow;
use crate::value::{Id, Time};

pub(super) const CLAIM: &str = "
UPDATE runs SET
    state = 'running', worker = ?2, epoch = epoch + 1, attempt = failures + 1, lease_until = ?3,
    attempt_started_at = ?1, started_at = coalesce(started_at, ?1), last_seq = last_seq + 1,
    started_seq = last_seq + 1
WHERE id IN (SELECT value FROM json_each(?4)) AND state = 'queued'
  AND (expires_at IS NULL OR expires_at > ?1 OR started_at IS NOT NULL)
  AND CASE instr(queue, ':') WHEN 0 THEN 'native' ELSE substr(queue, instr(queue, ':') + 1) END
      IN (SELECT value FROM json_each(?5))
RETURNING id
";

pub(super) const CLAIMED: &str = "
SELECT c.id, c.tenant, c.flow_name, c.flow_version, d.flow_digest, c.queue, c.priority, c.attempt, c.epoch,
    c.interruptions, c.last_seq, c.queued_at, d.settings, d.session_id, d.trace, d.input,
    CASE WHEN c.epoch > 1 THEN (
        SELECT json_group_array(json_array(k.node, k.output))
        FROM (SELECT node, output FROM checkpoints WHERE run_id = c.id ORDER BY node) k
    ) END AS checkpoints
FROM runs c JOIN run_data d ON d.run_id = c.id
WHERE c.id IN (SELECT value FROM json_each(?1))
";

pub(super) const RENEW: &str = "
UPDATE runs SET lease_until = ?1
FROM (SELECT value ->> 'run' AS run, value ->> 'epoch' AS held FROM json_each(?3)) AS l
WHERE id = l.run AND epoch = l.held AND state = 'running' AND worker = ?2
RETURNING id, epoch, cancel_requested
";

impl Sqlite {
    async fn claim_once(
        &self,
        worker: WorkerId,
        can: &Capabilities,
        runs: &[RunId],
        ttl: Duration,
    ) -> Result<Vec<Claim>, Error> {
        let mut tx = self.begin().await?;
        let now = Time::now();
        let ids: Vec<(Id,)> = sqlx::query_as(CLAIM)
            .bind(now)
            .bind(Id::from(worker))
            .bind(Time::from(later(now.stamp(), ttl)))
            .bind(serde_json::to_string(runs)?)
            .bind(serde_json::to_string(can)?)
            .fetch_all(&mut *tx)
            .await?;
        if ids.is_empty() {
            return leased::claims(runs, Vec::new());
        }
        let ids = serde_json::to_string(&ids.into_iter().map(|(id,)| id).collect::<Vec<_>>())?;
        let rows: Vec<ClaimRow> = sqlx::query_as(CLAIMED).bind(&ids).fetch_all(&mut *tx).await?;
        let claims = leased::claims(runs, rows)?;
        tx.commit().await?;
        Ok(claims)
    }

    async fn renew_once(
        &self,
        worker: WorkerId,
        leases: &[Lease],
        ttl: Duration,
    ) -> Result<Vec<Renewal>, Error> {
        let rows: Vec<(Id, i64, bool)> = sqlx::query_as(RENEW)
            .bind(Time::from(later(Time::now().stamp(), ttl)))
            .bind(Id::from(worker))
            .bind(serde_json::to_string(leases)?)
            .fetch_all(&self.writer)
            .await?;
        Ok(leased::renewals(leases, rows))
    }

    /// Begins a transaction and reads the running ones of these runs.
    async fn hold(&self, runs: Vec<RunId>) -> Result<Held, Error> {
        let mut tx = self.begin().await?;
        let now = Time::now();
        let query = sqlx::query_as(LOCK).bind(now).bind(serde_json::to_string(&runs)?);
        let runs = lock(&mut tx, query).await?;
        Ok(Held {
            tx,
            now,
            runs: runs.into_iter().map(|run| (run.id, run)).collect(),
        })
    }

    async fn checkpoint_once(&self, progress: &[Progress]) -> Result<Vec<Fenced>, Error> {
        let mut held = self.hold(progress.iter().map(|p| p.lease.run).collect()).await?;
        let mut batch = Batch::default();
        let answers = leased::fence(
            &mut held.runs,
            progress,
            |p| p.lease,
            |run, p| batch.checkpoint(run, p),
        )?;
        held.commit(&batch).await?;
        Ok(answers)
    }

    async fn finish_once(&self, runs: &[Finish]) -> Result<Vec<Fenced>, Error> {
        let mut held = self.hold(runs.iter().map(|f| f.lease.run).collect()).await?;
        let mut batch = Batch::default();
        let answers = leased::fence(&mut held.runs, runs, |f| f.lease, |run, f| batch.finish(run, f))?;
        held.commit(&batch).await?;
        Ok(answers)
    }

    async fn release_once(&self, runs: &[Release]) -> Result<(Vec<Fenced>, Option<OutboxRow>), Error> {
        let mut held = self.hold(runs.iter().map(|r| r.lease.run).collect()).await?;
        let mut batch = Batch::default();
        let answers = leased::fence(&mut held.runs, runs, |r| r.lease, |run, r| batch.release(run, r))?;
        let outbox = held.commit(&batch).await?;
        Ok((answers, outbox))
    }
}

/// A transaction and the running runs it may write.
struct Held {
    tx: Transaction<'static, Lite>,
    now: Time,
    runs: HashMap<RunId, Locked>,
}

impl Held {
    async fn commit(mut self, batch: &Batch) -> Result<Option<OutboxRow>, Error> {
        let outbox = apply(&mut self.tx, batch, self.now).await?;
        self.tx.commit().await?;
        Ok(outbox)
    }
}

#[async_trait]
impl LeaseStore for Sqlite {
    async fn claim(
        &self,
        worker: WorkerId,
        can: &Capabilities,
        runs: &[RunId],
        ttl: Duration,
    ) -> PortResult<Vec<Claim>> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        attempt("claim", Repeat::Once, || self.claim_once(worker, can, runs, ttl)).await
    }

    async fn renew(&self, worker: WorkerId, leases: &[Lease], ttl: Duration) -> PortResult<Vec<Renewal>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        attempt("renew", Repeat::Idempotent, || {
            self.renew_once(worker, leases, ttl)
        })
        .await
    }

    async fn checkpoint(&self, progress: &[Progress]) -> PortResult<Vec<Fenced>> {
        if progress.is_empty() {
            return Ok(Vec::new());
        }
        attempt("checkpoint", Repeat::Idempotent, || {
            self.checkpoint_once(progress)
        })
        .await
    }

    async fn finish(&self, runs: &[Finish]) -> PortResult<Vec<Fenced>> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        attempt("finish", Repeat::Once, || self.finish_once(runs)).await
    }

    async fn release(&self, runs: &[Release]) -> PortResult<(Vec<Fenced>, Option<OutboxRow>)> {
        if runs.is_empty() {
            return Ok((Vec::new(), None));
        }
        attempt("release", Repeat::Once, || self.release_once(runs)).await
    }
}
