//! From messages to claimed runs, never more than there are free slots (invariant I3: acknowledged as soon as the
//! claim is committed, not when the run ends).

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowfleet_core::error::PortError;
use flowfleet_core::port::{Claim, Consumer, Delivery, Receipt};
use flowfleet_core::{Capabilities, RunId};
use flowfleet_runtime::backoff::Backoff;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::{Inner, execute};

/// Runs in one claim.
const BATCH: usize = 500;

/// Messages held at most a pool and priority, however many slots there are.
const PREFETCH: u32 = 200;

/// A slot that frees within this time is waited for before buffered messages are given back: pausing costs a round
/// trip and a redelivery.
const GRACE: Duration = Duration::from_millis(100);

/// How often a quiet consumer is asked whether it is still connected.
const CHECK: Duration = Duration::from_secs(1);

/// How long a claim may take. Longer than this is a store that is away; what it granted all the same runs out.
const CLAIM_PATIENCE: Duration = Duration::from_secs(15);

/// Takes runs until the worker drains; answers the executions it started.
pub(crate) async fn run(inner: Arc<Inner>) -> JoinSet<()> {
    let mut runs = JoinSet::new();
    let mut backoff = Backoff::default();
    let mut window = Window::Wide;
    let mut booted = false;
    inner
        .deps
        .readiness
        .set("consuming", Err("not consuming yet".to_owned()));
    let mut abilities = inner.abilities.watch();
    while !inner.draining.is_cancelled() {
        if inner.steering.is_draining() {
            rest(&inner, &mut runs).await;
            continue;
        }
        let pools = abilities.borrow_and_update().pools(&inner.queues);
        if pools.is_empty() {
            let nothing = "this worker can do nothing that a run needs: see its setting capabilities";
            inner.deps.readiness.set("consuming", Err(nothing.to_owned()));
            let _ = inner.draining.run_until_cancelled(abilities.changed()).await;
            continue;
        }
        let opening = inner
            .deps
            .queue
            .consume(&pools, window.prefetch(inner.config.slots));
        let error = match inner.draining.run_until_cancelled(opening).await {
            None => break,
            Some(Err(error)) => error,
            Some(Ok(mut consumer)) => {
                show_connected(&inner, &*consumer);
                inner.changed.notify_one();
                if !std::mem::replace(&mut booted, true) {
                    inner.accepting();
                }
                let began = Instant::now();
                let ended = take(&inner, &mut *consumer, window, &mut abilities, &mut runs).await;
                if let Err(error) = consumer.pause().await {
                    tracing::debug!(%error, "buffered messages come back when the consumer is gone");
                }
                if began.elapsed() > CHECK * 10 {
                    backoff.reset();
                }
                match ended {
                    // Which of the two, the next round sees.
                    Ok(Ended::Draining) => continue,
                    Ok(Ended::Stalled) => {
                        inner
                            .deps
                            .readiness
                            .set("consuming", Err("replacing its consumer".to_owned()));
                        continue;
                    }
                    Ok(Ended::Resize(wanted)) => {
                        window = wanted;
                        continue;
                    }
                    Ok(Ended::Changed) => {
                        tracing::info!(can = ?inner.abilities.now(), "what this worker can do has changed");
                        continue;
                    }
                    Err(error) => error,
                }
            }
        };
        tracing::warn!(%error, "the queue does not let this worker consume");
        inner.deps.readiness.set("consuming", Err(error.to_string()));
        let _ = inner.draining.run_until_cancelled(backoff.wait()).await;
    }
    runs
}

/// Told to drain: waits until it is told to accept again, or ends.
async fn rest(inner: &Inner, runs: &mut JoinSet<()>) {
    let told = "told to drain; `flowfleet fleet undrain` lets it accept runs again";
    inner.deps.readiness.set("consuming", Err(told.to_owned()));
    loop {
        tokio::select! {
            () = inner.draining.cancelled() => return,
            () = inner.steering.told_to_accept() => return,
            Some(ended) = runs.join_next() => said(ended),
        }
    }
}

/// Ends when no more runs are to be taken.
async fn closed(inner: &Inner) {
    tokio::select! {
        () = inner.draining.cancelled() => {}
        () = inner.steering.told_to_drain() => {}
    }
}

