//! Publishes what an outbox row still says was not published: its owner died, or the broker was away for too long.

use tokio_util::sync::CancellationToken;

use super::{Upkeep, pause, seconds};
use crate::metrics::REPUBLISHED;

/// Rows taken at once.
const ROWS: u32 = 200;

pub(super) async fn run(upkeep: &Upkeep, stop: &CancellationToken) {
    let (interval, age) = (
        seconds(upkeep.intervals.sweep_s),
        seconds(upkeep.intervals.sweep_age_s),
    );
    loop {
        // Rows that this process is publishing are left over only in looks: let the relay finish first, but not for
        // ever, since under steady load it is never idle.
        let _ = stop
            .run_until_cancelled(tokio::time::timeout(interval, upkeep.relay.idle()))
            .await;
        match upkeep.store.outbox_leftover(age, ROWS).await {
            Ok(rows) if !rows.is_empty() => {
                let runs: usize = rows.iter().map(|row| row.envelopes.len()).sum();
                tracing::info!(rows = rows.len(), runs, "publishing what was left in the outbox");
                metrics::counter!(REPUBLISHED, "reason" => "outbox").increment(runs as u64);
                for row in rows {
                    upkeep.relay.send(row);
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the outbox cannot be read"),
        }
        if !pause(interval, stop).await {
            return;
        }
    }
}
