//! The simulated cloud and fleet: what they promise, whole days of it, and what traces are refused.

mod cloud;
mod days;
mod traces;

use flowfleet_simulate::{Arrival, Scenario};

fn scenario(toml: &str) -> Scenario {
    Scenario::parse(toml).expect("the scenario is right")
}

/// A run every `every_s`, each of `service_s`.
fn steady(runs: u32, every_s: f64, service_s: f64) -> Vec<Arrival> {
    (0..runs)
        .map(|index| Arrival {
            at_s: f64::from(index) * every_s,
            service_s,
        })
        .collect()
}
