//! The dispatcher over real HTTP, on SQLite and the memory queue. Workers are played by the tests themselves.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod audit;
mod auth;
mod batch;
mod events;
mod fleet_wishes;
mod flows;
mod harness;
mod knowledge;
mod langflow;
mod langflow_flows;
mod monitor;
mod program;
mod routes;
mod routing;
mod runs;
mod upkeep;
mod workflows;
