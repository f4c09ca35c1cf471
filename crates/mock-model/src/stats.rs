//! What was asked, counted.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use serde::Serialize;
use serde_json::Value;

/// Different messages counted by name at most; further ones are only counted together.
const MAX_MESSAGES: usize = 100_000;
/// Longest name of a message in the counts.
const MAX_NAME: usize = 200;

/// The counts so far.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Snapshot {
    /// Chat completions asked for, failed ones included.
    pub requests: u64,
    pub failed: u64,
    /// Answers sent to the end.
    pub answered: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Requests that were not failed, by the last message of the user, when they came in.
    pub counts: BTreeMap<String, u64>,
    /// Requests whose message found no more room in `counts`.
    pub uncounted: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<Snapshot>, Mutex<VecDeque<Bytes>>);

impl Stats {
    fn with<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request and says its number, from one.
    pub(crate) fn request(&self) -> u64 {
        self.with(|stats| {
            stats.requests += 1;
            stats.requests
        })
    }

    /// Keeps a body, and `most` at most.
    pub(crate) fn keep(&self, body: &Bytes, most: usize) {
        if most > 0 {
            let mut kept = self.1.lock().unwrap_or_else(PoisonError::into_inner);
            while kept.len() >= most {
                kept.pop_front();
            }
            kept.push_back(body.clone());
        }
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        let kept = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .filter_map(|body| serde_json::from_slice(body).ok())
            .collect()
    }

    pub(crate) fn failed(&self) {
        self.with(|stats| stats.failed += 1);
    }

    pub(crate) fn asked(&self, message: &str, input_tokens: u64) {
        let end = message
            .char_indices()
            .nth(MAX_NAME)
            .map_or(message.len(), |(at, _)| at);
        let name = &message[..end];
        self.with(|stats| {
            stats.input_tokens += input_tokens;
            let full = stats.counts.len() >= MAX_MESSAGES;
            match stats.counts.entry(name.to_owned()) {
                Entry::Occupied(mut count) => *count.get_mut() += 1,
                Entry::Vacant(_) if full => stats.uncounted += 1,
                Entry::Vacant(place) => {
                    place.insert(1);
                }
            }
        });
    }

    pub(crate) fn answered(&self, output_tokens: u64) {
        self.with(|stats| {
            stats.answered += 1;
            stats.output_tokens += output_tokens;
        });
    }

    pub(crate) fn reset(&self) {
        self.with(|stats| *stats = Snapshot::default());
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.with(|stats| stats.clone())
    }

    pub(crate) fn requests(&self) -> u64 {
        self.with(|stats| stats.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_bounded() {
        let stats = Stats::default();
        for n in 0..MAX_MESSAGES + 5 {
            stats.asked(&n.to_string(), 1);
        }
        stats.asked("0", 1);
        stats.asked(&"é".repeat(1000), 0);
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.counts.len(), MAX_MESSAGES);
        assert_eq!((snapshot.uncounted, snapshot.counts["0"]), (6, 2));
        stats.reset();
        stats.asked(&"é".repeat(1000), 0);
        assert_eq!(
            stats
                .snapshot()
                .counts
                .keys()
                .next()
                .map(|name| name.chars().count()),
            Some(MAX_NAME)
        );
    }
}
