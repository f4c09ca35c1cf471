//! Metrics of the worker. Those of nodes and model tokens are the engine's.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use flowfleet_core::QueueName;
use flowfleet_core::event::EventKind;
use flowfleet_core::run::EndedBecause;
use flowfleet_runtime::metrics::{RUNS_FINISHED_TOTAL, SLOTS};
use metrics::{Counter, Gauge, Histogram, Unit, describe_counter, describe_histogram};

/// From queued to started.
pub const RUN_WAIT_SECONDS: &str = "flowfleet_run_wait_seconds";
/// The last attempt of a run, from its start to the commit of its end.
pub const RUN_DURATION_SECONDS: &str = "flowfleet_run_duration_seconds";
pub const ATTEMPTS_ENDED_TOTAL: &str = "flowfleet_attempts_ended_total";
pub const LEASES_LOST_TOTAL: &str = "flowfleet_leases_lost_total";
pub const DRAIN_SECONDS: &str = "flowfleet_drain_seconds";
pub const WORKER_BOOT_SECONDS: &str = "flowfleet_worker_boot_seconds";
/// What EC2 said is to become of this worker's instance.
pub const SPOT_NOTICES_TOTAL: &str = "flowfleet_spot_notices_total";
/// Consumers that were given nothing while their queues had work.
pub const CONSUMER_STALLS_TOTAL: &str = "flowfleet_consumer_stalls_total";
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
    describe_histogram!(
        WORKER_BOOT_SECONDS,
        Unit::Seconds,
        "From the launch of the machine to taking runs"
    );
    describe_counter!(SPOT_NOTICES_TOTAL, Unit::Count, "Notices of EC2, by kind");
    describe_counter!(
        CONSUMER_STALLS_TOTAL,
        Unit::Count,
        "Consumers replaced because they were given nothing while their queues had work"
    );
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
    /// Busy and free.
    gauges: [Gauge; 2],
    /// The same as shown last.
    shown: Mutex<[u32; 2]>,
}

impl Slots {
    pub(crate) fn new(lifecycle: &str) -> Self {
        let gauge = |state| metrics::gauge!(SLOTS, "lifecycle" => lifecycle.to_owned(), "state" => state);
        Self {
            gauges: ["busy", "free"].map(gauge),
            shown: Mutex::default(),
        }
    }

    pub(crate) fn show(&self, busy: u32, free: u32) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for ((gauge, before), now) in self.gauges.iter().zip(&mut *shown).zip([busy, free]) {
            if *before != now {
                gauge.increment(f64::from(now) - f64::from(*before));
                *before = now;
            }
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.show(0, 0);
    }
}

/// Metrics of the runs of a worker's queues. They are looked up when they are first needed, and kept: that takes longer
/// than to record.
#[derive(Debug)]
pub(crate) struct Runs(HashMap<QueueName, Queue>);

#[derive(Debug, Default)]
struct Queue {
    waited: OnceLock<Histogram>,
    /// By outcome.
    ended: [OnceLock<(Counter, Histogram)>; OUTCOMES.len()],
}

const OUTCOMES: [(EventKind, &str); 4] = [
    (EventKind::RunSucceeded, "succeeded"),
    (EventKind::RunFailed, "failed"),
    (EventKind::RunCancelled, "cancelled"),
    (EventKind::RunExpired, "expired"),
];

impl Runs {
    pub(crate) fn new(queues: &[QueueName]) -> Self {
        Self(
            queues
                .iter()
                .map(|queue| (queue.clone(), Queue::default()))
                .collect(),
        )
    }

    /// What is kept of a queue; of another than the worker's own nothing is.
    fn of<'a>(&'a self, queue: &QueueName, other: &'a Queue) -> &'a Queue {
        self.0.get(queue).unwrap_or(other)
    }

    pub(crate) fn started(&self, queue: &QueueName, waited_s: f64) {
        let other = Queue::default();
        self.of(queue, &other)
            .waited
            .get_or_init(|| metrics::histogram!(RUN_WAIT_SECONDS, "queue" => queue.to_string()))
            .record(waited_s);
    }

    /// An attempt ended; `last` is the event that ended the run, if it ended too.
    pub(crate) fn attempt_ended(
        &self,
        queue: &QueueName,
        because: EndedBecause,
        last: Option<EventKind>,
        took: Duration,
    ) {
        metrics::counter!(ATTEMPTS_ENDED_TOTAL, "reason" => because.as_str()).increment(1);
        let outcome = OUTCOMES.iter().position(|(kind, _)| Some(*kind) == last);
        let Some(outcome) = outcome else { return };
        let other = Queue::default();
        let (runs, duration) = self.of(queue, &other).ended[outcome].get_or_init(|| {
            let (queue, outcome) = (queue.to_string(), OUTCOMES[outcome].1);
            (
                metrics::counter!(RUNS_FINISHED_TOTAL, "queue" => queue.clone(), "outcome" => outcome),
                metrics::histogram!(RUN_DURATION_SECONDS, "queue" => queue, "outcome" => outcome),
            )
        });
        runs.increment(1);
        duration.record(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_count_by_queue_and_outcome_whosever_the_queue_is() {
        let exporter = flowfleet_runtime::prometheus::install().unwrap();
        let [own, other] = ["own", "other"].map(|name| name.parse::<QueueName>().unwrap());
        let runs = Runs::new(std::slice::from_ref(&own));
        for queue in [&own, &own, &other] {
            runs.started(queue, 0.5);
            let (why, last) = (EndedBecause::Succeeded, Some(EventKind::RunSucceeded));
            runs.attempt_ended(queue, why, last, Duration::from_secs(1));
        }
        runs.attempt_ended(&own, EndedBecause::Interrupted, None, Duration::from_secs(1));
        let text = exporter.render();
        for line in [
            "flowfleet_run_wait_seconds_count{queue=\"own\"} 2",
            "flowfleet_run_wait_seconds_count{queue=\"other\"} 1",
            "flowfleet_runs_finished_total{queue=\"own\",outcome=\"succeeded\"} 2",
            "flowfleet_runs_finished_total{queue=\"other\",outcome=\"succeeded\"} 1",
            "flowfleet_run_duration_seconds_count{queue=\"own\",outcome=\"succeeded\"} 2",
            "flowfleet_attempts_ended_total{reason=\"interrupted\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }

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
