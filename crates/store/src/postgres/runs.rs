//! Runs as the API sees them.

use std::collections::HashMap;

use async_trait::async_trait;
use flowfleet_core::port::{
    CancelOutcome, OutboxRow, Page, Result as PortResult, RunFilter, RunStore, Submission, UsedKey,
};
use flowfleet_core::run::{NewRun, RunView};
use flowfleet_core::{RunEvent, RunId, RunState, Tenant};
use sqlx::QueryBuilder;

use super::Postgres;
use super::history::event_rows;
use crate::batch::{Batch, int, long};
use crate::columns::columns;
use crate::error::{Error, Repeat, attempt};
use crate::row::{ExistingRow, RunRow, UsedKeyRow, priority_number};
use crate::value::{Id, Time};
use crate::{LIST_LIMIT, events, submission};

/// One statement: rows, payloads, first events and the outbox row commit together in one round trip.
const SUBMIT: &str = r#"
WITH input AS (
    SELECT id, tenant, flow_name, flow_version, queue, priority,
        run_at + coalesce(now() - reckoned_at, interval '0') AS run_at,
        expires_at + coalesce(now() - reckoned_at, interval '0') AS expires_at,
        key, key_digest, flow_digest, settings, session_id, labels, trace, replay_of, input
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::smallint[], $7::timestamptz[],
        $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::uuid[], $17::text[], $18::timestamptz[]
    ) AS i (
        id, tenant, flow_name, flow_version, queue, priority, run_at, expires_at, key, key_digest,
        flow_digest, settings, session_id, labels, trace, replay_of, input, reckoned_at
    )
), created AS (
    INSERT INTO runs (
        id, tenant, flow_name, flow_version, queue, priority, state, last_seq, created_at, queued_at,
        published_at, run_at, expires_at, idempotency_key
    )
    SELECT
        id, tenant, flow_name, flow_version, queue, priority,
        CASE WHEN run_at > now() THEN 'scheduled' ELSE 'queued' END, 1, now(),
        CASE WHEN run_at > now() THEN NULL ELSE now() END,
        CASE WHEN run_at > now() THEN NULL ELSE now() END, run_at, expires_at, key
    FROM input
    ON CONFLICT DO NOTHING
    RETURNING id, state
), data AS (
    INSERT INTO run_data (
        run_id, flow_digest, settings, session_id, labels, trace, replay_of, idempotency_digest, input
    )
    SELECT id, flow_digest, settings, session_id, labels::jsonb, trace, replay_of, key_digest, input
    FROM input JOIN created USING (id)
), first_events AS (
    INSERT INTO run_events (run_id, first_seq, count, events)
    SELECT id, 1, 1, json_build_array(json_build_object(
        'k', 'run.scheduled', 't', (extract(epoch FROM now()) * 1000000)::bigint))::text
    FROM created WHERE state = 'scheduled'
), messages AS (
    INSERT INTO outbox (created_at, runs)
    SELECT now(), array_agg(id) FROM created WHERE state = 'queued'
    HAVING count(*) > 0
    RETURNING id
)
SELECT id, state, (SELECT id FROM messages) AS outbox FROM created
"#;

const EXISTING: &str = "
SELECT r.id, r.tenant, r.state, r.idempotency_key, d.idempotency_digest
FROM runs r JOIN run_data d ON d.run_id = r.id
WHERE r.id = ANY($1)
UNION
SELECT r.id, r.tenant, r.state, r.idempotency_key, d.idempotency_digest
FROM unnest($2::text[], $3::text[]) AS k (tenant, key)
JOIN runs r ON r.tenant = k.tenant AND r.idempotency_key = k.key AND r.idempotency_key IS NOT NULL
JOIN run_data d ON d.run_id = r.id
";

const USED_KEYS: &str = "
SELECT r.id, r.idempotency_key AS key, d.idempotency_digest AS digest
FROM runs r JOIN run_data d ON d.run_id = r.id
WHERE r.tenant = $1 AND r.idempotency_key = ANY($2) AND r.idempotency_key IS NOT NULL
";

