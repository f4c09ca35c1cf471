//! The worker on SQLite, memory queue and bus, and a mock model: everything a run can meet on its way.

#![expect(clippy::unwrap_used, reason = "tests say what failed by panicking")]

mod conversations;
mod draining;
mod failures;
mod faulty;
mod flows;
mod leases;
mod place;
mod program;
mod python;
mod rig;
mod routing;
mod running;
mod services;
mod steering;
