//! Locking runs and carrying a [`Batch`] out.
//!
//! Whoever waits for row locks takes them in the order of ids; whoever takes them in another order skips rows
//! that are locked. So no two transactions wait for each other in a circle.
//!
//! Statements that name their runs compare `state || ''`: with `state` alone the planner may take the index of
//! live runs instead of the primary key when its statistics are from an idle hour, and then reads a million
//! queued runs to find the one it was given.

use flowfleet_core::port::OutboxRow;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{PgConnection, Postgres as Pg};

use crate::batch::Batch;
use crate::change::Locked;
use crate::error::Error;
use crate::row::LockedRow;
use crate::value::{Id, Time};

macro_rules! locked_columns {
    () => {
        "SELECT r.id, r.state, r.epoch, r.attempt, r.failures, r.interruptions, r.last_seq, r.started_seq,
            r.cancel_requested, r.queue, r.priority, r.worker, r.attempt_started_at, d.trace, now() AS now
         FROM runs r JOIN run_data d ON d.run_id = r.id"
    };
}
pub(super) use locked_columns;

pub(super) const LOCK: &str = concat!(
    locked_columns!(),
    " WHERE r.id = ANY($1) AND r.state || '' = 'running' ORDER BY r.id FOR UPDATE OF r"
);

const APPLY: &str = "
WITH change AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::bigint[],
        $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::bigint[]
    ) AS c (
        id, from_state, epoch, state, failures, interruptions, last_seq, queued_at, run_at, finished_at,
        input_tokens, output_tokens
    )
), updated AS (
    UPDATE runs r SET
        state = c.state, failures = c.failures, interruptions = c.interruptions, last_seq = c.last_seq,
        worker = NULL, lease_until = NULL, attempt_started_at = NULL,
        queued_at = coalesce(c.queued_at, r.queued_at), published_at = coalesce(c.queued_at, r.published_at),
        run_at = coalesce(c.run_at, r.run_at), finished_at = c.finished_at,
        input_tokens = r.input_tokens + c.input_tokens, output_tokens = r.output_tokens + c.output_tokens
    FROM change c
    WHERE r.id = c.id AND r.state = c.from_state AND r.epoch = c.epoch
    RETURNING r.id
), appended AS (
    INSERT INTO run_events (run_id, first_seq, count, events)
    SELECT * FROM unnest($13::uuid[], $14::bigint[], $15::integer[], $16::text[])
), ended AS (
    INSERT INTO run_attempts (
        run_id, epoch, attempt, worker, started_at, started_seq, ended_at, ended_because, nodes_reused, error,
        first_seq, count, events, output, outputs
    )
    SELECT * FROM unnest(
        $17::uuid[], $18::bigint[], $19::integer[], $20::uuid[], $21::timestamptz[], $22::bigint[],
        $23::timestamptz[], $24::text[], $25::integer[], $26::text[], $27::bigint[], $28::integer[], $29::text[],
        $30::text[], $31::text[]
    )
), dropped AS (
    DELETE FROM checkpoints WHERE run_id = ANY($32)
)
SELECT count(*) FROM updated
";

const APPEND: &str = "
WITH appended AS (
    INSERT INTO run_events (run_id, first_seq, count, events)
    SELECT * FROM unnest($4::uuid[], $5::bigint[], $6::integer[], $7::text[])
), updated AS (
    UPDATE runs r SET last_seq = c.last_seq
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS c (id, epoch, last_seq)
    WHERE r.id = c.id AND r.state || '' = 'running' AND r.epoch = c.epoch
    RETURNING r.id
)
SELECT count(*) FROM updated
";

const CHECKPOINT: &str = "
INSERT INTO checkpoints (run_id, node, output)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
ON CONFLICT (run_id, node) DO UPDATE SET output = excluded.output
";

const OUTBOX: &str = "INSERT INTO outbox (created_at, runs) VALUES (now(), $1) RETURNING id";

/// Runs a query of [`locked_columns!`] that locks what it finds.
pub(super) async fn lock(
    connection: &mut PgConnection,
    query: QueryAs<'_, Pg, LockedRow, PgArguments>,
) -> Result<Vec<Locked>, Error> {
    let rows = query.fetch_all(connection).await?;
    rows.into_iter().map(LockedRow::locked).collect()
}

