//! The contract of buses on both adapters, and what is special to Redis.

#![expect(clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod contract;
mod memory;
mod proxy;
mod redis;
