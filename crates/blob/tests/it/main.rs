//! The contract of blob stores, and what is special to files.
#![expect(clippy::unwrap_used, reason = "a failed assumption fails the test")]

mod contract;
mod file;
