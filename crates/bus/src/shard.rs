//! Runs share channels: a fixed number of them, so that one message speaks of many runs.
//!
//! A process that listens to a run is sent what happens to all runs of its shard, and skips what nobody here asked for
//! without reading it. A publisher in turn sends few messages however many runs it speaks of.

use flowfleet_core::id::RunId;

/// Part of what processes agree on: a power of two.
pub(crate) const SHARDS: usize = 32;

/// One of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shard(u8);

impl Shard {
    /// By the last bits of the run's id, which are random; the first ones tell the time.
    pub(crate) fn of(run: RunId) -> Self {
        let [.., last] = run.0.into_bytes();
        Self(last % SHARDS as u8)
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS as u8).map(Self)
    }

    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_spread_over_all_shards() {
        let mut runs = [0_usize; SHARDS];
        for _ in 0..SHARDS * 200 {
            runs[Shard::of(RunId::generate()).number()] += 1;
        }
        assert!(runs.iter().all(|count| (100..400).contains(count)), "{runs:?}");
    }
}
