//! What may be spent. An hour's budget bounds the rate at which the pool spends; a day's bounds the rate at which what is
//! left of it is spent, so that a pool shrinks before the money ends. Machines that execute are never ended for it.

use crate::decide::Plan;
use crate::observation::Observation;
use crate::policy::Policy;
use crate::reason::{Period, Reason};

/// What is left of a day's budget should last this long at least.
const RESERVE_H: f64 = 0.25;

/// USD an hour that may be spent, and which budget says so.
fn limit(policy: &Policy, seen: &Observation) -> Option<(f64, Period, f64)> {
    let hour = policy.budget.usd_per_hour.map(|usd| (usd, Period::Hour, usd));
    let day = policy.budget.usd_per_day.map(|usd| {
        let left = (usd - seen.spend.today_usd).max(0.0);
        (left / RESERVE_H, Period::Day, usd)
    });
    match (hour, day) {
        (Some(hour), Some(day)) => Some(if hour.0 <= day.0 { hour } else { day }),
        (hour, day) => hour.or(day),
    }
}

/// Cuts machines to what may be spent on them.
pub(crate) fn affordable(policy: &Policy, seen: &Observation, wanted: u32, plan: &mut Plan) -> u32 {
    let Some((rate, period, budget_usd)) = limit(policy, seen) else {
        return wanted;
    };
    let each = f64::from(policy.machines.slots.max(1)) * seen.prices.of(policy.machines.lifecycle);
    if each <= 0.0 {
        return wanted;
    }
    let most = (rate / each + 1e-9).floor().min(f64::from(u32::MAX)) as u32;
    if wanted > most {
        plan.reasons.push(Reason::OverBudget {
            period,
            budget_usd,
            machines_refused: wanted - most,
        });
    }
    wanted.min(most)
}

/// What may still be spent on launches, beside what the pool costs already.
#[derive(Debug)]
pub(crate) struct Spare {
    usd_per_hour: Option<(f64, Period, f64)>,
}

impl Spare {
    pub(crate) fn new(policy: &Policy, seen: &Observation) -> Self {
        let spent: f64 = seen.workers.iter().map(|worker| worker.usd_per_hour).sum();
        let usd_per_hour = limit(policy, seen).map(|(rate, period, budget)| (rate - spent, period, budget));
        Self { usd_per_hour }
    }

    /// How many of `machines` may be launched.
    pub(crate) fn take(&mut self, machines: u32, each_usd: f64, plan: &mut Plan) -> u32 {
        let Some((rate, period, budget_usd)) = &mut self.usd_per_hour else {
            return machines;
        };
        if each_usd <= 0.0 {
            return machines;
        }
        let most = (*rate / each_usd + 1e-9).floor().clamp(0.0, f64::from(u32::MAX)) as u32;
        let taken = machines.min(most);
        *rate -= f64::from(taken) * each_usd;
        if taken < machines {
            plan.reasons.push(Reason::OverBudget {
                period: *period,
                budget_usd: *budget_usd,
                machines_refused: machines - taken,
            });
        }
        taken
    }
}