fn said(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an execution broke off; its lease will run out");
    }
}

fn show_connected(inner: &Inner, consumer: &dyn Consumer) {
    let connected = match inner.vigil.complaint() {
        _ if !consumer.connected() => Err("reconnecting to the queue".to_owned()),
        Some(complaint) => Err(complaint.to_owned()),
        None => Ok(()),
    };
    inner.deps.readiness.set("consuming", connected);
}

/// How many messages the broker may hand over ahead. A busy worker that frees one slot at a time would otherwise take
/// and give back a slot's worth of messages for each run it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// As many as there are slots.
    Wide,
    /// A few.
    Narrow,
}

impl Window {
    /// Messages held at most a pool and priority.
    fn prefetch(self, slots: u32) -> u16 {
        let wanted = match self {
            Self::Wide => slots.min(PREFETCH),
            Self::Narrow => (slots / 16).max(1),
        };
        u16::try_from(wanted).unwrap_or(u16::MAX)
    }

    /// The window to go on with, when `free` of `slots` are free; `exhausted` if none was for a while just before.
    fn fit(self, free: usize, slots: u32, exhausted: bool) -> Self {
        let slots = slots as usize;
        match self {
            Self::Wide if exhausted && free * 4 < slots => Self::Narrow,
            Self::Narrow if free * 2 >= slots => Self::Wide,
            same => same,
        }
    }
}

/// Why consuming ended.
enum Ended {
    /// The worker drains, to its end or as it was told to.
    Draining,
    /// The consumer is given nothing although there is work.
    Stalled,
    Resize(Window),
    /// It can do something else than before.
    Changed,
}

/// Consumes until the worker drains, wants another window, or the consumer breaks.
async fn take(
    inner: &Arc<Inner>,
    consumer: &mut dyn Consumer,
    window: Window,
    abilities: &mut watch::Receiver<Capabilities>,
    runs: &mut JoinSet<()>,
) -> Result<Ended, PortError> {
    let mut backoff = Backoff::default();
    loop {
        while let Some(ended) = runs.try_join_next() {
            said(ended);
        }
        let Some((slots, exhausted)) = free_slots(inner, consumer).await? else {
            return Ok(Ended::Draining);
        };
        let wanted = window.fit(slots.num_permits(), inner.config.slots, exhausted);
        if wanted != window && wanted.prefetch(inner.config.slots) != window.prefetch(inner.config.slots) {
            return Ok(Ended::Resize(wanted));
        }
        let received = tokio::select! {
            biased;
            () = closed(inner) => return Ok(Ended::Draining),
            () = inner.vigil.replace.notified() => return Ok(Ended::Stalled),
            _ = abilities.changed() => return Ok(Ended::Changed),
            received = tokio::time::timeout(CHECK, consumer.receive(slots.num_permits())) => received,
        };
        if received.as_ref().is_ok_and(Result::is_ok) {
            inner.vigil.fed();
        }
        show_connected(inner, consumer);
        let Ok(received) = received else { continue };
        let deliveries = received?;
        if let Some(protection) = &inner.protection {
            protection.keep().await;
        }
        let receipts: Vec<Receipt> = deliveries.iter().map(|delivery| delivery.receipt).collect();
        match claim(inner, &deliveries).await {
            Ok((claims, confirmed)) => {
                start(inner, runs, slots, deliveries, claims, confirmed);
                backoff.reset();
                if let Err(error) = consumer.ack(&receipts).await {
                    // The messages come again and will not be claimable.
                    tracing::debug!(%error, "claimed messages are not acknowledged");
                }
            }
            Err(error) => {
                tracing::warn!(%error, messages = receipts.len(), "runs cannot be claimed: giving messages back");
                inner.deps.readiness.set("store", Err(error.to_string()));
                drop(slots);
                consumer.reject(&receipts).await?;
                consumer.pause().await?;
                let _ = inner.draining.run_until_cancelled(backoff.wait()).await;
            }
        }
    }
}