pub(super) fn column<'a, R, T>(rows: &'a [R], of: impl FnMut(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

fn all_written(written: i64, wanted: usize) -> Result<(), Error> {
    if usize::try_from(written) == Ok(wanted) {
        return Ok(());
    }
    Err(Error::Data(format!(
        "{written} of {wanted} locked runs were written"
    )))
}

/// Carries a batch out. The runs it names are locked by this transaction.
pub(super) async fn apply(connection: &mut PgConnection, batch: &Batch) -> Result<Option<OutboxRow>, Error> {
    if !batch.updates.is_empty() {
        transitions(connection, batch).await?;
    } else if !batch.appends.is_empty() {
        appends(connection, batch).await?;
    }
    let checkpoints = batch.distinct_checkpoints();
    if !checkpoints.is_empty() {
        sqlx::query(CHECKPOINT)
            .bind(column(&checkpoints, |c| c.run))
            .bind(column(&checkpoints, |c| c.node.as_str()))
            .bind(column(&checkpoints, |c| c.output.as_str()))
            .execute(&mut *connection)
            .await?;
    }
    if batch.envelopes.is_empty() {
        return Ok(None);
    }
    let id = sqlx::query_scalar(OUTBOX)
        .bind(column(&batch.envelopes, |e| Id::from(e.message.run)))
        .fetch_one(connection)
        .await?;
    Ok(Some(OutboxRow {
        id,
        envelopes: batch.envelopes.clone(),
    }))
}

async fn transitions(connection: &mut PgConnection, batch: &Batch) -> Result<(), Error> {
    let (runs, events) = (&batch.updates, &batch.events);
    let attempts = &batch.attempts;
    let written: i64 = sqlx::query_scalar(APPLY)
        .bind(column(runs, |r| r.id))
        .bind(column(runs, |r| r.from_state))
        .bind(column(runs, |r| r.epoch))
        .bind(column(runs, |r| r.state))
        .bind(column(runs, |r| r.failures))
        .bind(column(runs, |r| r.interruptions))
        .bind(column(runs, |r| r.last_seq))
        .bind(column::<_, Option<Time>>(runs, |r| r.queued_at))
        .bind(column::<_, Option<Time>>(runs, |r| r.run_at))
        .bind(column::<_, Option<Time>>(runs, |r| r.finished_at))
        .bind(column(runs, |r| r.input_tokens))
        .bind(column(runs, |r| r.output_tokens))
        .bind(column(events, |e| e.run))
        .bind(column(events, |e| e.first_seq))
        .bind(column(events, |e| e.count))
        .bind(column(events, |e| e.events.as_str()))
        .bind(column(attempts, |a| a.run))
        .bind(column(attempts, |a| a.epoch))
        .bind(column(attempts, |a| a.attempt))
        .bind(column(attempts, |a| a.worker))
        .bind(column(attempts, |a| a.started_at))
        .bind(column(attempts, |a| a.started_seq))
        .bind(column(attempts, |a| a.ended_at))
        .bind(column(attempts, |a| a.ended_because))
        .bind(column(attempts, |a| a.nodes_reused))
        .bind(column(attempts, |a| a.error.as_deref()))
        .bind(column(attempts, |a| a.first_seq))
        .bind(column(attempts, |a| a.count))
        .bind(column(attempts, |a| a.events.as_str()))
        .bind(column(attempts, |a| a.output.as_deref()))
        .bind(column(attempts, |a| a.outputs.as_deref()))
        .bind(column::<_, Id>(&batch.ended, |id| *id))
        .fetch_one(connection)
        .await?;
    all_written(written, runs.len())
}

async fn appends(connection: &mut PgConnection, batch: &Batch) -> Result<(), Error> {
    let runs: Vec<_> = batch.appends.values().collect();
    let events = &batch.events;
    let written: i64 = sqlx::query_scalar(APPEND)
        .bind(column(&runs, |r| r.id))
        .bind(column(&runs, |r| r.epoch))
        .bind(column(&runs, |r| r.last_seq))
        .bind(column(events, |e| e.run))
        .bind(column(events, |e| e.first_seq))
        .bind(column(events, |e| e.count))
        .bind(column(events, |e| e.events.as_str()))
        .fetch_one(connection)
        .await?;
    all_written(written, runs.len())
}
