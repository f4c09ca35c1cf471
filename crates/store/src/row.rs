//! Rows as both databases give them, and what they mean.

use std::str::FromStr;

use flowfleet_core::port::{AuditEntry, FlowRecord, KeyRecord, OutboxRow, Role};
use flowfleet_core::run::{AttemptView, ClaimedRun, EndedBecause, NodeCheckpoint, RunView, Usage};
use flowfleet_core::{
    FlowId, FlowVersion, KeyId, Lease, Payload, Pool, Priority, RunId, RunState, Tenant, WorkerId,
};
use serde::Deserialize;

use crate::change::{Locked, envelope};
use crate::columns::columns;
use crate::error::Error;
use crate::value::{Id, Time};

pub(crate) fn unsigned<N: TryFrom<i64>>(what: &str, number: i64) -> Result<N, Error> {
    N::try_from(number).map_err(|_| Error::Data(format!("{what} is {number}")))
}

pub(crate) fn parse<T: FromStr>(what: &str, text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| Error::Data(format!("{what} is {text:?}")))
}

fn priority(number: i16) -> Result<Priority, Error> {
    usize::try_from(number)
        .ok()
        .and_then(|index| Priority::ALL.get(index).copied())
        .ok_or_else(|| Error::Data(format!("priority is {number}")))
}

/// A priority as a column: the order of the queues.
pub(crate) fn priority_number(priority: Priority) -> i16 {
    priority as i16
}

fn json<T: serde::de::DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, Error> {
    Ok(text.map(serde_json::from_str).transpose()?)
}

columns! {
    /// One run with its side table.
    pub(crate) struct RunRow {
        id: Id,
        tenant: String,
        flow_name: String,
        flow_version: i32,
        flow_digest: String,
        queue: String,
        priority: i16,
        state: String,
        attempt: i32,
        interruptions: i32,
        epoch: i64,
        last_seq: i64,
        cancel_requested: bool,
        worker: Option<Id>,
        created_at: Time,
        queued_at: Option<Time>,
        started_at: Option<Time>,
        attempt_started_at: Option<Time>,
        lease_until: Option<Time>,
        run_at: Option<Time>,
        expires_at: Option<Time>,
        finished_at: Option<Time>,
        input_tokens: i64,
        output_tokens: i64,
        settings: String,
        session_id: Option<String>,
        labels: String,
        replay_of: Option<Id>,
        error: Option<String>,
        input: Option<String>,
        output: Option<String>,
        outputs: Option<String>,
        /// A JSON array of [`EndedRow`].
        attempts: Option<String>,
    }
}

/// An attempt that ended, as `get` reads it.
#[derive(Debug, Deserialize)]
struct EndedRow {
    attempt: u32,
    epoch: u64,
    worker: WorkerId,
    started_at: i64,
    ended_at: i64,
    ended_because: EndedBecause,
    nodes_reused: u32,
    error: Option<String>,
}

impl RunRow {
    pub(crate) fn view(self) -> Result<RunView, Error> {
        let state: RunState = parse("state", &self.state)?;
        let (attempt, epoch) = (
            unsigned("attempt", self.attempt.into())?,
            unsigned("epoch", self.epoch)?,
        );
        let mut attempts = Vec::new();
        if let Some(text) = &self.attempts {
            for row in serde_json::from_str::<Vec<EndedRow>>(text)? {
                attempts.push(AttemptView {
                    attempt: row.attempt,
                    epoch: row.epoch,
                    worker: row.worker,
                    started_at: Time(row.started_at).stamp(),
                    ended_at: Some(Time(row.ended_at).stamp()),
                    ended_because: Some(row.ended_because),
                    nodes_reused: row.nodes_reused,
                    error: json(row.error.as_deref())?,
                });
            }
            attempts.sort_by_key(|a| a.epoch);
            if let (RunState::Running, Some(worker), Some(started_at)) =
                (state, self.worker, self.attempt_started_at)
            {
                attempts.push(AttemptView {
                    attempt,
                    epoch,
                    worker: WorkerId(worker.0),
                    started_at: started_at.stamp(),
                    ended_at: None,
                    ended_because: None,
                    nodes_reused: 0,
                    error: None,
                });
            }
        }
        let pool: Pool = parse("queue", &self.queue)?;
        Ok(RunView {
            id: RunId(self.id.0),
            tenant: parse("tenant", &self.tenant)?,
            flow: flow_version(&self.flow_name, self.flow_version, self.flow_digest)?,
            queue: pool.queue,
            needs: pool.needs,
            priority: priority(self.priority)?,
            state,
            attempt,
            interruptions: unsigned("interruptions", self.interruptions.into())?,
            settings: serde_json::from_str(&self.settings)?,
            session_id: self.session_id,
            labels: serde_json::from_str(&self.labels)?,
            input: json(self.input.as_deref())?,
            output: json(self.output.as_deref())?,
            outputs: json(self.outputs.as_deref())?,
            error: json(self.error.as_deref())?,
            usage: Usage {
                input_tokens: unsigned("input_tokens", self.input_tokens)?,
                output_tokens: unsigned("output_tokens", self.output_tokens)?,
            },
            created_at: self.created_at.stamp(),
            queued_at: self.queued_at.map(Time::stamp),
            started_at: self.started_at.map(Time::stamp),
            finished_at: self.finished_at.map(Time::stamp),
            run_at: self.run_at.map(Time::stamp),
            expires_at: self.expires_at.map(Time::stamp),
            worker: self.worker.map(|w| WorkerId(w.0)),
            lease_until: self.lease_until.map(Time::stamp),
            cancel_requested: self.cancel_requested,
            replay_of: self.replay_of.map(|r| RunId(r.0)),
            attempts,
            last_seq: unsigned("last_seq", self.last_seq)?,
        })
    }
}

