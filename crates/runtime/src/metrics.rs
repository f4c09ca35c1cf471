//! Names of the metrics that this crate writes, or that several services share.

use metrics::{Unit, describe_counter, describe_gauge};

/// Outbox rows left to the leader's sweep because the relay had no room for them.
pub const RELAY_DROPPED_TOTAL: &str = "flowfleet_relay_dropped_total";
/// Messages left to the leader's reconciler because the broker refuses their pool.
pub const RELAY_REFUSED_TOTAL: &str = "flowfleet_relay_refused_total";
/// Always 1; its labels say what is running.
pub const BUILD_INFO: &str = "flowfleet_build_info";
pub const RUNS_SUBMITTED_TOTAL: &str = "flowfleet_runs_submitted_total";
pub const RUNS_FINISHED_TOTAL: &str = "flowfleet_runs_finished_total";
pub const SLOTS: &str = "flowfleet_slots";

/// Describes them to the exporter.
pub fn describe() {
    describe_counter!(
        RELAY_DROPPED_TOTAL,
        Unit::Count,
        "Outbox rows left to the leader's sweep because the broker was away for too long"
    );
    describe_counter!(
        RELAY_REFUSED_TOTAL,
        Unit::Count,
        "Messages left to the leader's reconciler because the broker takes none for their queue"
    );
    describe_gauge!(BUILD_INFO, "Always 1; labels name the service and its version");
    describe_counter!(RUNS_SUBMITTED_TOTAL, Unit::Count, "Runs accepted");
    describe_counter!(RUNS_FINISHED_TOTAL, Unit::Count, "Runs that ended, by outcome");
    describe_gauge!(SLOTS, "Slots of workers by lifecycle and state");
}

/// Sets `build_info` for this process.
pub fn build_info(service: &'static str, version: &'static str) {
    metrics::gauge!(BUILD_INFO, "service" => service, "version" => version).set(1.0);
}
