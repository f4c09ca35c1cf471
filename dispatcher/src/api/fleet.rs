//! The fleet as it is: workers present, slots, and what waits.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use flowfleet_core::port::{WorkerPresence, WorkerState};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Read;
use super::problem::{Code, Problem};
use super::query::NoQuery;
use super::runs::explain::workers;
use crate::app::Shared;

/// Capacity and backlog.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Fleet {
    /// False when the bus does not say which workers are present: then there is no capacity in the answer.
    pub presence_known: bool,
    pub capacity: Vec<Capacity>,
    pub queues: Vec<QueueLoad>,
}

/// Workers of one lifecycle.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Capacity {
    /// `spot`, `on_demand`, `fargate` or `local`.
    pub lifecycle: String,
    pub workers: u32,
    pub accepting: u32,
    pub draining: u32,
    /// Told to drain, and idle.
    pub drained: u32,
    pub unready: u32,
    /// Of accepting workers.
    pub slots: u32,
    pub busy: u32,
}

/// What waits and runs in one queue with one need and one priority.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueLoad {
    pub queue: String,
    /// What its workers must be able to do.
    pub needs: String,
    pub priority: &'static str,
    pub scheduled: u64,
    pub queued: u64,
    pub running: u64,
    pub oldest_queued_at: Option<Timestamp>,
}

/// A worker that is present.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Worker {
    pub id: Uuid,
    pub host: String,
    pub version: String,
    pub lifecycle: String,
    /// `accepting`, `draining`, `drained` (told to drain, idle, still there) or `unready`.
    pub state: &'static str,
    pub queues: Vec<String>,
    /// What it can do: `native`, `python`, and names that its operator gave it.
    pub capabilities: Vec<String>,
    pub slots: u32,
    pub busy: u32,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    /// The capacity it belongs to, such as an Auto Scaling group.
    pub pool: Option<String>,
    /// Its instance's id or its task's ARN.
    pub provider_id: Option<String>,
    pub instance_type: Option<String>,
    pub zone: Option<String>,
    /// When its machine was launched, as far as it knows.
    pub launched_at: Option<Timestamp>,
    /// The price when it was launched.
    pub usd_per_hour: Option<f64>,
    /// When it began to accept runs.
    pub accepting_at: Option<Timestamp>,
    pub first_claim_at: Option<Timestamp>,
    pub notice: Option<WorkerNotice>,
}

/// What its provider says is to become of a worker's machine.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerNotice {
    /// `interruption` or `rebalance`.
    pub kind: &'static str,
    /// When the machine goes, or when the warning was given.
    pub at: Option<Timestamp>,
}

/// Workers, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    pub items: Vec<Worker>,
    pub next_cursor: Option<String>,
}

/// Capacity by lifecycle, and what waits in each queue.
#[utoipa::path(
    get, path = "/v1/fleet", tag = "fleet",
    responses((status = 200, description = "The fleet", body = Fleet)),
)]
pub(crate) async fn fleet(
    Read(_): Read,
    State(app): State<Shared>,
    _: NoQuery,
) -> Result<Json<Fleet>, Problem> {
    let present = workers(&app).await;
    let queues = app.store.backlog().await?.into_iter().map(|line| QueueLoad {
        queue: line.queue.to_string(),
        needs: line.needs.to_string(),
        priority: line.priority.as_str(),
        scheduled: line.scheduled,
        queued: line.queued,
        running: line.running,
        oldest_queued_at: line.oldest_queued_at,
    });
    Ok(Json(Fleet {
        presence_known: present.is_some(),
        capacity: capacity(present.as_deref().unwrap_or_default()),
        queues: queues.collect(),
    }))
}

/// Every worker that is present.
#[utoipa::path(
    get, path = "/v1/fleet/workers", tag = "fleet",
    responses(
        (status = 200, description = "Workers", body = WorkerList),
        (status = 503, description = "The bus does not say", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn fleet_workers(
    Read(_): Read,
    State(app): State<Shared>,
    _: NoQuery,
) -> Result<Json<WorkerList>, Problem> {
    let mut present = workers(&app).await.ok_or_else(|| {
        Problem::new(
            Code::Unavailable,
            "the bus does not say which workers are present",
        )
    })?;
    present.sort_by_key(|worker| (worker.started_at, worker.id));
    let items = present.into_iter().map(|worker| Worker {
        id: worker.id.0,
        host: worker.host,
        version: worker.version,
        lifecycle: worker.lifecycle,
        state: state(worker.state),
        queues: worker.queues.iter().map(ToString::to_string).collect(),
        capabilities: worker.capabilities.iter().map(ToString::to_string).collect(),
        slots: worker.slots,
        busy: worker.busy,
        started_at: worker.started_at,
        seen_at: worker.seen_at,
        pool: worker.place.pool,
        provider_id: worker.place.provider_id,
        instance_type: worker.place.instance_type,
        zone: worker.place.zone,
        launched_at: worker.place.launched_at,
        usd_per_hour: worker.place.usd_per_hour,
        accepting_at: worker.place.accepting_at,
        first_claim_at: worker.place.first_claim_at,
        notice: worker.place.notice.map(|notice| WorkerNotice {
            kind: notice.kind.as_str(),
            at: notice.at,
        }),
    });
    Ok(Json(WorkerList {
        items: items.collect(),
        next_cursor: None,
    }))
}

pub(crate) fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Accepting => "accepting",
        WorkerState::Draining => "draining",
        WorkerState::Drained => "drained",
        WorkerState::Unready => "unready",
    }
}

/// Adds workers up by lifecycle.
pub(crate) fn capacity(workers: &[WorkerPresence]) -> Vec<Capacity> {
    let mut by_lifecycle: BTreeMap<&str, Capacity> = BTreeMap::new();
    for worker in workers {
        let sum = by_lifecycle.entry(&worker.lifecycle).or_default();
        sum.workers += 1;
        match worker.state {
            WorkerState::Accepting => {
                sum.accepting += 1;
                sum.slots += worker.slots;
            }
            WorkerState::Draining => sum.draining += 1,
            WorkerState::Drained => sum.drained += 1,
            WorkerState::Unready => sum.unready += 1,
        }
        sum.busy += worker.busy;
    }
    by_lifecycle
        .into_iter()
        .map(|(lifecycle, sum)| Capacity {
            lifecycle: lifecycle.to_owned(),
            ..sum
        })
        .collect()
}
