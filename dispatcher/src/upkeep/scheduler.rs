//! Moves due runs to the queue, at the moment they are due, and expires those that waited too long.

use std::time::Duration;

use flowfleet_core::clock::seconds_between;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Upkeep, seconds};

/// Runs moved in one transaction.
const RUNS: u32 = 1_000;

/// The shortest sleep: the store's clock decides what is due and may be a little behind this one.
const SHORTEST: Duration = Duration::from_millis(20);

pub(super) async fn run(upkeep: &Upkeep, stop: &CancellationToken) {
    let longest = seconds(upkeep.intervals.schedule_s);
    loop {
        promote(upkeep, stop).await;
        expire(upkeep, stop).await;
        let sleep = match upkeep.store.next_due().await {
            Ok(due) => until(due, Timestamp::now(), longest),
            Err(_) => longest,
        };
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = upkeep.scheduled.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// How long to sleep when the next run is due at `due`.
fn until(due: Option<Timestamp>, now: Timestamp, longest: Duration) -> Duration {
    let Some(due) = due else { return longest };
    Duration::try_from_secs_f64(seconds_between(now, due))
        .unwrap_or(longest)
        .clamp(SHORTEST, longest.max(SHORTEST))
}

async fn promote(upkeep: &Upkeep, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match upkeep.store.promote_due(RUNS).await {
            Ok((moved, row)) => {
                upkeep.send(row);
                if moved < RUNS {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "due runs cannot be queued");
                return;
            }
        }
    }
}

async fn expire(upkeep: &Upkeep, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match upkeep.store.expire(RUNS).await {
            Ok(events) => {
                let last = events.len() < RUNS as usize;
                upkeep.announce(events).await;
                if last {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "runs cannot be expired");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_until_the_next_run_is_due_but_within_bounds() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(until(None, now, second), second);
        assert_eq!(
            until(Some(now + Duration::from_millis(300)), now, second),
            Duration::from_millis(300)
        );
        assert_eq!(until(Some(now + Duration::from_secs(300)), now, second), second);
        assert_eq!(until(Some(now - second), now, second), SHORTEST);
    }
}
