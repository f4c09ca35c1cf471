//! Watches the worker itself: its protection while it is busy, its end when it has had nothing to do for long, and
//! whether it is given anything while its queues have work. A consumer that is connected proves nothing: one that is
//! given nothing is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use flowfleet_runtime::Shutdown;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::Inner;
use crate::metrics::CONSUMER_STALLS_TOTAL;

/// How often it is looked after.
const ROUND: Duration = Duration::from_secs(1);

/// How often protection is looked after.
const PROTECT: Duration = Duration::from_secs(5);

/// How long the queue may take to say how deep it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of the worker's own doings.
#[derive(Debug)]
pub(crate) struct Vigil {
    /// When it last had a run.
    active: Mutex<Instant>,
    /// When it was last given a message, or could not have been.
    fed: Mutex<Instant>,
    stalled: AtomicBool,
    /// The consumer is to be replaced.
    pub(crate) replace: Notify,
}

impl Vigil {
    pub(crate) fn new() -> Self {
        Self {
            active: Mutex::new(Instant::now()),
            fed: Mutex::new(Instant::now()),
            stalled: AtomicBool::new(false),
            replace: Notify::new(),
        }
    }

    /// It began or ended a run.
    pub(crate) fn active(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// It was given messages.
    pub(crate) fn fed(&self) {
        self.reset();
        self.stalled.store(false, Ordering::Relaxed);
    }

    /// What is wrong, if anything is.
    pub(crate) fn complaint(&self) -> Option<&'static str> {
        let stalled = self.stalled.load(Ordering::Relaxed);
        stalled.then_some("given nothing although its queues have work: the consumer was replaced")
    }

    fn reset(&self) {
        *self.fed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn hungry_for(&self) -> Duration {
        self.fed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn idle_for(&self) -> Duration {
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }
}

/// Looks after the worker until it ends.
pub(crate) async fn run(inner: Arc<Inner>, shutdown: Shutdown, ending: CancellationToken) {
    let watching = async { tokio::join!(protect(&inner), watch(&inner, &shutdown)) };
    let _: Option<((), ())> = ending.run_until_cancelled(watching).await;
    if let Some(protection) = &inner.protection {
        protection.end().await;
    }
}

async fn protect(inner: &Inner) {
    let Some(protection) = &inner.protection else {
        return;
    };
    let mut ticks = tokio::time::interval(PROTECT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if inner.busy() > 0 {
            protection.keep().await;
        } else {
            protection.rest().await;
        }
    }
}

async fn watch(inner: &Inner, shutdown: &Shutdown) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Since when its queues have had work that it was not given.
    let mut waiting_since = None;
    loop {
        ticks.tick().await;
        let idle = inner.busy() == 0;
        if let Some(after) = inner.config.idle_exit()
            && idle
            && inner.vigil.idle_for() >= after
            && !inner.draining.is_cancelled()
        {
            tracing::info!(idle_s = after.as_secs_f64(), "nothing to do for long: ending");
            shutdown.drain();
        }
        let accepts = !inner.draining.is_cancelled() && !inner.steering.is_draining();
        if !accepts || inner.busy() >= inner.config.slots {
            inner.vigil.reset();
        }
        let patience = inner.config.stall();
        // Asked only while nothing comes, which is when there is time.
        if inner.vigil.hungry_for() < patience / 2 {
            waiting_since = None;
        } else if has_work(inner).await {
            let since: Instant = *waiting_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= patience / 2 && inner.vigil.hungry_for() >= patience {
                replace(inner, patience);
                waiting_since = None;
            }
        } else {
            waiting_since = None;
            // An empty queue proves nothing against the consumer, and nothing for the last complaint.
            inner.vigil.fed();
        }
    }
}

fn replace(inner: &Inner, patience: Duration) {
    metrics::counter!(CONSUMER_STALLS_TOTAL).increment(1);
    tracing::warn!(
        after_s = patience.as_secs_f64(),
        "given nothing although the queues have work: replacing the consumer"
    );
    inner.vigil.stalled.store(true, Ordering::Relaxed);
    inner.vigil.reset();
    inner.vigil.replace.notify_one();
}

/// Whether messages wait that this worker could be given.
async fn has_work(inner: &Inner) -> bool {
    let pools = inner.abilities.now().pools(&inner.queues);
    for pool in pools {
        let depth = tokio::time::timeout(PATIENCE, inner.deps.queue.depth(&pool)).await;
        if depth.is_ok_and(|depth| depth.is_ok_and(|depth| depth.total() > 0)) {
            return true;
        }
    }
    false
}
