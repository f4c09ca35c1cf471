//! The contract of queues on both adapters, and what is special to each.

#![expect(clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod contract;
mod failures;
mod memory;
mod proxy;
mod rabbit;
mod support;