macro_rules! view_columns {
    () => {
        "r.id, r.tenant, r.flow_name, r.flow_version, d.flow_digest, r.queue, r.priority, r.state, r.attempt,
         r.interruptions, r.epoch, r.last_seq, r.cancel_requested, r.worker, r.created_at, r.queued_at,
         r.started_at, r.attempt_started_at, r.lease_until, r.run_at, r.expires_at, r.finished_at,
         r.input_tokens, r.output_tokens, d.settings, d.session_id, d.labels::text AS labels, d.replay_of,
         CASE WHEN r.state = 'failed' THEN (
             SELECT a.error FROM run_attempts a WHERE a.run_id = r.id AND a.epoch = r.epoch
         ) END AS error"
    };
}

const GET: &str = concat!(
    "SELECT ",
    view_columns!(),
    ", d.input, l.output, l.outputs, (
        SELECT coalesce(json_agg(json_build_object(
            'attempt', a.attempt, 'epoch', a.epoch, 'worker', a.worker,
            'started_at', (extract(epoch FROM a.started_at) * 1000000)::bigint,
            'ended_at', (extract(epoch FROM a.ended_at) * 1000000)::bigint,
            'ended_because', a.ended_because, 'nodes_reused', a.nodes_reused, 'error', a.error)), '[]')::text
        FROM run_attempts a WHERE a.run_id = r.id
    ) AS attempts
    FROM runs r JOIN run_data d ON d.run_id = r.id
    LEFT JOIN run_attempts l ON l.run_id = r.id AND l.epoch = r.epoch
    WHERE r.id = $1 AND r.tenant = $2"
);

/// One row without events if there are none to tell, no row if there is no such run.
const EVENTS: &str = concat!(
    "SELECT e.first_seq, e.events FROM runs r LEFT JOIN LATERAL (",
    event_rows!(),
    ") e ON e.first_seq + e.count > $3 + 1
     WHERE r.id = $1 AND r.tenant = $2
     ORDER BY e.first_seq LIMIT $4"
);

const AHEAD: &str = "
SELECT count(*) FROM (
    SELECT 1 FROM runs o, (SELECT queue, priority, queued_at, id FROM runs WHERE id = $1 AND state || '' = 'queued') r
    WHERE o.state = 'queued' AND o.queue = r.queue
      AND (o.priority, o.queued_at, o.id) < (r.priority, r.queued_at, r.id)
    LIMIT $2
) AS ahead
";

const LOCK_ONE: &str = concat!(
    super::write::locked_columns!(),
    " WHERE r.id = $1 AND r.tenant = $2 FOR UPDATE OF r"
);

columns! {
    /// A run that was new.
    struct Created {
        id: Id,
        state: String,
        outbox: Option<i64>,
    }
}

impl Postgres {
    async fn submit_once(&self, runs: &[NewRun]) -> Result<Submission, Error> {
        let new = submission::insertable(runs);
        let column = |of: fn(&NewRun) -> String| new.iter().map(|r| of(r)).collect::<Vec<_>>();
        let optional = |of: fn(&NewRun) -> Option<String>| new.iter().map(|r| of(r)).collect::<Vec<_>>();
        let json = |of: &dyn Fn(&NewRun) -> serde_json::Result<String>| {
            new.iter().map(|r| of(r)).collect::<serde_json::Result<Vec<_>>>()
        };
        let traces = new
            .iter()
            .map(|r| r.trace.as_ref().map(serde_json::to_string).transpose())
            .collect::<serde_json::Result<Vec<_>>>()?;
        let (settings, labels, input) = (
            json(&|r| serde_json::to_string(&r.settings))?,
            json(&|r| serde_json::to_string(&r.labels))?,
            json(&|r| serde_json::to_string(&r.input))?,
        );
        let rows: Vec<Created> = sqlx::query_as(SUBMIT)
            .bind(new.iter().map(|r| Id::from(r.id)).collect::<Vec<_>>())
            .bind(column(|r| r.tenant.to_string()))
            .bind(column(|r| r.flow.name.to_string()))
            .bind(new.iter().map(|r| int(r.flow.version)).collect::<Vec<_>>())
            .bind(column(|r| r.pool().to_string()))
            .bind(
                new.iter()
                    .map(|r| priority_number(r.priority))
                    .collect::<Vec<_>>(),
            )
            .bind(new.iter().map(|r| r.run_at.map(Time::from)).collect::<Vec<_>>())
            .bind(
                new.iter()
                    .map(|r| r.expires_at.map(Time::from))
                    .collect::<Vec<_>>(),
            )
            .bind(optional(|r| r.idempotency.as_ref().map(|i| i.key.clone())))
            .bind(optional(|r| r.idempotency.as_ref().map(|i| i.digest.clone())))
            .bind(column(|r| r.flow.digest.clone()))
            .bind(settings)
            .bind(optional(|r| r.session_id.clone()))
            .bind(labels)
            .bind(traces)
            .bind(new.iter().map(|r| r.replay_of.map(Id::from)).collect::<Vec<_>>())
            .bind(input)
            .bind(
                new.iter()
                    .map(|r| r.reckoned_at.map(Time::from))
                    .collect::<Vec<_>>(),
            )
            .fetch_all(&self.pool)
            .await?;
        let outbox = rows.first().and_then(|row| row.outbox);
        let mut created = HashMap::with_capacity(rows.len());
        for row in rows {
            let state: RunState = row.state.parse().map_err(Error::Data)?;
            created.insert(RunId(row.id.0), state);
        }
        let missing = submission::missing(runs, &created);
        let existing = if missing.is_empty() {
            Vec::new()
        } else {
            self.existing(&missing).await?
        };
        Ok(Submission {
            outcomes: submission::outcomes(runs, &created, &existing)?,
            outbox: outbox.map(|id| OutboxRow {
                id,
                envelopes: submission::envelopes(runs, &created),
            }),
        })
    }

