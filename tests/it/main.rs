//! Workspace-wide tests: real processes, real services, real flows.
//!
//! Each test brings its own database, queue names and mock model, so that tests run side by side; those that
//! restart the broker carry `restart` in their name and run alone (see `.config/nextest.toml`).

mod basic_prompting;
mod faults;
mod fleet;
mod promises;

use flowfleet_tests::{flows, services};
