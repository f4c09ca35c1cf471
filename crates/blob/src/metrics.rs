//! The metrics of blob stores.

/// Seconds of one operation, by `operation`.
pub const OPERATION_SECONDS: &str = "flowfleet_blob_operation_seconds";
/// Failed operations, by `operation`.
pub const ERRORS: &str = "flowfleet_blob_errors_total";
/// Bytes moved, by `operation` (`put` or `get`).
pub const BYTES: &str = "flowfleet_blob_bytes_total";

/// Registers help texts with the installed recorder.
pub fn describe() {
    metrics::describe_histogram!(
        OPERATION_SECONDS,
        metrics::Unit::Seconds,
        "time of one blob operation"
    );
    metrics::describe_counter!(ERRORS, "blob operations that failed");
    metrics::describe_counter!(
        BYTES,
        metrics::Unit::Bytes,
        "bytes written to and read from the blob store"
    );
}
