//! The search for settings: the cheapest that meet the goal on a trace, with hindsight.

use flowfleet_plan::{Policy, Rule, SloStaffing};

use crate::cloud::Zone;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::trace::Arrival;
use crate::world::simulate;

/// What a search found.
#[derive(Debug, Clone)]
pub struct Tuned {
    pub policy: Policy,
    pub report: Report,
    /// Whether it meets the goal; otherwise it is the one with the fewest late runs.
    pub meets_goal: bool,
    pub tried: usize,
}

/// Tries settings of the scenario's rule.
pub fn tune(scenario: &Scenario, arrivals: &[Arrival], zones: &[Zone]) -> Tuned {
    let mut best: Option<Tuned> = None;
    let candidates = candidates(&scenario.policy);
    let tried = candidates.len();
    for policy in candidates {
        let scenario = Scenario {
            policy,
            ..scenario.clone()
        };
        let report = simulate(&scenario, arrivals, zones);
        let meets_goal = report.late_share <= scenario.policy.late_share;
        let better = best
            .as_ref()
            .is_none_or(|best| match (meets_goal, best.meets_goal) {
                (true, true) => report.cost_usd < best.report.cost_usd,
                (false, false) => report.late_share < best.report.late_share,
                (meets, _) => meets,
            });
        if better {
            best = Some(Tuned {
                policy: scenario.policy,
                report,
                meets_goal,
                tried,
            });
        }
    }
    best.unwrap_or_else(|| Tuned {
        policy: scenario.policy.clone(),
        report: simulate(scenario, arrivals, zones),
        meets_goal: false,
        tried,
    })
}

/// A small grid for each rule.
fn candidates(policy: &Policy) -> Vec<Policy> {
    let slots = f64::from(policy.machines.slots);
    let with = |rule: Rule| Policy {
        rule,
        ..policy.clone()
    };
    let factors = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0];
    match &policy.rule {
        Rule::SloStaffing(rule) => {
            let mut all = Vec::new();
            for hold_s in [60.0, 120.0, 240.0] {
                for reserve in [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0] {
                    let rule = SloStaffing {
                        reserve,
                        reserve_min: reserve,
                        reserve_max: reserve,
                        ..rule.clone()
                    };
                    all.push(Policy {
                        hold_s,
                        ..with(Rule::SloStaffing(rule))
                    });
                }
            }
            all
        }
        Rule::BacklogPerInstance { .. } => {
            let targets = factors.map(|factor| factor * slots);
            targets
                .iter()
                .map(|target| with(Rule::BacklogPerInstance { target: *target }))
                .collect()
        }
        Rule::KedaHpa { .. } => {
            let targets = factors.map(|factor| factor * slots);
            targets
                .iter()
                .map(|target| with(Rule::KedaHpa { target: *target }))
                .collect()
        }
        Rule::EcsManaged { .. } => [5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0]
            .iter()
            .map(|target| with(Rule::EcsManaged { target: *target }))
            .collect(),
        Rule::Buildkite { .. } => [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
            .iter()
            .map(|buffer| with(Rule::Buildkite { buffer: *buffer }))
            .collect(),
        Rule::Step { steps } => [0.25, 0.5, 1.0, 2.0, 4.0]
            .iter()
            .map(|factor| {
                let scaled = steps
                    .iter()
                    .map(|(messages, machines)| (*messages, (f64::from(*machines) * factor).ceil() as u32));
                with(Rule::Step {
                    steps: scaled.collect(),
                })
            })
            .collect(),
    }
}
