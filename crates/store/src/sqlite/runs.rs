//! Runs as the API sees them.

use std::collections::HashMap;

use async_trait::async_trait;
use flowfleet_core::port::{
    CancelOutcome, Page, Result as PortResult, RunFilter, RunStore, Submission, UsedKey,
};
use flowfleet_core::run::{NewRun, RunView};
use flowfleet_core::{EventData, EventKind, NewEvent, RunEvent, RunId, RunState, Tenant};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::QueryBuilder;

use super::Sqlite;
use super::history::event_rows;
use super::write::{EVENTS as EVENTS_INSERT, each, outbox};
use crate::batch::{Batch, long};
use crate::error::{Error, Repeat, attempt};
use crate::row::{ExistingRow, RunRow, UsedKeyRow, priority_number};
use crate::value::{Id, Time};
use crate::{LIST_LIMIT, events, submission};

const SUBMIT: &str = "
INSERT INTO runs (
    id, tenant, flow_name, flow_version, queue, priority, state, last_seq, created_at, queued_at, published_at,
    run_at, expires_at, idempotency_key
)
SELECT value ->> 'id', value ->> 'tenant', value ->> 'flow_name', value ->> 'flow_version', value ->> 'queue',
    value ->> 'priority', CASE WHEN value ->> 'run_at' > ?1 THEN 'scheduled' ELSE 'queued' END, 1, ?1,
    CASE WHEN value ->> 'run_at' > ?1 THEN NULL ELSE ?1 END,
    CASE WHEN value ->> 'run_at' > ?1 THEN NULL ELSE ?1 END,
    value ->> 'run_at', value ->> 'expires_at', value ->> 'key'
FROM json_each(?2) WHERE true ORDER BY json_each.key
ON CONFLICT DO NOTHING
RETURNING id, state
";

const DATA: &str = "
INSERT INTO run_data (
    run_id, flow_digest, settings, session_id, labels, trace, replay_of, idempotency_digest, input
)
SELECT value ->> 'id', value ->> 'flow_digest', value ->> 'settings', value ->> 'session_id',
    value ->> 'labels', value ->> 'trace', value ->> 'replay_of', value ->> 'key_digest', value ->> 'input'
FROM json_each(?1)
";

// `CROSS JOIN` is SQLite's way to say which table comes first. Left to itself it walks the whole history once for
// every key.
pub(super) const EXISTING: &str = "
SELECT r.id, r.tenant, r.state, r.idempotency_key, d.idempotency_digest
FROM json_each(?1) k CROSS JOIN runs r ON r.id = k.value ->> 'id' JOIN run_data d ON d.run_id = r.id
UNION
SELECT r.id, r.tenant, r.state, r.idempotency_key, d.idempotency_digest
FROM json_each(?1) k
CROSS JOIN runs r ON r.tenant = k.value ->> 'tenant' AND r.idempotency_key = k.value ->> 'key'
    AND r.idempotency_key IS NOT NULL
JOIN run_data d ON d.run_id = r.id
";

pub(super) const USED_KEYS: &str = "
SELECT r.id, r.idempotency_key AS key, d.idempotency_digest AS digest
FROM json_each(?2) k
CROSS JOIN runs r ON r.tenant = ?1 AND r.idempotency_key = k.value AND r.idempotency_key IS NOT NULL
JOIN run_data d ON d.run_id = r.id
";

/// A run as `SUBMIT` reads it.
#[derive(Serialize)]
struct RunColumns<'a> {
    id: RunId,
    tenant: &'a Tenant,
    flow_name: &'a str,
    flow_version: u32,
    queue: String,
    priority: i16,
    run_at: Option<Time>,
    expires_at: Option<Time>,
    key: Option<&'a str>,
}

/// A time that was reckoned from another clock's `reckoned_at`, as far from `now`.
fn shifted(at: Timestamp, reckoned_at: Timestamp, now: Timestamp) -> Timestamp {
    now.saturating_add(at.duration_since(reckoned_at))
        .unwrap_or(Timestamp::MAX)
}

/// A run as `DATA` reads it: JSON within JSON stays text.
#[derive(Serialize)]
struct DataColumns<'a> {
    id: RunId,
    flow_digest: &'a str,
    settings: String,
    session_id: Option<&'a str>,
    labels: String,
    trace: Option<String>,
    replay_of: Option<RunId>,
    key_digest: Option<&'a str>,
    input: String,
}

