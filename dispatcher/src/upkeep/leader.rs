//! Leadership: one dispatcher at a time runs the loops; another takes over when it goes.

use flowfleet_core::port::Leadership;
use tokio_util::sync::CancellationToken;

use super::{Upkeep, audit, gauges, pause, reaper, reconciler, scheduler, seconds, sweep};
use crate::metrics::LEADER;

const ROLE: &str = "dispatcher";

/// Leads whenever nobody else does, until `stop`.
pub(crate) async fn run(upkeep: Upkeep, stop: CancellationToken) {
    metrics::gauge!(LEADER).set(0.0);
    let interval = seconds(upkeep.intervals.lead_s);
    while !stop.is_cancelled() {
        match upkeep.store.lead(ROLE).await {
            Ok(Some(leadership)) => lead(&upkeep, leadership, &stop).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot ask for the leadership"),
        }
        if !pause(interval, &stop).await {
            return;
        }
    }
}

async fn lead(upkeep: &Upkeep, mut leadership: Box<dyn Leadership>, stop: &CancellationToken) {
    tracing::info!("leading");
    metrics::gauge!(LEADER).set(1.0);
    let over = stop.child_token();
    let loops = async {
        tokio::join!(
            sweep::run(upkeep, &over),
            reaper::run(upkeep, &over),
            scheduler::run(upkeep, &over),
            reconciler::run(upkeep, &over),
            gauges::run(upkeep, &over),
            audit::run(upkeep, &over),
        )
    };
    let watch = async {
        while pause(seconds(upkeep.intervals.lead_s), &over).await {
            if !leadership.holds().await {
                tracing::warn!("the leadership was lost");
                break;
            }
        }
        over.cancel();
    };
    tokio::join!(loops, watch);
    metrics::gauge!(LEADER).set(0.0);
}
