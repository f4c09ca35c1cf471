//! What capacity a fleet should have: pure decisions.
//!
//! [`plan`] is a function of a pool's [`Policy`], what is [observed](Observation) and its [`History`]: no I/O, clock or
//! randomness. The autoscaler, its dry run, the tests and the simulator call the same function (invariant I6).
//!
//! One tick is: `history.observe(..)`, `plan(..)`, `history.decided(..)`, act.

mod arrivals;
mod bridge;
mod budget;
mod decide;
mod history;
mod machines;
mod observation;
mod peers;
mod policy;
mod reason;
mod staffing;
mod survival;

pub use decide::{Action, Plan, plan};
pub use history::History;
pub use observation::{Bound, Freshness, Observation, Prices, Refusal, Since, Spend, Worker, WorkerState};
pub use policy::{Budget, Fargate, Lifecycle, Machines, Policy, Rule, SloStaffing};
pub use reason::{Period, Reason, Unknown};
pub use staffing::Forecast;
pub use survival::{Ages, Durations, Survival};
