//! Progress as it nearly always comes: every lease of the batch holds, and nothing was written after what the worker
//! knows. Then one statement does it all, and otherwise nothing: the batch goes the long way.

use std::collections::HashSet;

use flowfleet_core::port::Fenced;
use flowfleet_core::run::Progress;

use super::Postgres;
use super::write::column;
use crate::batch::{Batch, int, long};
use crate::error::Error;
use crate::events;
use crate::value::Id;

/// Rows are locked in the order of the arrays, which is that of ids, and their states compared, as the module `write`
/// explains; the rest is as in the statement that finishes runs.
const PROGRESS: &str = "
WITH held AS MATERIALIZED (
    SELECT r.id, i.last_seq, i.count, i.events
    FROM unnest((SELECT $1::uuid[]), $2::bigint[], $3::bigint[], $4::integer[], $5::text[]) AS i (
        id, epoch, last_seq, count, events
    ) CROSS JOIN LATERAL (
        SELECT id FROM runs
        WHERE id = i.id AND epoch = i.epoch AND last_seq = i.last_seq AND state || '' = 'running'
        FOR UPDATE
    ) r
), all_held AS MATERIALIZED (
    SELECT count(*) = cardinality($1) AS yes FROM held
), appended AS (
    INSERT INTO run_events (run_id, first_seq, count, events)
    SELECT id, last_seq + 1, count, events FROM held WHERE (SELECT yes FROM all_held) AND count > 0
), kept AS (
    INSERT INTO checkpoints (run_id, node, output)
    SELECT * FROM unnest($6::uuid[], $7::text[], $8::text[]) WHERE (SELECT yes FROM all_held)
    ON CONFLICT (run_id, node) DO UPDATE SET output = excluded.output
), advanced AS (
    UPDATE runs r SET last_seq = h.last_seq + h.count
    FROM held h WHERE r.id = h.id AND (SELECT yes FROM all_held) AND h.count > 0
)
SELECT yes FROM all_held
";

impl Postgres {
    /// Writes all of it or, with `None`, nothing.
    pub(super) async fn checkpoint_known(&self, progress: &[Progress]) -> Result<Option<Vec<Fenced>>, Error> {
        let mut seen = HashSet::new();
        if !progress.iter().all(|p| seen.insert(p.lease.run)) {
            return Ok(None);
        }
        let mut batch = Batch::default();
        let mut applied = Vec::with_capacity(progress.len());
        let mut rows = Vec::with_capacity(progress.len());
        for p in progress {
            batch.keep(p.lease.run, &p.nodes)?;
            let events = events::sequence(p.lease.run, p.after_seq, p.events.clone());
            rows.push((p, events::to_text(&events)?));
            applied.push(Fenced::Applied { events });
        }
        rows.sort_unstable_by_key(|(p, _)| p.lease.run);
        let nodes = batch.distinct_checkpoints();
        let written: bool = sqlx::query_scalar(PROGRESS)
            .bind(column(&rows, |(p, _)| Id::from(p.lease.run)))
            .bind(column(&rows, |(p, _)| long(p.lease.epoch)))
            .bind(column(&rows, |(p, _)| long(p.after_seq)))
            .bind(column(&rows, |(p, _)| int(p.events.len())))
            .bind(column(&rows, |(_, events)| events.as_str()))
            .bind(column(&nodes, |c| c.run))
            .bind(column(&nodes, |c| c.node.as_str()))
            .bind(column(&nodes, |c| c.output.as_str()))
            .fetch_one(&self.pool)
            .await?;
        Ok(written.then_some(applied))
    }
}
