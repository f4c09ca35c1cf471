//! From a pool's policy, observation and history to what should be done.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::observation::{Freshness, Observation};
use crate::policy::{Lifecycle, Policy, Rule};
use crate::reason::{Reason, Unknown};
use crate::staffing::{self, Forecast};
use crate::{bridge, machines, peers};

/// What should be done now, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Slots that the rule asks for, before limits.
    pub slots_wished: f64,
    /// Machines after limits.
    pub machines_wanted: u32,
    /// What `slo-staffing` expects.
    pub forecast: Option<Forecast>,
    /// In the order in which they should be done.
    pub actions: Vec<Action>,
    pub reasons: Vec<Reason>,
    /// What was considered and left.
    pub rejected: Vec<Reason>,
}

/// One thing to do. Each is idempotent at the provider by the worker's id or a token of the tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Lets a draining worker accept runs again.
    Undrain {
        worker: Arc<str>,
    },
    Launch {
        lifecycle: Lifecycle,
        machines: u32,
    },
    /// Stops a worker from accepting runs.
    Drain {
        worker: Arc<str>,
    },
    /// Ends a worker that drains and executes nothing.
    Terminate {
        worker: Arc<str>,
    },
}

/// Decides for one pool.
pub fn plan(policy: &Policy, seen: &Observation, past: &History) -> Plan {
    let mut plan = Plan::default();
    let known = |age_s: Option<f64>| age_s.is_some_and(|age_s| age_s <= Freshness::LIMIT_S);
    for (age_s, what) in [
        (seen.freshness.runs_s, Unknown::Runs),
        (seen.freshness.workers_s, Unknown::Workers),
    ] {
        if !known(age_s) {
            plan.reasons.push(Reason::Stale { what });
        }
    }
    if !plan.reasons.is_empty() {
        // What the hold time remembers stays as it is.
        plan.machines_wanted = past.held(seen.at_s, f64::INFINITY);
        return plan;
    }
    let wish = wish(policy, seen, past, &mut plan);
    machines::decide(policy, seen, past, wish, &mut plan);
    bridge::decide(policy, seen, past, &mut plan);
    plan
}

/// Machines wished for, before limits.
fn wish(policy: &Policy, seen: &Observation, past: &History, plan: &mut Plan) -> f64 {
    let slots = f64::from(policy.machines.slots.max(1));
    let running: usize = seen.workers.iter().map(|worker| worker.ages_s.len()).sum();
    let mut wished = if let Rule::SloStaffing(rule) = &policy.rule {
        let forecast = staffing::forecast(policy, rule, seen, past);
        plan.forecast = Some(forecast);
        forecast.slots
    } else {
        peers::machines(policy, seen, past).unwrap_or(0.0) * slots
    };
    // Leaving zero must not wait for a forecast.
    if seen.queued > 0 {
        wished = wished.max(0.5 * slots);
    }
    plan.reasons.push(Reason::Wanted {
        rule: policy.rule.name().into(),
        slots: wished,
        running: running as f64,
        queued: seen.queued,
    });
    for bound in &seen.bounds {
        let bounded = wished
            .max(bound.at_least.unwrap_or(0.0))
            .min(bound.at_most.unwrap_or(f64::INFINITY));
        if bounded != wished {
            plan.reasons.push(Reason::Bounded {
                name: Arc::clone(&bound.name),
                slots: bounded,
            });
            wished = bounded;
        }
    }
    plan.slots_wished = wished;
    wished / slots
}
