//! The host with the real lfx: `tests/lfx.sh` installs it, `FLOWFLEET_TEST_LFX` names another environment.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod behaviour;
mod crashes;
mod draw;
mod parity;
mod rig;
mod sharing;
