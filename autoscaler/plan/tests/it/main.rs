//! The decisions: a table for each rule of the policy, and what holds for any observation.

mod any;
mod rules;

use std::sync::Arc;

use flowfleet_plan::{
    Action, Freshness, History, Lifecycle, Observation, Plan, Policy, Worker, WorkerState, plan,
};

/// A worker with runs of these ages.
fn worker(id: &str, lifecycle: Lifecycle, state: WorkerState, ages_s: &[f64]) -> Worker {
    Worker {
        id: Arc::from(id),
        lifecycle,
        state,
        slots: 4,
        ages_s: ages_s.to_vec(),
        age_s: 600.0,
        usd_per_hour: 4.0 * flowfleet_plan::Prices::default().of(lifecycle),
    }
}

fn accepting(id: &str, ages_s: &[f64]) -> Worker {
    worker(id, Lifecycle::Spot, WorkerState::Accepting, ages_s)
}

/// Everything is known, nothing waits.
fn seen(at_s: f64, workers: Vec<Worker>) -> Observation {
    Observation {
        at_s,
        workers,
        freshness: Freshness::NOW,
        ..Observation::default()
    }
}

/// One tick.
fn tick(policy: &Policy, seen: &Observation, past: &mut History) -> Plan {
    past.observe(policy, seen);
    let plan = plan(policy, seen, past);
    past.decided(policy, seen.at_s, &plan);
    plan
}

fn launches(plan: &Plan, of: Lifecycle) -> u32 {
    plan.actions
        .iter()
        .map(|action| match action {
            Action::Launch { lifecycle, machines } if *lifecycle == of => *machines,
            _ => 0,
        })
        .sum()
}

fn drained(plan: &Plan) -> Vec<&str> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Drain { worker } => Some(&**worker),
            _ => None,
        })
        .collect()
}
