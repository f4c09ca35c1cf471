//! The gauges that describe the whole fleet; only the leader sets them, so that they do not add up twice. Slots are not
//! among them: every worker shows its own.

use std::collections::{BTreeMap, HashMap};

use flowfleet_core::port::Backlog;
use metrics::{Gauge, gauge};
use tokio_util::sync::CancellationToken;

use super::{Upkeep, pause, seconds};
use crate::api::fleet::{Capacity, capacity};
use crate::metrics::{QUEUE_OLDEST, QUEUE_RUNS, WORKERS, queue_label};

/// Gauges that were set, so that one whose subject is gone goes to zero instead of staying as it was.
#[derive(Default)]
struct Board(HashMap<(&'static str, String, &'static str), (Gauge, bool)>);

impl Board {
    fn set(&mut self, name: &'static str, subject: &str, state: &'static str, value: f64) {
        let entry = self
            .0
            .entry((name, subject.to_owned(), state))
            .or_insert_with(|| {
                let subject = subject.to_owned();
                let gauge = match name {
                    QUEUE_OLDEST => gauge!(name, "queue" => subject),
                    QUEUE_RUNS => gauge!(name, "queue" => subject, "state" => state),
                    _ => gauge!(name, "lifecycle" => subject, "state" => state),
                };
                (gauge, true)
            });
        entry.0.set(value);
        entry.1 = true;
    }

    /// Zeroes those of `names` that were not set since the last call.
    fn settle(&mut self, names: &[&str]) {
        for ((name, ..), (gauge, fresh)) in &mut self.0 {
            if names.contains(name) && !std::mem::take(fresh) {
                gauge.set(0.0);
            }
        }
    }
}

pub(super) async fn run(upkeep: &Upkeep, stop: &CancellationToken) {
    let mut board = Board::default();
    loop {
        if let Ok(backlog) = upkeep.store.backlog().await {
            queues(&mut board, &backlog);
        }
        if let Ok(workers) = upkeep.bus.workers().await {
            fleet(&mut board, &capacity(&workers));
        }
        if !pause(seconds(upkeep.intervals.gauges_s), stop).await {
            break;
        }
    }
    for (gauge, _) in board.0.values() {
        gauge.set(0.0);
    }
}

fn queues(board: &mut Board, backlog: &[Backlog]) {
    let mut sums: BTreeMap<String, ([u64; 3], Option<f64>)> = BTreeMap::new();
    for line in backlog {
        let (counts, oldest) = sums.entry(queue_label(line.queue.as_str())).or_default();
        for (sum, n) in counts.iter_mut().zip([line.scheduled, line.queued, line.running]) {
            *sum += n;
        }
        let at = line.oldest_queued_at.map(|at| at.as_duration().as_secs_f64());
        *oldest = match (*oldest, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    for (queue, ([scheduled, queued, running], oldest)) in sums {
        board.set(QUEUE_RUNS, &queue, "scheduled", scheduled as f64);
        board.set(QUEUE_RUNS, &queue, "queued", queued as f64);
        board.set(QUEUE_RUNS, &queue, "running", running as f64);
        board.set(QUEUE_OLDEST, &queue, "", oldest.unwrap_or(0.0));
    }
    board.settle(&[QUEUE_RUNS, QUEUE_OLDEST]);
}

fn fleet(board: &mut Board, capacity: &[Capacity]) {
    for sum in capacity {
        let lifecycle = sum.lifecycle.as_str();
        board.set(WORKERS, lifecycle, "accepting", f64::from(sum.accepting));
        board.set(WORKERS, lifecycle, "draining", f64::from(sum.draining));
        board.set(WORKERS, lifecycle, "drained", f64::from(sum.drained));
        board.set(WORKERS, lifecycle, "unready", f64::from(sum.unready));
    }
    board.settle(&[WORKERS]);
}
