//! Live events, cancel signals and worker presence over Redis or memory.
//!
//! Owns the fan-out from publishers to whoever listens to a run, within a process and between processes. Lossy
//! by contract: nothing here is needed for correctness, a listener that may have missed something is told so
//! ([`Live::Lagged`](flowfleet_core::port::Live::Lagged)) and asks the store, and nobody ever waits for a slow
//! listener.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hub;
mod memory;
mod metered;
pub mod metrics;
mod redis;
mod shard;
mod wire;

use std::sync::Arc;

use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::port::{Bus, Result};

/// Opens the bus a URL names: `redis://`, `rediss://` (TLS), `redis-cluster://`, `rediss-cluster://`, or
/// `memory:` (a fresh one each time; share the handle). `?prefix=NAME` sets what keys and channels start with
/// (default `flowfleet`): fleets that share a Redis differ in it.
///
/// Does not wait for Redis: it connects, and reconnects, in the background. A Redis that is away shows in
/// `ping`; a URL that cannot be right is refused here. Must be called within a tokio runtime.
pub async fn open(url: &str) -> Result<Arc<dyn Bus>> {
    match url.split(':').next().unwrap_or_default() {
        "memory" => Ok(Arc::new(metered::Metered::new(memory::MemoryBus::default()))),
        "redis" | "rediss" | "redis-cluster" | "rediss-cluster" => {
            Ok(Arc::new(metered::Metered::new(redis::RedisBus::open(url)?)))
        }
        scheme => {
            let detail =
                format!("bus URL scheme {scheme:?} is not known: use redis://, rediss:// or memory:");
            Err(PortError::new(Kind::Permanent, "bus.open", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_right_is_refused_at_once() {
        for url in [
            "",
            "amqp://x",
            "redis",
            "redis:",
            "redis://:secret@",
            "redis://h?prefix=a b",
            "redis://h?x=1",
        ] {
            let error = open(url).await.unwrap_err();
            assert_eq!(error.kind, Kind::Permanent, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
