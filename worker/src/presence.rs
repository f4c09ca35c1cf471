//! What others see of this worker: presence on the bus, and whether its backends answer. In the same round it reads what
//! is wished of it.

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::port::{WorkerPresence, WorkerState};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::Inner;

/// How often presence is announced and backends are asked, while all is well and while something is missing.
const CALM: Duration = Duration::from_secs(3);
const ALERT: Duration = Duration::from_secs(1);

/// How long an announcement lasts: a few lost ones do not make a worker vanish.
const TTL: Duration = Duration::from_secs(20);

/// How long a backend may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The store gets longer: its own error, which says why, comes when it has waited 5 s for a connection.
const STORE_PATIENCE: Duration = Duration::from_secs(6);

/// Announces until the worker ends, then takes it from the list: in one task, so that no announcement comes last.
pub(crate) async fn run(inner: Arc<Inner>, ending: CancellationToken) {
    let host = host(&inner);
    let announcing = async {
        loop {
            let pause = if check(&inner).await { CALM } else { ALERT };
            announce(&inner, &host).await;
            inner.show_slots();
            let _ = tokio::time::timeout(pause, inner.changed.notified()).await;
        }
    };
    let _: Option<()> = ending.run_until_cancelled(announcing).await;
    let _ = tokio::time::timeout(PATIENCE, inner.deps.bus.withdraw(inner.id)).await;
}

/// Asks every backend; true when all of them answer.
async fn check(inner: &Inner) -> bool {
    let deps = &inner.deps;
    let (store, queue, bus, wished) = tokio::join!(
        tokio::time::timeout(STORE_PATIENCE, deps.store.ping()),
        tokio::time::timeout(PATIENCE, deps.queue.ping(PATIENCE)),
        tokio::time::timeout(PATIENCE, deps.bus.ping()),
        tokio::time::timeout(STORE_PATIENCE, deps.store.wished(inner.id)),
    );
    // Asked again in a moment; without an answer it goes on as it is.
    if let Ok(Ok(Some(wish))) = wished {
        inner.steering.learn(wish);
    }
    let answers = [store, queue, bus].map(|answer| match answer {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    });
    let fine = answers.iter().all(Result::is_ok);
    let [store, queue, bus] = answers;
    deps.readiness.set("store", store);
    deps.readiness.set("queue", queue);
    // Without the bus runs still run: only live events and quick cancels are missing.
    deps.readiness.set_optional("bus", bus);
    fine
}

async fn announce(inner: &Inner, host: &str) {
    let state = if inner.draining.is_cancelled() {
        WorkerState::Draining
    } else if inner.steering.is_draining() {
        match inner.busy() {
            0 => WorkerState::Drained,
            _ => WorkerState::Draining,
        }
    } else if inner.deps.readiness.report().ready {
        WorkerState::Accepting
    } else {
        WorkerState::Unready
    };
    let presence = WorkerPresence {
        id: inner.id,
        host: host.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        queues: inner.queues.clone(),
        capabilities: inner.abilities.now(),
        slots: inner.config.slots,
        busy: inner.busy(),
        state,
        lifecycle: inner.lifecycle.to_owned(),
        started_at: inner.started_at,
        seen_at: Timestamp::now(),
        place: inner.lock_place().clone(),
    };
    // The bus is asked for its health apart: an announcement that fails is made again soon.
    let _ = tokio::time::timeout(PATIENCE, inner.deps.bus.announce(&presence, TTL)).await;
}

fn host(inner: &Inner) -> String {
    let configured = inner.config.name.clone();
    let known = configured
        .or_else(|| std::env::var("HOSTNAME").ok())
        .filter(|name| !name.is_empty());
    let kernel = || {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned())
    };
    known.or_else(kernel).unwrap_or_else(|| "unknown".to_owned())
}
