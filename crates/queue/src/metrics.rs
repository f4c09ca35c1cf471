//! The metrics of queues.

/// Seconds until the broker confirmed one call's messages.
pub const CONFIRM_SECONDS: &str = "flowfleet_publish_confirm_seconds";
/// Messages the broker confirmed, by `queue` and `priority`.
pub const PUBLISHED: &str = "flowfleet_messages_published_total";
/// Messages handed to workers, by `queue` and `priority`.
pub const RECEIVED: &str = "flowfleet_messages_received_total";
/// Messages workers were done with, by `outcome` (`acked`, `rejected`).
pub const SETTLED: &str = "flowfleet_messages_settled_total";
/// Messages no queue took, published again after a declaration.
pub const RETURNED: &str = "flowfleet_messages_returned_total";
/// Bytes on our queues that are no message of ours.
pub const UNDECODABLE: &str = "flowfleet_messages_undecodable_total";
/// Failed operations, by `operation`.
pub const ERRORS: &str = "flowfleet_queue_errors_total";
/// 1 while this process is connected to the broker.
pub const CONNECTED: &str = "flowfleet_broker_connected";
/// Connections lost.
pub const LOST: &str = "flowfleet_broker_connections_lost_total";
/// Consumers that had to be started again: queue deleted, channel closed, connection lost.
pub const RESUBSCRIBED: &str = "flowfleet_consumers_restarted_total";

/// Registers help texts with the installed recorder.
pub fn describe() {
    metrics::describe_histogram!(
        CONFIRM_SECONDS,
        metrics::Unit::Seconds,
        "time until the broker confirmed the messages of one call"
    );
    metrics::describe_counter!(PUBLISHED, "messages the broker confirmed");
    metrics::describe_counter!(RECEIVED, "messages handed to workers");
    metrics::describe_counter!(SETTLED, "messages workers acknowledged or gave back");
    metrics::describe_counter!(
        RETURNED,
        "messages no queue took, published again after a declaration"
    );
    metrics::describe_counter!(UNDECODABLE, "messages dropped because they are none of ours");
    metrics::describe_counter!(ERRORS, "queue operations that failed");
    metrics::describe_gauge!(CONNECTED, "1 while connected to the broker");
    metrics::describe_counter!(LOST, "broker connections lost");
    metrics::describe_counter!(RESUBSCRIBED, "consumers started again after a loss");
}
