//! A deterministic simulation of the core protocol.
//!
//! Store, broker, dispatchers, workers and clients are state machines on a virtual clock. What each does at which
//! moment, which message is late, lost or repeated, and who crashes, is read from a tape of choices (`tape`) that a
//! seed writes; so a history is replayed from its seed or its tape, and a failing tape is made short (`shrink`).
//! `check` keeps its own books and compares every transaction with the invariants.
//!
//! The rules are those of `flowfleet_core`: the state machine, fences, leases, retries. What is modelled here is the
//! order of steps around them, as the programs take them: `store`, `broker`, `relay`, `dispatcher`, `worker`, `client`,
//! each named like what it stands for. One transaction of the store is one step; between any two steps anything may
//! happen. Left to other tests: SQL, sockets and the engine.

mod broker;
mod check;
mod client;
mod coverage;
mod dispatcher;
mod distinct;
mod env;
mod explore;
mod faults;
mod model;
mod process;
mod relay;
mod shrink;
mod store;
mod tape;
mod tell;
mod wire;
mod worker;
mod world;

pub use check::{Invariant, Violation};
pub use coverage::{Coverage, Fault, Step};
pub use explore::{Failure, Plan, Replay, Report, explore, replay};
pub use model::Mutation;
pub use shrink::shrink;
pub use tape::{BadTape, LONGEST, Tape};
