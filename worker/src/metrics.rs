//! Metrics of the worker. Those of nodes and model tokens are the engine's.

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

pub(crate) fn slots(lifecycle: &str, busy: u32, free: u32) {
    metrics::gauge!(SLOTS, "lifecycle" => lifecycle.to_owned(), "state" => "busy").set(f64::from(busy));
    metrics::gauge!(SLOTS, "lifecycle" => lifecycle.to_owned(), "state" => "free").set(f64::from(free));
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
