//! What this crate counts.

/// Processes that run flows.
pub const CHILDREN: &str = "flowfleet_python_children";
/// Processes forked.
pub const FORKS_TOTAL: &str = "flowfleet_python_forks_total";
/// Processes that ended by themselves or were killed for what they did, by `reason`.
pub const CRASHES_TOTAL: &str = "flowfleet_python_crashes_total";

pub(crate) fn describe() {
    ::metrics::describe_gauge!(CHILDREN, "Python processes that run flows");
    ::metrics::describe_counter!(FORKS_TOTAL, "Python processes forked");
    ::metrics::describe_counter!(
        CRASHES_TOTAL,
        "Python processes that ended while they ran a flow: exit, signal, memory, timeout, cancel, output, lost"
    );
}
