//! The lease: a worker may touch a run only while it holds one (invariant I2).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::RunId;

/// The right to execute one run. `epoch` is the fencing token: it grows with every claim, every write of a
/// worker names it, and the store refuses any but the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    pub run: RunId,
    /// Which attempt this is, as the user counts: grows with failures, not with interruptions.
    pub attempt: u32,
    pub epoch: u64,
}

/// How long a lease lasts and how often it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    pub ttl: Duration,
}

impl Term {
    /// A heartbeat leaves room for two lost ones before the lease ends.
    pub fn heartbeat(self) -> Duration {
        self.ttl / 3
    }
}

impl Default for Term {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
        }
    }
}

/// Whether a lease that ends at `until` is over at `now`. The end belongs to the holder.
pub fn expired(until: Timestamp, now: Timestamp) -> bool {
    now > until
}

/// Whether a write under `held` may be applied to a run whose newest epoch is `current`.
pub fn fences(held: u64, current: u64, running: bool) -> bool {
    running && held == current
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_instant_still_belongs_to_the_holder() {
        let end = Timestamp::UNIX_EPOCH;
        assert!(!expired(end, end));
        assert!(expired(end, crate::clock::later(end, Duration::from_nanos(1))));
    }

    proptest! {
        #[test]
        fn at_most_one_epoch_may_write(current in 0u64..100, a in 0u64..100, b in 0u64..100) {
            if fences(a, current, true) && fences(b, current, true) {
                prop_assert_eq!(a, b);
            }
            prop_assert!(!fences(a, current, false));
        }

        #[test]
        fn two_heartbeats_may_be_lost(ms in 3u64..10_000_000) {
            let term = Term { ttl: Duration::from_millis(ms) };
            prop_assert!(term.heartbeat() * 3 <= term.ttl);
        }
    }
}
