//! Runs as workers see them: under a lease, in batches.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::port::{Claim, Fenced, LeaseStore, OutboxRow, Renewal, Result as PortResult};
use flowfleet_core::run::{Finish, Progress, Release};
use flowfleet_core::{Capabilities, Lease, RunId, WorkerId};
use sqlx::{Postgres as Pg, Transaction};

use super::Postgres;
use super::write::{LOCK, apply, lock};
use crate::batch::{Batch, long};
use crate::change::Locked;
use crate::error::{Error, Repeat, attempt};
use crate::leased;
use crate::row::ClaimRow;
use crate::value::Id;

/// One statement, one round trip. Rows are locked in the order of ids and waited for: skipping a locked row
/// would spend its message although the run may still be queued when the other transaction is over. The states
/// are compared as the module `write` explains. `(SELECT $1)` keeps the planner from counting the ids: it would think a
/// plan made for a single one so good that it makes one at every call, which takes longer than the call itself.
const CLAIM: &str = "
WITH wanted AS MATERIALIZED (
    SELECT id FROM runs
    WHERE id = ANY((SELECT $1::uuid[])::uuid[]) AND state || '' = 'queued'
      AND (expires_at IS NULL OR expires_at > now() OR started_at IS NOT NULL)
      AND coalesce(nullif(split_part(queue, ':', 2), ''), 'native') = ANY($4)
    ORDER BY id FOR UPDATE
), claimed AS (
    UPDATE runs r SET
        state = 'running', worker = $2, epoch = r.epoch + 1, attempt = r.failures + 1,
        lease_until = now() + make_interval(secs => $3), attempt_started_at = now(),
        started_at = coalesce(r.started_at, now()), last_seq = r.last_seq + 1, started_seq = r.last_seq + 1
    FROM wanted w WHERE r.id = w.id AND r.state || '' = 'queued'
    RETURNING r.*
)
SELECT c.id, c.tenant, c.flow_name, c.flow_version, d.flow_digest, c.queue, c.priority, c.attempt, c.epoch,
    c.interruptions, c.last_seq, c.queued_at, d.settings, d.session_id, d.trace, d.input,
    CASE WHEN c.epoch > 1 THEN (
        SELECT json_agg(json_build_array(k.node, k.output) ORDER BY k.node)::text
        FROM checkpoints k WHERE k.run_id = c.id
    ) END AS checkpoints
FROM claimed c JOIN run_data d ON d.run_id = c.id
";

const RENEW: &str = "
WITH held AS MATERIALIZED (
    SELECT r.id FROM runs r
    JOIN (SELECT DISTINCT * FROM unnest($1::uuid[], $2::bigint[]) AS l (id, epoch)) l
      ON r.id = l.id AND r.epoch = l.epoch
    WHERE r.state || '' = 'running' AND r.worker = $3
    ORDER BY r.id FOR UPDATE OF r
)
UPDATE runs r SET lease_until = now() + make_interval(secs => $4)
FROM held h WHERE r.id = h.id AND r.state || '' = 'running'
RETURNING r.id, r.epoch, r.cancel_requested
";

impl Postgres {
    async fn claim_once(
        &self,
        worker: WorkerId,
        can: &Capabilities,
        runs: &[RunId],
        ttl: Duration,
    ) -> Result<Vec<Claim>, Error> {
        let rows: Vec<ClaimRow> = sqlx::query_as(CLAIM)
            .bind(runs.iter().map(|&r| Id::from(r)).collect::<Vec<_>>())
            .bind(Id::from(worker))
            .bind(ttl.as_secs_f64())
            .bind(can.iter().map(ToString::to_string).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await?;
        leased::claims(runs, rows)
    }

    async fn renew_once(
        &self,
        worker: WorkerId,
        leases: &[Lease],
        ttl: Duration,
    ) -> Result<Vec<Renewal>, Error> {
        let rows: Vec<(Id, i64, bool)> = sqlx::query_as(RENEW)
            .bind(leases.iter().map(|l| Id::from(l.run)).collect::<Vec<_>>())
            .bind(leases.iter().map(|l| long(l.epoch)).collect::<Vec<_>>())
            .bind(Id::from(worker))
            .bind(ttl.as_secs_f64())
            .fetch_all(&self.pool)
            .await?;
        Ok(leased::renewals(leases, rows))
    }

    /// Begins a transaction that holds the running ones of these runs.
    async fn hold(
        &self,
        runs: impl Iterator<Item = RunId> + Send,
    ) -> Result<(Transaction<'static, Pg>, HashMap<RunId, Locked>), Error> {
        let ids: Vec<_> = runs.map(Id::from).collect();
        let mut tx = self.begin().await?;
        let held = lock(&mut tx, sqlx::query_as(LOCK).bind(ids)).await?;
        Ok((tx, held.into_iter().map(|run| (run.id, run)).collect()))
    }

    async fn checkpoint_once(&self, progress: &[Progress]) -> Result<Vec<Fenced>, Error> {
        if let Some(answers) = self.checkpoint_known(progress).await? {
            return Ok(answers);
        }
        let (mut tx, mut held) = self.hold(progress.iter().map(|p| p.lease.run)).await?;
        let mut batch = Batch::default();
        let answers = leased::fence(
            &mut held,
            progress,
            |p| p.lease,
            |run, p| batch.checkpoint(run, p),
        )?;
        apply(&mut tx, &batch).await?;
        tx.commit().await?;
        Ok(answers)
    }

    async fn finish_once(&self, runs: &[Finish]) -> Result<Vec<Fenced>, Error> {
        let known = self.finish_known(runs).await?;
        let others: Vec<_> = runs
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(finish, _)| finish)
            .collect();
        if others.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        let (mut tx, mut held) = self.hold(others.iter().map(|f| f.lease.run)).await?;
        let mut batch = Batch::default();
        let decided = leased::fence(&mut held, &others, |f| f.lease, |run, f| batch.finish(run, f))?;
        apply(&mut tx, &batch).await?;
        tx.commit().await?;
        let mut decided = decided.into_iter();
        Ok(known
            .into_iter()
            .filter_map(|known| known.or_else(|| decided.next()))
            .collect())
    }

    async fn release_once(&self, runs: &[Release]) -> Result<(Vec<Fenced>, Option<OutboxRow>), Error> {
        let (mut tx, mut held) = self.hold(runs.iter().map(|r| r.lease.run)).await?;
        let mut batch = Batch::default();
        let answers = leased::fence(&mut held, runs, |r| r.lease, |run, r| batch.release(run, r))?;
        let outbox = apply(&mut tx, &batch).await?;
        tx.commit().await?;
        Ok((answers, outbox))
    }
}

#[async_trait]
impl LeaseStore for Postgres {
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