    async fn existing(&self, missing: &[&NewRun]) -> Result<Vec<ExistingRow>, Error> {
        let keyed: Vec<_> = missing
            .iter()
            .filter_map(|r| Some((r.tenant.to_string(), r.idempotency.as_ref()?.key.clone())))
            .collect();
        let (tenants, keys): (Vec<_>, Vec<_>) = keyed.into_iter().unzip();
        Ok(sqlx::query_as(EXISTING)
            .bind(missing.iter().map(|r| Id::from(r.id)).collect::<Vec<_>>())
            .bind(tenants)
            .bind(keys)
            .fetch_all(&self.pool)
            .await?)
    }

    async fn get_once(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunView>, Error> {
        let row: Option<RunRow> = sqlx::query_as(GET)
            .bind(Id::from(run))
            .bind(tenant.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.map(RunRow::view).transpose()
    }

    async fn list_once(&self, tenant: &Tenant, filter: &RunFilter) -> Result<Page<RunView>, Error> {
        let limit = filter.limit.clamp(1, LIST_LIMIT);
        let mut sql = QueryBuilder::<sqlx::Postgres>::new(concat!(
            "SELECT ",
            view_columns!(),
            ", NULL::text AS input, NULL::text AS output, NULL::text AS outputs, NULL::text AS attempts
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
            sql.push(" AND split_part(r.queue, ':', 1) = ")
                .push_bind(queue.as_str());
        }
        for (key, value) in &filter.labels {
            let wanted = serde_json::json!({ key.as_str(): value }).to_string();
            sql.push(" AND d.labels <> '{}'::jsonb AND d.labels @> ")
                .push_bind(wanted)
                .push("::jsonb");
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
        let rows: Vec<RunRow> = sql.build_query_as().fetch_all(&self.pool).await?;
        crate::page(rows, limit, RunRow::view)
    }

    async fn cancel_once(&self, tenant: &Tenant, run: RunId) -> Result<CancelOutcome, Error> {
        let mut tx = self.begin().await?;
        let query = sqlx::query_as(LOCK_ONE).bind(Id::from(run)).bind(tenant.as_str());
        let Some(mut locked) = super::write::lock(&mut tx, query).await?.pop() else {
            return Ok(CancelOutcome::NotFound);
        };
        let outcome = match locked.state {
            state if state.is_final() => return Ok(CancelOutcome::AlreadyFinal(state)),
            RunState::Running => {
                sqlx::query(
                    "UPDATE runs SET cancel_requested = true WHERE id = $1 AND state || '' = 'running'",
                )
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
                super::write::apply(&mut tx, &batch).await?;
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
            .fetch_all(&self.pool)
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        events::flatten(run, &rows, after, limit).map(Some)
    }
}

#[async_trait]
impl RunStore for Postgres {
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
                .bind(keys)
                .fetch_all(&self.pool)
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
                .fetch_one(&self.pool)
                .await?;
            Ok(u32::try_from(count).unwrap_or(cap))
        })
        .await
    }

    async fn ping(&self) -> PortResult<()> {
        attempt("ping", Repeat::Idempotent, || self.check_schema()).await
    }
}
