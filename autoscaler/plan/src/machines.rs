//! From machines wished for to launches and drains: limits, mix, hold, and who goes first.

use std::cmp::Reverse;

use crate::budget;
use crate::decide::{Action, Plan};
use crate::history::History;
use crate::observation::{Observation, Worker, WorkerState};
use crate::peers;
use crate::policy::{Lifecycle, Policy, Rule};
use crate::reason::Reason;

/// The part of a machine that is not worth one.
const PART: f64 = 0.3;

pub(crate) fn decide(policy: &Policy, seen: &Observation, past: &History, wish: f64, plan: &mut Plan) {
    let wanted = within_limits(policy, wish, plan);
    let wanted = budget::affordable(policy, seen, wanted, plan);
    plan.machines_wanted = wanted;

    let have: Vec<&Worker> = seen.workers.iter().filter(|worker| is_machine(worker)).collect();
    let counted = u32::try_from(have.iter().filter(|worker| worker.counts()).count()).unwrap_or(u32::MAX);
    let asked = on_demand_asked(policy, seen, &have, plan);

    let mut undrained = 0;
    if wanted > counted {
        undrained = undrain(&have, wanted - counted, plan);
    }
    let need = Need {
        have: counted + undrained,
        missing: wanted.saturating_sub(counted + undrained),
        on_demand: asked,
    };
    launch(policy, seen, past, &need, plan);
    if wanted < counted {
        scale_in(policy, seen, past, &have, counted, plan);
    }
    terminate(seen, undrained, plan);
}

fn is_machine(worker: &Worker) -> bool {
    worker.lifecycle != Lifecycle::Fargate
}

fn within_limits(policy: &Policy, wish: f64, plan: &mut Plan) -> u32 {
    let slots = policy.machines.slots.max(1);
    let most = policy.max_slots / slots;
    let least = policy.min_slots.div_ceil(slots).min(most);
    let wished = whole(policy, wish);
    if wished > most {
        plan.reasons.push(Reason::AtMax {
            max_slots: policy.max_slots,
            wished: plan.slots_wished,
        });
    } else if wished < least {
        plan.reasons.push(Reason::AtMin {
            min_slots: policy.min_slots,
        });
    }
    wished.clamp(least, most)
}

