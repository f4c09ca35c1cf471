//! The dispatcher's metrics.

use std::collections::HashSet;
use std::sync::{LazyLock, PoisonError, RwLock};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(crate) const HTTP_REQUESTS: &str = "flowfleet_http_requests_total";
pub(crate) const HTTP_SECONDS: &str = "flowfleet_http_request_seconds";
pub(crate) const RUNS_SUBMITTED: &str = "flowfleet_runs_submitted_total";
pub(crate) const QUEUE_RUNS: &str = "flowfleet_queue_runs";
pub(crate) const QUEUE_OLDEST: &str = "flowfleet_queue_oldest_timestamp_seconds";
pub(crate) const WORKERS: &str = "flowfleet_workers";
pub(crate) const SUBMIT_GROUP: &str = "flowfleet_submit_group_size";
pub(crate) const LISTENERS: &str = "flowfleet_listeners";
pub(crate) const LEADER: &str = "flowfleet_leader";
pub(crate) const INVARIANT_VIOLATIONS: &str = "flowfleet_invariant_violations";
pub(crate) const RUNS_AUDITED: &str = "flowfleet_runs_audited_total";
pub(crate) const REPUBLISHED: &str = "flowfleet_runs_republished_total";

/// Says what each metric means.
pub fn describe() {
    describe_counter!(HTTP_REQUESTS, "Requests by matched route and status");
    describe_histogram!(
        HTTP_SECONDS,
        Unit::Seconds,
        "Time to the head of the response, by matched route"
    );
    describe_counter!(RUNS_SUBMITTED, "Runs stored, by queue");
    describe_gauge!(QUEUE_RUNS, "Runs by queue and state, from the leader");
    describe_gauge!(
        QUEUE_OLDEST,
        Unit::Seconds,
        "When the oldest queued run of a queue was queued; 0 when none is"
    );
    describe_gauge!(
        WORKERS,
        "Workers present, by lifecycle and state, from the leader"
    );
    describe_histogram!(SUBMIT_GROUP, "Runs committed together");
    describe_gauge!(LISTENERS, "Event streams and waiting requests");
    describe_gauge!(LEADER, "1 while this dispatcher leads");
    describe_gauge!(
        INVARIANT_VIOLATIONS,
        "Runs that violate an invariant, as far as the leader knows; must be 0"
    );
    describe_counter!(RUNS_AUDITED, "Histories that the leader checked");
    describe_counter!(REPUBLISHED, "Runs whose message was published again, by reason");
}

/// Queues are named by clients: only so many become labels, the rest is counted together.
const QUEUE_LABELS: usize = 200;

static QUEUES: LazyLock<RwLock<HashSet<String>>> = LazyLock::new(RwLock::default);

/// The label of a queue, bounded in number.
pub(crate) fn queue_label(queue: &str) -> String {
    let known = QUEUES.read().unwrap_or_else(PoisonError::into_inner);
    if known.contains(queue) {
        return queue.to_owned();
    }
    drop(known);
    let mut known = QUEUES.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= QUEUE_LABELS {
        return "other".to_owned();
    }
    known.insert(queue.to_owned());
    queue.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let labels: HashSet<String> = (0..1_000).map(|n| queue_label(&format!("q{n}"))).collect();
        assert!(labels.len() <= QUEUE_LABELS + 1);
        assert!(labels.contains("other"));
        assert_eq!(queue_label("q0"), "q0");
    }
}
