//! One heartbeat for all leases: renews them in one statement, and learns of cancels and lost leases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowfleet_core::RunId;
use flowfleet_core::lease::Lease;
use flowfleet_core::port::Renewal;
use flowfleet_runtime::backoff::Backoff;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::Inner;
use crate::held::Stop;
use crate::metrics::LEASES_LOST_TOTAL;

/// Cancels looked at together.
const CANCELS: usize = 1_000;

/// A cancel of a run that is not held may be ahead of the answer to its claim: it is looked at once more after this.
const SECOND_LOOK: Duration = Duration::from_millis(300);

/// Cancels that wait for their second look at most. The heartbeat finds the others.
const SECOND_LOOKS: usize = 10_000;

/// Beats until the worker ends, also while it drains.
pub(crate) async fn run(inner: Arc<Inner>, ending: CancellationToken) {
    let _: Option<()> = ending.run_until_cancelled(beat(&inner)).await;
}

async fn beat(inner: &Arc<Inner>) {
    let period = inner.config.term().heartbeat();
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cancels = cancels(Arc::clone(inner)).ready_chunks(CANCELS);
    let mut again = Vec::new();
    let mut again_at = tokio::time::Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if !renew(inner, inner.held.leases()).await {
                    // Sooner than the next beat: every try counts before the leases are over.
                    ticks.reset_after(period / 4);
                }
            }
            // The bus is a hint: the store is asked whether the run is really to be cancelled.
            runs = cancels.next() => {
                let runs = runs.unwrap_or_default();
                if again.is_empty() {
                    again_at = tokio::time::Instant::now() + SECOND_LOOK;
                }
                let room = SECOND_LOOKS.saturating_sub(again.len());
                again.extend(runs.iter().take(room).copied());
                renew(inner, inner.held.leases_of(&runs)).await;
            }
            () = tokio::time::sleep_until(again_at), if !again.is_empty() => {
                let runs = std::mem::take(&mut again);
                renew(inner, inner.held.leases_of(&runs)).await;
            }
        }
    }
}

/// Renews leases; false when the store did not answer.
async fn renew(inner: &Inner, leases: Vec<Lease>) -> bool {
    if leases.is_empty() {
        return true;
    }
    let ttl = inner.config.term().ttl;
    let sent = Instant::now();
    let answer = tokio::time::timeout(ttl / 3, inner.deps.store.renew(inner.id, &leases, ttl)).await;
    let away = match answer {
        Ok(Ok(renewals)) if renewals.len() == leases.len() => {
            for (lease, renewal) in leases.iter().zip(renewals) {
                renewed(inner, lease, renewal, sent);
            }
            return true;
        }
        Ok(Ok(renewals)) => format!("{} answers to {} renewals", renewals.len(), leases.len()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("renew: no answer within {:?}", ttl / 3),
    };
    tracing::warn!(error = away, leases = leases.len(), "leases are not renewed");
    inner.deps.readiness.set("store", Err(away));
    false
}

fn renewed(inner: &Inner, lease: &Lease, renewal: Renewal, sent: Instant) {
    match renewal {
        Renewal::Held { cancel } => {
            inner.held.confirm(lease, sent);
            if cancel && inner.held.stop(lease, Stop::Cancelled) {
                tracing::info!(run = %lease.run, "cancel asked for");
            }
        }
        Renewal::Lost => {
            if inner.held.stop(lease, Stop::Lost) {
                metrics::counter!(LEASES_LOST_TOTAL).increment(1);
                tracing::warn!(run = %lease.run, epoch = lease.epoch, "lease lost: execution stops");
            }
        }
    }
}

/// Runs to cancel, from the bus for as long as it takes to get one, across its absences.
fn cancels(inner: Arc<Inner>) -> BoxStream<'static, RunId> {
    let subscriptions = stream::unfold((inner, Backoff::default()), |(inner, mut backoff)| async move {
        loop {
            match inner.deps.bus.cancels().await {
                Ok(runs) => {
                    // A subscription that ends at once must not be renewed in a busy loop.
                    backoff.wait().await;
                    return Some((runs, (inner, Backoff::default())));
                }
                Err(error) => {
                    tracing::debug!(%error, "cancels come with the heartbeat only");
                    backoff.wait().await;
                }
            }
        }
    });
    subscriptions.flatten().boxed()
}

/// Watches for leases that were not confirmed for a whole term: this worker must assume that they are lost, whether or
/// not anybody answers.
pub(crate) async fn lapse(inner: Arc<Inner>, ending: CancellationToken) {
    let ttl = inner.config.term().ttl;
    let mut ticks =
        tokio::time::interval((ttl / 20).clamp(Duration::from_millis(10), Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while ending.run_until_cancelled(ticks.tick()).await.is_some() {
        for lease in inner.held.lapse(ttl, Instant::now()) {
            metrics::counter!(LEASES_LOST_TOTAL).increment(1);
            tracing::warn!(run = %lease.run, "lease not renewed for its whole term: execution stops");
        }
    }
}
