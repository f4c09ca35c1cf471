//! What a fleet would have cost, and how long its runs would have waited: the autoscaler's own decisions, driven by a
//! virtual clock through a trace of arrivals, on a cloud that boots, refuses, interrupts and bills like the real one.
//!
//! [`Cloud`] is a stateful fake of the provider, which the tests of the autoscaler use too; [`simulate`] puts a queue and
//! workers on it and calls [`flowfleet_plan::plan`] every tick; [`clairvoyant`] is what nobody can beat without moving runs.

mod clairvoyant;
mod cloud;
mod draws;
mod fleet;
mod picture;
mod report;
mod scenario;
mod trace;
mod tune;
mod world;

pub use clairvoyant::{Bound, clairvoyant};
pub use cloud::{Cloud, CloudSettings, Happening, Launched, Refusals, Zone};
pub use picture::picture;
pub use report::{Report, Sample, Waste, table};
pub use scenario::{Scenario, ServiceTimes, TraceSettings, Work};
pub use trace::{Arrival, Availability, TraceError, read_arrivals, read_availability};
pub use tune::{Tuned, tune};
pub use world::simulate;
