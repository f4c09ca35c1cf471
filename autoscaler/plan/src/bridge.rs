//! The Fargate bridge: tasks for runs that would start late on machines and earlier there.

use crate::budget::Spare;
use crate::decide::{Action, Plan};
use crate::history::History;
use crate::observation::{Observation, Worker, WorkerState};
use crate::policy::{Fargate, Lifecycle, Policy};
use crate::reason::Reason;
use crate::survival::Ages;

/// How finely starts are estimated.
const STEP_S: f64 = 5.0;

pub(crate) fn decide(policy: &Policy, seen: &Observation, past: &History, plan: &mut Plan) {
    leave(seen, plan);
    let Some(fargate) = &policy.fargate else {
        return;
    };
    let (runs, saves_s) = late(policy, fargate, seen, past);
    if runs == 0 {
        return;
    }
    let tasks: Vec<&Worker> = seen
        .workers
        .iter()
        .filter(|worker| worker.lifecycle == Lifecycle::Fargate)
        .collect();
    let coming: u32 = tasks
        .iter()
        .filter(|worker| worker.counts())
        .map(|worker| worker.slots.saturating_sub(worker.busy()))
        .sum();
    let room = fargate
        .max_tasks
        .saturating_sub(u32::try_from(tasks.len()).unwrap_or(u32::MAX));
    let wanted = runs
        .saturating_sub(coming)
        .div_ceil(fargate.slots.max(1))
        .min(room);
    if wanted == 0 {
        return;
    }
    let reason = Reason::Bridge { runs, saves_s };
    if let Some(until_s) = past.cooling_until_s(Lifecycle::Fargate, seen.at_s) {
        plan.rejected.push(reason);
        plan.rejected.push(Reason::Cooling {
            lifecycle: Lifecycle::Fargate,
            for_s: until_s - seen.at_s,
        });
        return;
    }
    let mut spare = Spare::new(policy, seen);
    for action in &plan.actions {
        if let Action::Launch { lifecycle, machines } = action {
            spare.take(
                *machines,
                f64::from(policy.machines.slots) * seen.prices.of(*lifecycle),
                &mut Plan::default(),
            );
        }
    }
    let machines = spare.take(wanted, f64::from(fargate.slots) * seen.prices.fargate, plan);
    if machines > 0 {
        plan.reasons.push(reason);
        plan.actions.push(Action::Launch {
            lifecycle: Lifecycle::Fargate,
            machines,
        });
    } else {
        plan.rejected.push(reason);
    }
}

/// Tasks without work leave once nothing waits: they are the dearest.
fn leave(seen: &Observation, plan: &mut Plan) {
    if seen.queued > 0 {
        return;
    }
    for worker in &seen.workers {
        let idle = worker.lifecycle == Lifecycle::Fargate
            && worker.state == WorkerState::Accepting
            && worker.ages_s.is_empty();
        if idle {
            plan.actions.push(Action::Drain {
                worker: worker.id.clone(),
            });
        }
    }
}

/// How many of the queued would start late on machines and earlier on a task, and how much earlier the first of them.
fn late(policy: &Policy, fargate: &Fargate, seen: &Observation, past: &History) -> (u32, f64) {
    if seen.queued == 0 {
        return (0, 0.0);
    }
    let start_s = past.fargate_start_s(fargate.start_s);
    let lead_s = past.lead_s(policy);
    let curve = past
        .durations
        .curve(&Ages::of(seen.workers.iter().flat_map(|worker| &worker.ages_s)));
    let mut runs = 0;
    let mut saves_s: f64 = 0.0;
    let mut served = 0.0;
    let queued = seen.queued as f64;
    let mut t = 0.0;
    // Those served between two steps start at the later one; what waits beyond the horizon starts there.
    let horizon_s = lead_s + STEP_S;
    while served < queued {
        t += STEP_S;
        let by_then = if t > horizon_s {
            queued
        } else {
            free_by(seen, &curve, t).min(queued)
        };
        if by_then > served {
            let middle = f64::midpoint(served, by_then) / queued;
            // First in, first out: the oldest starts first and has waited longest.
            let waited = seen.oldest_wait_s * (1.0 - middle);
            if waited + t > policy.slo_s && t >= start_s + fargate.gain_s {
                runs += (by_then - served).ceil() as u32;
                saves_s = saves_s.max(t - start_s);
            }
            served = by_then;
        }
    }
    (runs, saves_s)
}

/// Slots that machines have free within `t` seconds.
fn free_by(seen: &Observation, curve: &crate::survival::Survival, t: f64) -> f64 {
    seen.workers
        .iter()
        .filter(|worker| worker.lifecycle != Lifecycle::Fargate)
        .map(|worker| match worker.state {
            WorkerState::Accepting => {
                let leaving: f64 = worker.ages_s.iter().map(|age| 1.0 - curve.lasts(*age, t)).sum();
                f64::from(worker.slots.saturating_sub(worker.busy())) + leaving
            }
            WorkerState::Booting { ready_in_s } if ready_in_s <= t => f64::from(worker.slots),
            _ => 0.0,
        })
        .sum()
}
