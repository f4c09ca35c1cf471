//! The metrics of buses.

/// Seconds of one operation, by `operation`.
pub const OPERATION_SECONDS: &str = "flowfleet_bus_operation_seconds";
/// Failed operations, by `operation`.
pub const ERRORS: &str = "flowfleet_bus_errors_total";
/// Messages from other processes that are none of ours.
pub const UNDECODABLE: &str = "flowfleet_bus_undecodable_total";
/// Runs this process listens to.
pub const LISTENED_RUNS: &str = "flowfleet_bus_listened_runs";
/// Times listeners were told that they may have missed something, by `reason` (`slow`, `reconnected`).
pub const LAGGED: &str = "flowfleet_bus_lagged_total";
/// 1 while this process is connected to the bus.
pub const CONNECTED: &str = "flowfleet_bus_connected";

/// Registers help texts with the installed recorder.
pub fn describe() {
    metrics::describe_histogram!(
        OPERATION_SECONDS,
        metrics::Unit::Seconds,
        "time of one bus operation"
    );
    metrics::describe_counter!(ERRORS, "bus operations that failed");
    metrics::describe_counter!(UNDECODABLE, "bus messages dropped because they are none of ours");
    metrics::describe_gauge!(LISTENED_RUNS, "runs this process listens to");
    metrics::describe_counter!(
        LAGGED,
        "times listeners were told that they may have missed something"
    );
    metrics::describe_gauge!(CONNECTED, "1 while connected to the bus");
}
