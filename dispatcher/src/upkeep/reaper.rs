//! Ends leases that ran out: their workers were lost.

use tokio_util::sync::CancellationToken;

use super::{Upkeep, pause, seconds};

/// Leases ended in one transaction.
const LEASES: u32 = 500;

pub(super) async fn run(upkeep: &Upkeep, stop: &CancellationToken) {
    let interval = seconds(upkeep.intervals.reap_s);
    loop {
        while !stop.is_cancelled() {
            match upkeep.store.reap(LEASES).await {
                Ok((events, row)) => {
                    upkeep.send(row);
                    if events.is_empty() {
                        break;
                    }
                    tracing::info!(events = events.len(), "ended leases that ran out");
                    upkeep.announce(events).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "leases cannot be reaped");
                    break;
                }
            }
        }
        if !pause(interval, stop).await {
            return;
        }
    }
}