/// Waits for at least one free slot and takes all there are, and says whether messages were given back before one was
/// free. `None` when the worker drains.
async fn free_slots(
    inner: &Inner,
    consumer: &mut dyn Consumer,
) -> Result<Option<(OwnedSemaphorePermit, bool)>, PortError> {
    let slots = &inner.slots;
    let mut taken = tokio::select! {
        biased;
        () = closed(inner) => return Ok(None),
        permit = Arc::clone(slots).acquire_owned() => permit.ok(),
        () = tokio::time::sleep(GRACE) => None,
    };
    let exhausted = taken.is_none();
    if exhausted {
        consumer.pause().await?;
        taken = tokio::select! {
            biased;
            () = closed(inner) => None,
            permit = Arc::clone(slots).acquire_owned() => permit.ok(),
        };
    }
    let Some(mut taken) = taken else { return Ok(None) };
    let more = slots.available_permits().min(BATCH - 1);
    if let Ok(rest) = Arc::clone(slots).try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
        taken.merge(rest);
    }
    Ok(Some((taken, exhausted)))
}

/// Claims what was received; answers with the moment since which the leases certainly hold.
async fn claim(inner: &Inner, deliveries: &[Delivery]) -> Result<(Vec<Claim>, Instant), PortError> {
    let ids: Vec<RunId> = deliveries.iter().map(|delivery| delivery.message.run).collect();
    let confirmed = Instant::now();
    match claim_batch(inner, &ids).await {
        Ok(claims) => Ok((claims, confirmed)),
        Err(error) if error.is_retryable() => Err(error),
        Err(refused) => {
            // One run that cannot be read must not hold up all the others.
            tracing::warn!(error = %refused, runs = ids.len(), "a batch of claims was refused: one by one");
            let mut claims = Vec::with_capacity(ids.len());
            for run in ids {
                match claim_batch(inner, &[run]).await {
                    Ok(one) => claims.extend(one),
                    Err(error) if error.is_retryable() && claims.is_empty() => return Err(error),
                    Err(error) => {
                        tracing::error!(%error, %run, "this run cannot be claimed");
                        claims.push(Claim::NotClaimable);
                    }
                }
            }
            Ok((claims, confirmed))
        }
    }
}

async fn claim_batch(inner: &Inner, ids: &[RunId]) -> Result<Vec<Claim>, PortError> {
    let ttl = inner.config.term().ttl;
    let can = inner.abilities.now();
    let claims = inner.deps.store.claim(inner.id, &can, ids, ttl);
    let claims = tokio::time::timeout(CLAIM_PATIENCE, claims).await;
    let late = |_| {
        PortError::new(
            flowfleet_core::Kind::Retryable,
            "claim",
            format!("no answer within {CLAIM_PATIENCE:?}"),
        )
    };
    let claims = claims.map_err(late)??;
    if claims.len() != ids.len() {
        return Err(PortError::bug(
            "claim",
            format!("{} answers to {} claims", claims.len(), ids.len()),
        ));
    }
    Ok(claims)
}

fn start(
    inner: &Arc<Inner>,
    runs: &mut JoinSet<()>,
    mut slots: OwnedSemaphorePermit,
    deliveries: Vec<Delivery>,
    claims: Vec<Claim>,
    confirmed: Instant,
) {
    for (delivery, claim) in deliveries.into_iter().zip(claims) {
        let Claim::Claimed(claimed) = claim else { continue };
        let held = inner.held.hold(claimed.lease, confirmed);
        inner.claimed();
        let slot = slots.split(1);
        debug_assert!(slot.is_some(), "no more is received than there are slots");
        runs.spawn(execute::run(
            Arc::clone(inner),
            claimed,
            held,
            delivery.message.trace,
            slot,
        ));
    }
    inner.show_slots();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_table() {
        assert_eq!((Window::Wide.prefetch(64), Window::Narrow.prefetch(64)), (64, 4));
        assert_eq!(
            (Window::Wide.prefetch(10_000), Window::Narrow.prefetch(3)),
            (200, 1)
        );
        for (window, free, exhausted, expected) in [
            (Window::Wide, 1, true, Window::Narrow),
            (Window::Wide, 1, false, Window::Wide),
            (Window::Wide, 16, true, Window::Wide),
            (Window::Narrow, 31, true, Window::Narrow),
            (Window::Narrow, 32, false, Window::Wide),
        ] {
            assert_eq!(
                window.fit(free, 64, exhausted),
                expected,
                "{window:?} {free} {exhausted}"
            );
        }
    }
}