fn flow_version(name: &str, version: i32, digest: String) -> Result<FlowVersion, Error> {
    Ok(FlowVersion {
        name: parse("flow_name", name)?,
        version: unsigned("flow_version", version.into())?,
        digest,
    })
}

columns! {
    /// A run that was just claimed.
    pub(crate) struct ClaimRow {
        pub(crate) id: Id,
        tenant: String,
        flow_name: String,
        flow_version: i32,
        flow_digest: String,
        queue: String,
        priority: i16,
        attempt: i32,
        epoch: i64,
        interruptions: i32,
        last_seq: i64,
        queued_at: Option<Time>,
        settings: String,
        session_id: Option<String>,
        trace: Option<String>,
        input: String,
        /// A JSON array of `[node, output]`.
        checkpoints: Option<String>,
    }
}

impl ClaimRow {
    pub(crate) fn claimed(self) -> Result<ClaimedRun, Error> {
        let checkpoints = json::<Vec<(String, String)>>(self.checkpoints.as_deref())?
            .unwrap_or_default()
            .into_iter()
            .map(|(node, output)| {
                let output: Payload = serde_json::from_str(&output)?;
                Ok(NodeCheckpoint { node, output })
            })
            .collect::<Result<_, Error>>()?;
        let queued_at = self
            .queued_at
            .ok_or_else(|| Error::Data("a queued run has no queued_at".to_owned()))?;
        Ok(ClaimedRun {
            lease: Lease {
                run: RunId(self.id.0),
                attempt: unsigned("attempt", self.attempt.into())?,
                epoch: unsigned("epoch", self.epoch)?,
            },
            tenant: parse("tenant", &self.tenant)?,
            flow: flow_version(&self.flow_name, self.flow_version, self.flow_digest)?,
            queue: parse::<Pool>("queue", &self.queue)?.queue,
            priority: priority(self.priority)?,
            input: serde_json::from_str(&self.input)?,
            settings: serde_json::from_str(&self.settings)?,
            session_id: self.session_id,
            interruptions: unsigned("interruptions", self.interruptions.into())?,
            queued_at: queued_at.stamp(),
            trace: json(self.trace.as_deref())?,
            last_seq: unsigned("last_seq", self.last_seq)?,
            checkpoints,
        })
    }
}

columns! {
    /// A run that the transaction holds locked.
    pub(crate) struct LockedRow {
        pub(crate) id: Id,
        state: String,
        epoch: i64,
        attempt: i32,
        failures: i32,
        interruptions: i32,
        last_seq: i64,
        started_seq: Option<i64>,
        cancel_requested: bool,
        queue: String,
        priority: i16,
        worker: Option<Id>,
        attempt_started_at: Option<Time>,
        trace: Option<String>,
        now: Time,
    }
}

impl LockedRow {
    pub(crate) fn locked(self) -> Result<Locked, Error> {
        Ok(Locked {
            id: RunId(self.id.0),
            state: parse("state", &self.state)?,
            epoch: unsigned("epoch", self.epoch)?,
            attempt: unsigned("attempt", self.attempt.into())?,
            failures: unsigned("failures", self.failures.into())?,
            interruptions: unsigned("interruptions", self.interruptions.into())?,
            last_seq: unsigned("last_seq", self.last_seq)?,
            started_seq: self
                .started_seq
                .map(|seq| unsigned("started_seq", seq))
                .transpose()?,
            cancel_requested: self.cancel_requested,
            pool: parse("queue", &self.queue)?,
            priority: priority(self.priority)?,
            worker: self.worker.map(|w| WorkerId(w.0)),
            attempt_started_at: self.attempt_started_at.map(Time::stamp),
            trace: json(self.trace.as_deref())?,
            now: self.now.stamp(),
        })
    }
}