impl<'a> RunColumns<'a> {
    fn of(run: &'a NewRun, now: Time) -> Self {
        let by_our_clock = |at: Option<Timestamp>| match (at, run.reckoned_at) {
            (Some(at), Some(reckoned_at)) => Some(Time::from(shifted(at, reckoned_at, now.stamp()))),
            (at, _) => at.map(Time::from),
        };
        Self {
            id: run.id,
            tenant: &run.tenant,
            flow_name: run.flow.name.as_str(),
            flow_version: run.flow.version,
            queue: run.pool().to_string(),
            priority: priority_number(run.priority),
            run_at: by_our_clock(run.run_at),
            expires_at: by_our_clock(run.expires_at),
            key: run.idempotency.as_ref().map(|i| i.key.as_str()),
        }
    }
}

impl<'a> DataColumns<'a> {
    fn of(run: &'a NewRun) -> Result<Self, Error> {
        Ok(Self {
            id: run.id,
            flow_digest: &run.flow.digest,
            settings: serde_json::to_string(&run.settings)?,
            session_id: run.session_id.as_deref(),
            labels: serde_json::to_string(&run.labels)?,
            trace: run.trace.as_ref().map(serde_json::to_string).transpose()?,
            replay_of: run.replay_of,
            key_digest: run.idempotency.as_ref().map(|i| i.digest.as_str()),
            input: serde_json::to_string(&run.input)?,
        })
    }
}

macro_rules! view_columns {
    () => {
        "r.id, r.tenant, r.flow_name, r.flow_version, d.flow_digest, r.queue, r.priority, r.state, r.attempt,
         r.interruptions, r.epoch, r.last_seq, r.cancel_requested, r.worker, r.created_at, r.queued_at,
         r.started_at, r.attempt_started_at, r.lease_until, r.run_at, r.expires_at, r.finished_at,
         r.input_tokens, r.output_tokens, d.settings, d.session_id, d.labels, d.replay_of,
         CASE WHEN r.state = 'failed' THEN (
             SELECT a.error FROM run_attempts a WHERE a.run_id = r.id AND a.epoch = r.epoch
         ) END AS error"
    };
}

pub(super) const GET: &str = concat!(
    "SELECT ",
    view_columns!(),
    ", d.input, l.output, l.outputs, (
        SELECT json_group_array(json_object(
            'attempt', a.attempt, 'epoch', a.epoch, 'worker', a.worker,
            'started_at', a.started_at,
            'ended_at', a.ended_at,
            'ended_because', a.ended_because, 'nodes_reused', a.nodes_reused, 'error', a.error))
        FROM run_attempts a WHERE a.run_id = r.id
    ) AS attempts
    FROM runs r JOIN run_data d ON d.run_id = r.id
    LEFT JOIN run_attempts l ON l.run_id = r.id AND l.epoch = r.epoch
    WHERE r.id = ?1 AND r.tenant = ?2"
);