/// Whole machines. A small part of one is not bought for a forecast: runs that do come wait for another slot first.
fn whole(policy: &Policy, wish: f64) -> u32 {
    let part = match policy.rule {
        Rule::SloStaffing(_) => PART,
        _ => 1e-9,
    };
    (wish - part).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// On-demand machines to launch: for the base, and for runs that ask for it and find no free slot there.
fn on_demand_asked(policy: &Policy, seen: &Observation, have: &[&Worker], plan: &mut Plan) -> u32 {
    if policy.machines.lifecycle != Lifecycle::Spot {
        return 0;
    }
    let slots = policy.machines.slots.max(1);
    let counted = || {
        have.iter()
            .filter(|worker| worker.lifecycle == Lifecycle::OnDemand && worker.counts())
    };
    let machines = u32::try_from(counted().count()).unwrap_or(u32::MAX);
    let base = policy
        .machines
        .on_demand_base
        .div_ceil(slots)
        .saturating_sub(machines);
    let free: u64 = counted()
        .map(|worker| u64::from(worker.slots.saturating_sub(worker.busy())))
        .sum();
    let unserved = seen.queued_on_demand.saturating_sub(free);
    if unserved > 0 {
        plan.reasons.push(Reason::OnDemandAsked { runs: unserved });
    }
    let for_runs = u32::try_from(unserved.div_ceil(u64::from(slots))).unwrap_or(u32::MAX);
    base.max(for_runs)
}

/// Draining machines come back before any is launched, the fullest first.
fn undrain(have: &[&Worker], missing: u32, plan: &mut Plan) -> u32 {
    let mut draining: Vec<_> = have
        .iter()
        .filter(|worker| worker.state == WorkerState::Draining)
        .collect();
    draining.sort_by_key(|worker| Reverse(worker.busy()));
    draining.truncate(missing as usize);
    for worker in &draining {
        plan.actions.push(Action::Undrain {
            worker: worker.id.clone(),
        });
    }
    u32::try_from(draining.len()).unwrap_or(u32::MAX)
}

/// Machines to launch.
struct Need {
    /// That are or come back.
    have: u32,
    missing: u32,
    /// Those that have to be on-demand, of the missing or beside them.
    on_demand: u32,
}

fn launch(policy: &Policy, seen: &Observation, past: &History, need: &Need, plan: &mut Plan) {
    let slots = policy.machines.slots.max(1);
    // Runs that ask for on-demand get it also where enough spot is there, up to the limit.
    let asked = need
        .on_demand
        .min((policy.max_slots / slots).saturating_sub(need.have));
    let mut on_demand = asked;
    let mut others = need.missing.saturating_sub(asked);
    let lifecycle = policy.machines.lifecycle;
    if let Some(until_s) = past.cooling_until_s(lifecycle, seen.at_s).filter(|_| others > 0) {
        plan.rejected.push(Reason::Cooling {
            lifecycle,
            for_s: until_s - seen.at_s,
        });
        if lifecycle == Lifecycle::Spot && policy.machines.on_demand_fallback {
            plan.reasons.push(Reason::Fallback { machines: others });
            on_demand += others;
        }
        others = 0;
    }
    if let Some(until_s) = past
        .cooling_until_s(Lifecycle::OnDemand, seen.at_s)
        .filter(|_| on_demand > 0)
    {
        plan.rejected.push(Reason::Cooling {
            lifecycle: Lifecycle::OnDemand,
            for_s: until_s - seen.at_s,
        });
        on_demand = 0;
    }
    let mut spare = budget::Spare::new(policy, seen);
    for (lifecycle, machines) in [(Lifecycle::OnDemand, on_demand), (lifecycle, others)] {
        let machines = spare.take(machines, f64::from(slots) * seen.prices.of(lifecycle), plan);
        if machines > 0 {
            plan.actions.push(Action::Launch { lifecycle, machines });
        }
    }
}

/// Drains what has been surplus for the whole hold time: the least busy first, of equals the most expensive.
fn scale_in(
    policy: &Policy,
    seen: &Observation,
    past: &History,
    have: &[&Worker],
    counted: u32,
    plan: &mut Plan,
) {
    let slots = policy.machines.slots.max(1);
    let hold_s = peers::hold_s(policy, past);
    let mut keep = plan.machines_wanted.max(past.held(seen.at_s, hold_s));
    if keep > plan.machines_wanted {
        plan.reasons.push(Reason::Held {
            machines: keep - plan.machines_wanted,
            hold_s,
        });
    }
    if policy.handoff_s.is_some() {
        // Runs that are handed off need a slot elsewhere.
        let running: u64 = seen.workers.iter().map(|worker| u64::from(worker.busy())).sum();
        let needed = (running + seen.queued).div_ceil(u64::from(slots));
        keep = keep.max(u32::try_from(needed).unwrap_or(u32::MAX));
    }
    let base = policy.machines.on_demand_base.div_ceil(slots);
    let mut on_demand = u32::try_from(
        have.iter()
            .filter(|worker| worker.lifecycle == Lifecycle::OnDemand && worker.counts())
            .count(),
    )
    .unwrap_or(u32::MAX);
    let mut candidates: Vec<_> = have
        .iter()
        .filter(|worker| worker.state == WorkerState::Accepting)
        .collect();
    candidates.sort_by(|a, b| {
        let price = |worker: &Worker| worker.usd_per_hour / f64::from(worker.slots.max(1));
        (a.busy().cmp(&b.busy()))
            .then_with(|| price(b).total_cmp(&price(a)))
            .then_with(|| a.age_s.total_cmp(&b.age_s))
            .then_with(|| a.id.cmp(&b.id))
    });
    let mut surplus = counted.saturating_sub(keep);
    for worker in candidates {
        if surplus == 0 {
            break;
        }
        if worker.lifecycle == Lifecycle::OnDemand && policy.machines.lifecycle == Lifecycle::Spot {
            if on_demand <= base {
                continue;
            }
            on_demand -= 1;
        }
        surplus -= 1;
        plan.actions.push(Action::Drain {
            worker: worker.id.clone(),
        });
    }
}

/// What has drained goes; those that come back stay.
fn terminate(seen: &Observation, undrained: u32, plan: &mut Plan) {
    let back: Vec<_> = plan.actions[..]
        .iter()
        .take(undrained as usize)
        .cloned()
        .collect();
    for worker in &seen.workers {
        let idle = worker.state == WorkerState::Draining && worker.ages_s.is_empty();
        let returns = || {
            back.iter()
                .any(|action| matches!(action, Action::Undrain { worker: id } if *id == worker.id))
        };
        if idle && !returns() {
            plan.actions.push(Action::Terminate {
                worker: worker.id.clone(),
            });
        }
    }
}
