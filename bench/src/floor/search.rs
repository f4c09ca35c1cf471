//! How many connections and how large batches make the floor fastest here: one setting after the other is tried
//! at a few values, and the best is kept.

use std::fmt;

use super::Running;
use crate::contender::Mode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuning {
    committers: usize,
    insert: usize,
    lanes: usize,
    claim: usize,
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} × inserts of {}, {} × claims of {}",
            self.committers, self.insert, self.lanes, self.claim
        )
    }
}

impl Tuning {
    /// Where the search begins, and what is used without one.
    pub(super) fn usual(mode: Mode) -> Self {
        Self {
            committers: if mode == Mode::Batch { 2 } else { 1 },
            insert: 500,
            lanes: 2,
            claim: 500,
        }
    }

    pub(super) fn front(self) -> Vec<String> {
        flags(&[("--committers", self.committers), ("--batch", self.insert)])
    }

    pub(super) fn worker(self) -> Vec<String> {
        flags(&[("--lanes", self.lanes), ("--batch", self.claim)])
    }

    /// This one with one setting at each of a few other values, setting by setting.
    fn alternatives(setting: usize) -> impl Iterator<Item = fn(Self) -> Self> {
        type Change = fn(Tuning) -> Tuning;
        let changes: &'static [Change] = match setting {
            0 => &[|t| Self { committers: 1, ..t }, |t| Self { committers: 4, ..t }],
            1 => &[|t| Self { lanes: 1, ..t }, |t| Self { lanes: 4, ..t }],
            2 => &[|t| Self { claim: 200, ..t }, |t| Self { claim: 2000, ..t }],
            _ => &[|t| Self { insert: 200, ..t }, |t| Self { insert: 2000, ..t }],
        };
        changes.iter().copied()
    }
}

fn flags(flags: &[(&str, usize)]) -> Vec<String> {
    flags
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), value.to_string()])
        .collect()
}

/// The better of two rounds: a disturbance only ever makes a round slower.
async fn seconds(running: &mut Running, mode: Mode, runs: usize) -> anyhow::Result<f64> {
    let first = running.round(mode, runs).await?.total_s;
    Ok(first.min(running.round(mode, runs).await?.total_s))
}

/// Leaves the processes running with the best settings.
pub(super) async fn best(running: Running, mode: Mode, runs: usize) -> anyhow::Result<(Running, Tuning)> {
    let mut best = Tuning::usual(mode);
    let mut running = running.stop().await?.start(best).await?;
    let mut least = seconds(&mut running, mode, runs).await?;
    for setting in 0..4 {
        let base = best;
        for change in Tuning::alternatives(setting) {
            let tuning = change(base);
            if tuning == base {
                continue;
            }
            running = running.stop().await?.start(tuning).await?;
            let took = seconds(&mut running, mode, runs).await?;
            if took < least {
                (best, least) = (tuning, took);
            }
        }
    }
    let running = running.stop().await?.start(best).await?;
    Ok((running, best))
}