columns! {
    /// A run that was there before a submission.
    pub(crate) struct ExistingRow {
        pub(crate) id: Id,
        pub(crate) tenant: String,
        pub(crate) state: String,
        pub(crate) idempotency_key: Option<String>,
        pub(crate) idempotency_digest: Option<String>,
    }
}

columns! {
    /// An idempotency key in use.
    pub(crate) struct UsedKeyRow {
        pub(crate) id: Id,
        pub(crate) key: String,
        pub(crate) digest: String,
    }
}

impl From<UsedKeyRow> for flowfleet_core::port::UsedKey {
    fn from(row: UsedKeyRow) -> Self {
        Self {
            key: row.key,
            digest: row.digest,
            run: RunId(row.id.0),
        }
    }
}

columns! {
    /// What waits or runs, of one queue, priority and state.
    pub(crate) struct BacklogRow {
        pub(crate) queue: String,
        pub(crate) priority: i16,
        pub(crate) state: String,
        pub(crate) runs: i64,
        pub(crate) oldest: Option<Time>,
    }
}

/// Rows of one state each, as lines of one queue and priority each.
pub(crate) fn backlog(rows: Vec<BacklogRow>) -> Result<Vec<flowfleet_core::port::Backlog>, Error> {
    let mut lines = std::collections::BTreeMap::new();
    for row in rows {
        let pool: Pool = parse("queue", &row.queue)?;
        let line = lines
            .entry((pool.clone(), row.priority))
            .or_insert(flowfleet_core::port::Backlog {
                queue: pool.queue,
                needs: pool.needs,
                priority: priority(row.priority)?,
                scheduled: 0,
                queued: 0,
                running: 0,
                oldest_queued_at: None,
            });
        let runs = unsigned("count", row.runs)?;
        match parse("state", &row.state)? {
            RunState::Scheduled => line.scheduled = runs,
            RunState::Running => line.running = runs,
            _ => {
                line.queued = runs;
                line.oldest_queued_at = row.oldest.map(Time::stamp);
            }
        }
    }
    Ok(lines.into_values().collect())
}

columns! {
    /// A row of the outbox with one of its runs; without one if none of them is queued any more.
    pub(crate) struct LeftoverRow {
        outbox: i64,
        run: Option<Id>,
        queue: Option<String>,
        priority: Option<i16>,
        trace: Option<String>,
    }
}

/// What is left to publish, from rows in the order of the outbox.
pub(crate) fn leftover(rows: Vec<LeftoverRow>) -> Result<Vec<OutboxRow>, Error> {
    let mut left: Vec<OutboxRow> = Vec::new();
    for row in rows {
        if left.last().is_none_or(|last| last.id != row.outbox) {
            left.push(OutboxRow {
                id: row.outbox,
                envelopes: Vec::new(),
            });
        }
        if let (Some(last), Some(run), Some(queue), Some(number)) =
            (left.last_mut(), row.run, row.queue, row.priority)
        {
            let trace = json(row.trace.as_deref())?;
            let pool = parse("queue", &queue)?;
            last.envelopes
                .push(envelope(&pool, priority(number)?, RunId(run.0), trace.as_ref()));
        }
    }
    Ok(left)
}

columns! {
    /// One version of a flow.
    pub(crate) struct FlowRow {
        name: String,
        version: i32,
        flow_id: Id,
        digest: String,
        nodes: i32,
        engine: String,
        created_at: Time,
    }
}

impl FlowRow {
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) fn record(self) -> Result<FlowRecord, Error> {
        Ok(FlowRecord {
            flow: flow_version(&self.name, self.version, self.digest)?,
            id: FlowId(self.flow_id.0),
            nodes: unsigned("nodes", self.nodes.into())?,
            engine: self.engine,
            created_at: self.created_at.stamp(),
        })
    }
}

columns! {
    /// One API key.
    pub(crate) struct KeyRow {
        id: Id,
        tenant: String,
        name: String,
        role: String,
        created_at: Time,
        revoked_at: Option<Time>,
    }
}

impl KeyRow {
    pub(crate) fn record(self) -> Result<KeyRecord, Error> {
        Ok(KeyRecord {
            id: KeyId(self.id.0),
            tenant: parse::<Tenant>("tenant", &self.tenant)?,
            name: self.name,
            role: parse::<Role>("role", &self.role)?,
            created_at: self.created_at.stamp(),
            revoked_at: self.revoked_at.map(Time::stamp),
        })
    }
}

columns! {
    /// One line of the audit log.
    pub(crate) struct AuditRow {
        at: Time,
        actor: String,
        action: String,
        target: String,
    }
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self {
            at: row.at.stamp(),
            actor: row.actor,
            action: row.action,
            target: row.target,
        }
    }
}