/// One row without events if there are none to tell, no row if there is no such run.
pub(super) const EVENTS: &str = concat!(
    "WITH r AS (SELECT * FROM runs WHERE id = ?1 AND tenant = ?2)
     SELECT e.first_seq, e.events
     FROM (SELECT 1 FROM r) LEFT JOIN (",
    event_rows!(),
    ") e ON e.first_seq + e.count > ?3 + 1
     ORDER BY e.first_seq LIMIT ?4"
);

pub(super) const AHEAD: &str = "
SELECT count(*) FROM (
    SELECT 1 FROM runs o, (SELECT queue, priority, queued_at, id FROM runs WHERE id = ?1 AND state = 'queued') r
    WHERE o.state = 'queued' AND o.queue = r.queue
      AND (o.priority, o.queued_at, o.id) < (r.priority, r.queued_at, r.id)
    LIMIT ?2
) AS ahead
";

pub(super) const LOCK_ONE: &str = concat!(
    super::write::locked_columns!(),
    " WHERE r.id = ?2 AND r.tenant = ?3"
);

impl Sqlite {
    async fn submit_once(&self, runs: &[NewRun]) -> Result<Submission, Error> {
        let new = submission::insertable(runs);
        let mut tx = self.begin().await?;
        let now = Time::now();
        let columns: Vec<_> = new.iter().map(|run| RunColumns::of(run, now)).collect();
        let columns = serde_json::to_string(&columns)?;
        let rows: Vec<(Id, String)> = sqlx::query_as(SUBMIT)
            .bind(now)
            .bind(columns)
            .fetch_all(&mut *tx)
            .await?;
        let mut created = HashMap::with_capacity(rows.len());
        for (id, state) in rows {
            let state: RunState = state.parse().map_err(Error::Data)?;
            created.insert(RunId(id.0), state);
        }
        let inserted: Vec<_> = new
            .into_iter()
            .filter(|run| created.contains_key(&run.id))
            .collect();
        let data = inserted
            .iter()
            .map(|run| DataColumns::of(run))
            .collect::<Result<Vec<_>, _>>()?;
        each(&mut tx, DATA, &data).await?;
        let scheduled = inserted
            .iter()
            .filter(|run| created[&run.id] == RunState::Scheduled)
            .map(|run| scheduled_event(run.id, now))
            .collect::<Result<Vec<_>, _>>()?;
        each(&mut tx, EVENTS_INSERT, &scheduled).await?;
        let outbox = outbox(&mut tx, submission::envelopes(runs, &created), now).await?;
        let missing: Vec<_> = submission::missing(runs, &created)
            .into_iter()
            .map(|run| RunColumns::of(run, now))
            .collect();
        let existing: Vec<ExistingRow> = if missing.is_empty() {
            Vec::new()
        } else {
            sqlx::query_as(EXISTING)
                .bind(serde_json::to_string(&missing)?)
                .fetch_all(&mut *tx)
                .await?
        };
        let outcomes = submission::outcomes(runs, &created, &existing)?;
        tx.commit().await?;
        Ok(Submission { outcomes, outbox })
    }

    async fn get_once(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunView>, Error> {
        let row: Option<RunRow> = sqlx::query_as(GET)
            .bind(Id::from(run))
            .bind(tenant.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.map(RunRow::view).transpose()
    }

    async fn list_once(&self, tenant: &Tenant, filter: &RunFilter) -> Result<Page<RunView>, Error> {
        let limit = filter.limit.clamp(1, LIST_LIMIT);
        let mut sql = QueryBuilder::<sqlx::Sqlite>::new(concat!(
            "SELECT ",
            view_columns!(),
            ", NULL AS input, NULL AS output, NULL AS outputs, NULL AS attempts
             FROM runs r JOIN run_data d ON d.run_id = r.id WHERE r.tenant = "
        ));
        sql.push_bind(tenant.as_str());
        if !filter.states.is_empty() {
            sql.push(crate::listing::states(&filter.states));
        }
        if let Some(flow) = &filter.flow {
            sql.push(" AND r.flow_name = ").push_bind(flow.as_str());
        }
        if let Some(queue) = &filter.queue {
            sql.push(" AND substr(r.queue || ':', 1, instr(r.queue || ':', ':') - 1) = ")
                .push_bind(queue.as_str());
        }
        for (key, value) in &filter.labels {
            sql.push(" AND EXISTS (SELECT 1 FROM json_each(d.labels) l WHERE l.key = ")
                .push_bind(key.as_str())
                .push(" AND l.value = ")
                .push_bind(value.as_str())
                .push(")");
        }
        if let Some(since) = filter.since {
            sql.push(" AND r.created_at >= ").push_bind(Time::from(since));
        }
        if let Some(until) = filter.until {
            sql.push(" AND r.created_at < ").push_bind(Time::from(until));
        }
        if let Some(before) = filter.before {
            sql.push(" AND r.id < ").push_bind(Id::from(before));
        }
        sql.push(" ORDER BY r.id DESC LIMIT ")
            .push_bind(i64::from(limit) + 1);
        let rows: Vec<RunRow> = sql.build_query_as().fetch_all(&self.readers).await?;
        crate::page(rows, limit, RunRow::view)
    }

    async fn cancel_once(&self, tenant: &Tenant, run: RunId) -> Result<CancelOutcome, Error> {
        let mut tx = self.begin().await?;
        let now = Time::now();
        let query = sqlx::query_as(LOCK_ONE)
            .bind(now)
            .bind(Id::from(run))
            .bind(tenant.as_str());
        let Some(mut locked) = super::write::lock(&mut tx, query).await?.pop() else {
            return Ok(CancelOutcome::NotFound);
        };
        let outcome = match locked.state {
            state if state.is_final() => return Ok(CancelOutcome::AlreadyFinal(state)),
            RunState::Running => {
                sqlx::query("UPDATE runs SET cancel_requested = true WHERE id = ?1 AND state = 'running'")
                    .bind(Id::from(run))
                    .execute(&mut *tx)
                    .await?;
                CancelOutcome::Requested {
                    worker: locked.worker,
                }
            }
            _ => {
                let mut batch = Batch::default();
                batch.cancel(&mut locked)?;
                super::write::apply(&mut tx, &batch, now).await?;
                CancelOutcome::Cancelled
            }
        };
        tx.commit().await?;
        Ok(outcome)
    }

    async fn events_once(
        &self,
        tenant: &Tenant,
        run: RunId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<RunEvent>>, Error> {
        let limit = limit.clamp(1, crate::EVENTS_LIMIT);
        let rows: Vec<(Option<i64>, Option<String>)> = sqlx::query_as(EVENTS)
            .bind(Id::from(run))
            .bind(tenant.as_str())
            .bind(long(after).min(i64::MAX - 1))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        events::flatten(run, &rows, after, limit).map(Some)
    }
}

/// The event that a run with a delay begins with; the others begin by being queued, which their row tells.
fn scheduled_event(run: RunId, now: Time) -> Result<Option<events::EventRow>, Error> {
    let event = NewEvent {
        kind: EventKind::RunScheduled,
        at: now.stamp(),
        data: EventData::default(),
    };
    events::to_row(&events::sequence(run, 0, vec![event]))
}

#[async_trait]
impl RunStore for Sqlite {
    async fn submit(&self, runs: &[NewRun]) -> PortResult<Submission> {
        if runs.is_empty() {
            return Ok(Submission {
                outcomes: Vec::new(),
                outbox: None,
            });
        }
        attempt("submit", Repeat::Idempotent, || self.submit_once(runs)).await
    }

    async fn used_keys(&self, tenant: &Tenant, keys: &[&str]) -> PortResult<Vec<UsedKey>> {
        attempt("used_keys", Repeat::Idempotent, || async {
            let rows: Vec<UsedKeyRow> = sqlx::query_as(USED_KEYS)
                .bind(tenant.as_str())
                .bind(serde_json::to_string(keys).unwrap_or_default())
                .fetch_all(&self.readers)
                .await?;
            Ok(rows.into_iter().map(UsedKey::from).collect())
        })
        .await
    }

    async fn get(&self, tenant: &Tenant, run: RunId) -> PortResult<Option<RunView>> {
        attempt("get", Repeat::Idempotent, || self.get_once(tenant, run)).await
    }

    async fn list(&self, tenant: &Tenant, filter: &RunFilter) -> PortResult<Page<RunView>> {
        attempt("list", Repeat::Idempotent, || self.list_once(tenant, filter)).await
    }

    async fn events(
        &self,
        tenant: &Tenant,
        run: RunId,
        after: u64,
        limit: u32,
    ) -> PortResult<Option<Vec<RunEvent>>> {
        attempt("events", Repeat::Idempotent, || {
            self.events_once(tenant, run, after, limit)
        })
        .await
    }

    async fn cancel(&self, tenant: &Tenant, run: RunId) -> PortResult<CancelOutcome> {
        attempt("cancel", Repeat::Idempotent, || self.cancel_once(tenant, run)).await
    }

    async fn ahead_of(&self, run: RunId, cap: u32) -> PortResult<u32> {
        attempt("ahead_of", Repeat::Idempotent, || async {
            let count: i64 = sqlx::query_scalar(AHEAD)
                .bind(Id::from(run))
                .bind(i64::from(cap))
                .fetch_one(&self.readers)
                .await?;
            Ok(u32::try_from(count).unwrap_or(cap))
        })
        .await
    }

    async fn ping(&self) -> PortResult<()> {
        attempt("ping", Repeat::Idempotent, || self.check_schema()).await
    }
}
