//! The `flowfleet` program as a user meets it: the built binary, its output and its exit codes.

#![expect(clippy::unwrap_used, reason = "tests say what failed by panicking")]

mod batch;
mod client;
mod deep;
mod demo;
mod help;
mod offline;
mod program;
mod simulate;
mod up;
