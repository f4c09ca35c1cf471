//! The runtime as its users see it: layers of settings, admin server, relay, payloads.

#![expect(clippy::unwrap_used, reason = "tests say what failed by panicking")]

mod admin;
mod fakes;
mod otlp;
mod payload;
mod relay;
mod settings;
