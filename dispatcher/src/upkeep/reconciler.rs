//! Compares what the store says is queued with what the broker holds (invariant I1): messages that were lost, by a
//! purge or a broker that forgot, are published again.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use flowfleet_core::Pool;
use flowfleet_core::error::PortError;
use tokio_util::sync::CancellationToken;

use super::{Upkeep, pause, seconds};
use crate::metrics::REPUBLISHED;

/// Runs published again in one row.
const RUNS: u32 = 5_000;

/// Looks in a row that must find too few messages: one may fall between a claim and its acknowledgement.
const LOOKS: u32 = 2;

pub(super) async fn run(upkeep: &Upkeep, stop: &CancellationToken) {
    if upkeep.queue_is_memory {
        rebuild(upkeep, stop).await;
    }
    let mut short: HashMap<Pool, u32> = HashMap::new();
    while pause(seconds(upkeep.intervals.reconcile_s), stop).await {
        if let Err(error) = look(upkeep, &mut short).await {
            tracing::debug!(%error, "the backlog cannot be compared");
        }
    }
}

/// Fills a queue that starts empty with everything that is queued.
async fn rebuild(upkeep: &Upkeep, stop: &CancellationToken) {
    let began = Instant::now();
    loop {
        match fill(upkeep, began).await {
            Ok(0) => return,
            Ok(runs) => tracing::info!(runs, "the queue was rebuilt from the store"),
            Err(error) => {
                tracing::warn!(%error, "the queue cannot be rebuilt yet");
            }
        }
        if !pause(seconds(upkeep.intervals.schedule_s), stop).await {
            return;
        }
    }
}

/// Publishes each queued run whose message is from before `began`.
async fn fill(upkeep: &Upkeep, began: Instant) -> Result<u64, PortError> {
    let mut published = 0;
    for pool in queued(upkeep).await?.into_keys() {
        // The age grows with this loop, so that what it has published is not found again.
        while let Some(row) = upkeep.store.republish(&pool, began.elapsed(), RUNS).await? {
            published += row.envelopes.len() as u64;
            upkeep.relay.send(row);
            upkeep.relay.idle().await;
        }
    }
    Ok(published)
}

async fn look(upkeep: &Upkeep, short: &mut HashMap<Pool, u32>) -> Result<(), PortError> {
    let queued = queued(upkeep).await?;
    short.retain(|pool, _| queued.contains_key(pool));
    let age = seconds(upkeep.intervals.reconcile_age_s);
    for (pool, wanted) in queued {
        // One pool that the broker refuses must not keep the others from being looked at.
        if let Err(error) = compare(upkeep, short, &pool, wanted, age).await {
            tracing::debug!(%error, %pool, "a pool cannot be compared");
        }
    }
    Ok(())
}

async fn compare(
    upkeep: &Upkeep,
    short: &mut HashMap<Pool, u32>,
    pool: &Pool,
    wanted: u64,
    age: Duration,
) -> Result<(), PortError> {
    let depth = upkeep.queue.depth(pool).await?.total();
    if depth >= wanted {
        short.remove(pool);
        return Ok(());
    }
    let looks = short.entry(pool.clone()).or_default();
    *looks += 1;
    if *looks < LOOKS {
        return Ok(());
    }
    let missing = u32::try_from(wanted - depth).unwrap_or(RUNS).min(RUNS);
    if let Some(row) = upkeep.store.republish(pool, age, missing).await? {
        let runs = row.envelopes.len();
        tracing::info!(%pool, queued = wanted, depth, runs, "publishing again what the broker does not hold");
        metrics::counter!(REPUBLISHED, "reason" => "reconcile").increment(runs as u64);
        upkeep.relay.send(row);
    }
    Ok(())
}

/// Queued runs by pool.
async fn queued(upkeep: &Upkeep) -> Result<BTreeMap<Pool, u64>, PortError> {
    let mut sums = BTreeMap::new();
    for line in upkeep.store.backlog().await? {
        if line.queued > 0 {
            *sums.entry(line.pool()).or_default() += line.queued;
        }
    }
    Ok(sums)
}
