//! Reading runs within the writer's transaction and carrying a [`Batch`] out.

use flowfleet_core::port::OutboxRow;
use serde::Serialize;
use sqlx::query::QueryAs;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite as Lite, SqliteConnection};

use crate::batch::Batch;
use crate::change::Locked;
use crate::error::Error;
use crate::row::LockedRow;
use crate::value::Time;

/// `?1` is the time of the transaction.
macro_rules! locked_columns {
    () => {
        "SELECT r.id, r.state, r.epoch, r.attempt, r.failures, r.interruptions, r.last_seq, r.started_seq,
            r.cancel_requested, r.queue, r.priority, r.worker, r.attempt_started_at, d.trace, ?1 AS now
         FROM runs r JOIN run_data d ON d.run_id = r.id"
    };
}
pub(super) use locked_columns;

pub(super) const LOCK: &str = concat!(
    locked_columns!(),
    " WHERE r.id IN (SELECT value FROM json_each(?2)) AND r.state = 'running'"
);

pub(super) const UPDATE: &str = "
UPDATE runs AS r SET
    state = c.state, failures = c.failures, interruptions = c.interruptions, last_seq = c.last_seq,
    worker = NULL, lease_until = NULL, attempt_started_at = NULL,
    queued_at = coalesce(c.queued_at, r.queued_at), published_at = coalesce(c.queued_at, r.published_at),
    run_at = coalesce(c.run_at, r.run_at), finished_at = c.finished_at,
    input_tokens = r.input_tokens + c.input_tokens, output_tokens = r.output_tokens + c.output_tokens
FROM (
    SELECT value ->> 'id' AS id, value ->> 'from_state' AS from_state, value ->> 'epoch' AS epoch,
        value ->> 'state' AS state, value ->> 'failures' AS failures,
        value ->> 'interruptions' AS interruptions, value ->> 'last_seq' AS last_seq,
        value ->> 'queued_at' AS queued_at, value ->> 'run_at' AS run_at,
        value ->> 'finished_at' AS finished_at, value ->> 'input_tokens' AS input_tokens,
        value ->> 'output_tokens' AS output_tokens
    FROM json_each(?1)
) AS c
WHERE r.id = c.id AND r.state = c.from_state AND r.epoch = c.epoch
";

pub(super) const APPEND: &str = "
UPDATE runs AS r SET last_seq = c.last_seq
FROM (
    SELECT value ->> 'id' AS id, value ->> 'epoch' AS epoch, value ->> 'last_seq' AS last_seq
    FROM json_each(?1)
) AS c
WHERE r.id = c.id AND r.state = 'running' AND r.epoch = c.epoch
";

pub(super) const EVENTS: &str = "
INSERT INTO run_events (run_id, first_seq, count, events)
SELECT value ->> 'run', value ->> 'first_seq', value ->> 'count', value ->> 'events' FROM json_each(?1)
";

const ATTEMPTS: &str = "
INSERT INTO run_attempts (
    run_id, epoch, attempt, worker, started_at, started_seq, ended_at, ended_because, nodes_reused, error,
    first_seq, count, events, output, outputs
)
SELECT value ->> 'run', value ->> 'epoch', value ->> 'attempt', value ->> 'worker', value ->> 'started_at',
    value ->> 'started_seq', value ->> 'ended_at', value ->> 'ended_because', value ->> 'nodes_reused',
    value ->> 'error', value ->> 'first_seq', value ->> 'count', value ->> 'events', value ->> 'output',
    value ->> 'outputs'
FROM json_each(?1)
";

const CHECKPOINTS: &str = "
INSERT INTO checkpoints (run_id, node, output)
SELECT value ->> 'run', value ->> 'node', value ->> 'output' FROM json_each(?1) WHERE true
ON CONFLICT (run_id, node) DO UPDATE SET output = excluded.output
";

pub(super) const ENDED: &str = "DELETE FROM checkpoints WHERE run_id IN (SELECT value FROM json_each(?1))";

const OUTBOX: &str = "INSERT INTO outbox (created_at, runs) VALUES (?1, ?2) RETURNING id";

/// Runs a query of [`locked_columns!`]: the transaction is the only writer.
pub(super) async fn lock<'a>(
    connection: &mut SqliteConnection,
    query: QueryAs<'a, Lite, LockedRow, SqliteArguments<'a>>,
) -> Result<Vec<Locked>, Error> {
    let rows = query.fetch_all(connection).await?;
    rows.into_iter().map(LockedRow::locked).collect()
}

/// Runs a statement over rows that travel as one JSON text; answers how many rows it wrote.
pub(super) async fn each<T: Serialize + Sync>(
    connection: &mut SqliteConnection,
    statement: &'static str,
    rows: &[T],
) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(statement)
        .bind(serde_json::to_string(rows)?)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

fn all_written(written: u64, wanted: usize) -> Result<(), Error> {
    if usize::try_from(written) == Ok(wanted) {
        return Ok(());
    }
    Err(Error::Data(format!("{written} of {wanted} runs were written")))
}

/// Carries a batch out.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    batch: &Batch,
    now: Time,
) -> Result<Option<OutboxRow>, Error> {
    let updated = each(connection, UPDATE, &batch.updates).await?;
    all_written(updated, batch.updates.len())?;
    let appends: Vec<_> = batch.appends.values().collect();
    let appended = each(connection, APPEND, &appends).await?;
    all_written(appended, appends.len())?;
    each(connection, EVENTS, &batch.events).await?;
    each(connection, ATTEMPTS, &batch.attempts).await?;
    each(connection, CHECKPOINTS, &batch.distinct_checkpoints()).await?;
    each(connection, ENDED, &batch.ended).await?;
    outbox(connection, batch.envelopes.clone(), now).await
}

/// Stores messages to publish, if there are any.
pub(super) async fn outbox(
    connection: &mut SqliteConnection,
    envelopes: Vec<flowfleet_core::port::Envelope>,
    now: Time,
) -> Result<Option<OutboxRow>, Error> {
    if envelopes.is_empty() {
        return Ok(None);
    }
    let runs: Vec<_> = envelopes.iter().map(|e| e.message.run).collect();
    let id = sqlx::query_scalar(OUTBOX)
        .bind(now)
        .bind(serde_json::to_string(&runs)?)
        .fetch_one(connection)
        .await?;
    Ok(Some(OutboxRow { id, envelopes }))
}
