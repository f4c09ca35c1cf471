//! Metrics of the worker. Those of nodes and model tokens are the engine's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flowfleet_core::event::EventKind;
use flowfleet_core::run::EndedBecause;
use flowfleet_runtime::metrics::{RUNS_FINISHED_TOTAL, SLOTS};
use metrics::{Unit, describe_counter, describe_histogram};

/// From queued to started.
pub const RUN_WAIT_SECONDS: &str = "flowfleet_run_wait_seconds";
/// The last attempt of a run, from its start to the commit of its end.
pub const RUN_DURATION_SECONDS: &str = "flowfleet_run_duration_seconds";
pub const ATTEMPTS_ENDED_TOTAL: &str = "flowfleet_attempts_ended_total";
pub const LEASES_LOST_TOTAL: &str = "flowfleet_leases_lost_total";
pub const DRAIN_SECONDS: &str = "flowfleet_drain_seconds";
pub const WORKER_BOOT_SECONDS: &str = "flowfleet_worker_boot_seconds";
/// Live events that no listener will see, because the bus was away or slow.
pub const LIVE_DROPPED_TOTAL: &str = "flowfleet_live_dropped_total";
/// Writes of one kind that went to the store as one batch.
pub const JOURNAL_BATCH_SIZE: &str = "flowfleet_journal_batch_size";

/// Describes them to the exporter.
pub fn describe() {
    describe_histogram!(RUN_WAIT_SECONDS, Unit::Seconds, "From queued to started");
    describe_histogram!(
        RUN_DURATION_SECONDS,
        Unit::Seconds,
        "The last attempt of a run, by outcome"
    );
    describe_counter!(
        ATTEMPTS_ENDED_TOTAL,
        Unit::Count,
        "Attempts that ended, by true reason"
    );
    describe_counter!(
        LEASES_LOST_TOTAL,
        Unit::Count,
        "Leases lost while their run was executed"
    );
    describe_histogram!(DRAIN_SECONDS, Unit::Seconds, "Time to drain, by result");
    describe_histogram!(WORKER_BOOT_SECONDS, Unit::Seconds, "From start to taking runs");
    describe_counter!(
        LIVE_DROPPED_TOTAL,
        Unit::Count,
        "Live events dropped because the bus was away or slow"
    );
    describe_histogram!(
        JOURNAL_BATCH_SIZE,
        Unit::Count,
        "Writes of one kind in one batch to the store"
    );
}

/// What one worker shows of its slots. The gauges bear no worker's name, and one process may hold several workers:
/// each adds its part, and takes it away with itself.
#[derive(Debug)]
pub(crate) struct Slots {
    lifecycle: String,
    /// Busy and free, as shown last.
    shown: Mutex<[u32; 2]>,
}

impl Slots {
    pub(crate) fn new(lifecycle: &str) -> Self {
        Self {
            lifecycle: lifecycle.to_owned(),
            shown: Mutex::default(),
        }
    }

    pub(crate) fn show(&self, busy: u32, free: u32) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for ((state, before), now) in ["busy", "free"].into_iter().zip(&mut *shown).zip([busy, free]) {
            metrics::gauge!(SLOTS, "lifecycle" => self.lifecycle.clone(), "state" => state)
                .increment(f64::from(now) - f64::from(*before));
            *before = now;
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.show(0, 0);
    }
}

pub(crate) fn run_started(queue: &str, waited_s: f64) {
    metrics::histogram!(RUN_WAIT_SECONDS, "queue" => queue.to_owned()).record(waited_s);
}

/// An attempt ended; `last` is the event that ended the run, if it ended too.
pub(crate) fn attempt_ended(queue: &str, because: EndedBecause, last: Option<EventKind>, took: Duration) {
    metrics::counter!(ATTEMPTS_ENDED_TOTAL, "reason" => because.as_str()).increment(1);
    let outcome = match last {
        Some(EventKind::RunSucceeded) => "succeeded",
        Some(EventKind::RunFailed) => "failed",
        Some(EventKind::RunCancelled) => "cancelled",
        Some(EventKind::RunExpired) => "expired",
        _ => return,
    };
    metrics::counter!(RUNS_FINISHED_TOTAL, "queue" => queue.to_owned(), "outcome" => outcome).increment(1);
    metrics::histogram!(RUN_DURATION_SECONDS, "queue" => queue.to_owned(), "outcome" => outcome).record(took);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_one_process_add_up() {
        let exporter = flowfleet_runtime::prometheus::install().unwrap();
        let shown = |state: &str, count: u32| {
            let line = format!("flowfleet_slots{{lifecycle=\"shared\",state=\"{state}\"}} {count}");
            let text = exporter.render();
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        };
        let (one, two) = (Slots::new("shared"), Slots::new("shared"));
        one.show(1, 3);
        two.show(0, 8);
        shown("busy", 1);
        shown("free", 11);
        one.show(4, 0);
        one.show(4, 0);
        shown("busy", 4);
        shown("free", 8);
        drop(one);
        shown("busy", 0);
        shown("free", 8);
    }
}
