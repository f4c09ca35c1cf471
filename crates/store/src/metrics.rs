//! The metrics of this crate.

use metrics::{Unit, describe_histogram};

/// Time one store operation took, retries included. Label `operation`.
pub const OPERATION_SECONDS: &str = "flowfleet_store_operation_seconds";
/// Runs asked for in one claim.
pub const CLAIM_BATCH_SIZE: &str = "flowfleet_claim_batch_size";

/// Tells the recorder what the metrics mean.
pub fn describe() {
    describe_histogram!(
        OPERATION_SECONDS,
        Unit::Seconds,
        "Time of one store operation, retries included"
    );
    describe_histogram!(CLAIM_BATCH_SIZE, Unit::Count, "Runs asked for in one claim");
}
