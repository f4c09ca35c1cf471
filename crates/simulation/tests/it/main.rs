//! The simulation: histories keep the invariants, and the checker finds every rule that is switched off.

#![expect(
    clippy::print_stdout,
    reason = "what was explored belongs into the report of the tests"
)]

mod mutations;
mod program;
mod protocol;
