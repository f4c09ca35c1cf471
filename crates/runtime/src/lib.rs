//! What every Flowfleet process shares: configuration, logs and traces, the Prometheus exporter, the admin
//! server, shutdown and exit codes, the outbox relay, and payloads that may live in the blob store.
//!
//! Owns no policy: each service decides what its keys are, when it is ready and how it drains.

pub mod admin;
pub mod backoff;
pub mod exit;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod health;
pub mod metrics;
pub mod payload;
pub mod prometheus;
pub mod redact;
pub mod relay;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace;

pub use health::Readiness;
pub use relay::Relay;
pub use shutdown::Shutdown;
