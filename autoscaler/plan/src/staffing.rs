//! The rule `slo-staffing`: what will still execute one lead time from now, and how much more to have for what is not
//! known (square-root staffing; Halfin and Whitt 1981, <https://doi.org/10.1287/opre.29.3.567>).

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::observation::{Observation, WorkerState};
use crate::policy::{Policy, SloStaffing};
use crate::survival::{Ages, Survival};

/// What is expected of the slots one lead time from now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    pub lead_s: f64,
    /// Of the slots occupied then: by runs that execute now, by those that wait now, by those that arrive until then.
    pub still_running: f64,
    pub of_queued: f64,
    pub of_arrivals: f64,
    pub arrivals_per_s: f64,
    /// The standard deviation of the sum.
    pub deviation: f64,
    /// What is kept for what no forecast knows: see [`SloStaffing`].
    pub reserve: f64,
    /// Runs that will execute or wait then, with the slots that there are.
    pub in_system: f64,
    /// Runs that a slot takes on within the time that runs may wait.
    pub turnover: f64,
    pub slots: f64,
}

/// The part of the turnover that is counted on for runs that are there now: others arrive beside them.
const NOW: f64 = 0.45;
/// How finely the lead time is stepped through.
const STEPS: usize = 8;

/// Slots wanted.
pub(crate) fn forecast(policy: &Policy, rule: &SloStaffing, seen: &Observation, past: &History) -> Forecast {
    let lead_s = past.lead_s(policy);
    let staying = seen.workers.iter().filter(|worker| stays(policy, worker));
    let ages = Ages::of(
        staying
            .flat_map(|worker| &worker.ages_s)
            .chain(&seen.elsewhere_ages_s),
    );
    let all = seen
        .workers
        .iter()
        .flat_map(|worker| &worker.ages_s)
        .chain(&seen.elsewhere_ages_s);
    let curve = past.durations.curve(&Ages::of(all));
    let rate = past.arrivals.rate(seen.at_s, lead_s, rule.season);
    let queued = seen.queued as f64;

    // As if nobody ever waited.
    let (still_running, mut variance) = curve.remain(&ages, lead_s);
    let lasts = curve.lasts(0.0, lead_s);
    let of_queued = queued * lasts;
    variance += of_queued * (1.0 - lasts);
    let of_arrivals = rate * curve.occupies_s(lead_s);
    let unsure = past.arrivals.variation() * of_arrivals;
    variance += of_arrivals + unsure * unsure;
    // The quarter is for what a whole number leaves out; where nothing is expected, nothing is kept for it.
    let load = still_running + of_queued + of_arrivals;
    let deviation = (variance + 0.25 * load.min(1.0)).sqrt();

    // As the slots that there are will serve them.
    let in_system = in_system(seen, &ages, &curve, rate, lead_s);
    let turnover = turnover(policy, &curve, &ages, past.durations.mean_s());
    let reserve = past.reserve(rule);
    let slots = (load + (1.5 * reserve - 0.5) * deviation)
        .max((in_system + 1.5 * reserve * deviation) / (1.0 + turnover))
        .max((ages.runs() + queued) / (1.0 + NOW * turnover))
        .max(0.0);
    Forecast {
        lead_s,
        still_running,
        of_queued,
        of_arrivals,
        arrivals_per_s: rate,
        deviation,
        reserve,
        in_system,
        turnover,
        slots,
    }
}

/// How many runs will execute or wait one lead time from now with the slots that there are or come up until then.
fn in_system(seen: &Observation, ages: &Ages, curve: &Survival, rate: f64, lead_s: f64) -> f64 {
    let step_s = lead_s / STEPS as f64;
    let mut ready = [0.0; STEPS];
    for worker in &seen.workers {
        let from = match worker.state {
            WorkerState::Accepting => 0,
            WorkerState::Booting { ready_in_s } => (ready_in_s / step_s) as usize,
            WorkerState::Draining | WorkerState::Noticed => continue,
        };
        if let Some(slots) = ready.get_mut(from) {
            *slots += f64::from(worker.slots);
        }
    }
    let lasts: [f64; STEPS] = std::array::from_fn(|steps| curve.lasts(0.0, steps as f64 * step_s));
    // A slot may serve several short runs within a step.
    let held = (curve.occupies_s(step_s) / step_s).max(0.05);
    let (mut queued, mut slots, mut busy) = (seen.queued as f64, 0.0, 0.0);
    let mut started = [0.0; STEPS];
    for step in 0..STEPS {
        slots += ready[step];
        busy = curve.remain(ages, (step as f64 + 1.0) * step_s).0;
        busy += started[..step]
            .iter()
            .enumerate()
            .map(|(then, runs)| runs * lasts[step - then])
            .sum::<f64>();
        queued += rate * step_s;
        let starts = queued.min((slots - busy).max(0.0) / held);
        queued -= starts;
        started[step] = starts;
        busy += starts * held;
    }
    busy + queued
}

/// How many runs a slot takes on within the time that runs may wait.
fn turnover(policy: &Policy, curve: &Survival, ages: &Ages, mean_s: f64) -> f64 {
    let runs = ages.runs();
    let leave = if runs > 0.0 {
        1.0 - curve.remain(ages, policy.slo_s).0 / runs
    } else {
        1.0 - curve.lasts(0.0, policy.slo_s)
    };
    // Of those that leave, half the time is left for others, and theirs.
    let again = policy.slo_s / (2.0 * mean_s.max(0.1));
    leave * (1.0 + again)
}

/// How long surplus is kept: more of it where runs were late.
pub(crate) fn hold_s(policy: &Policy, rule: &SloStaffing, past: &History) -> f64 {
    0.5 * policy.hold_s * 5.0_f64.powf(past.reserve(rule))
}

/// Whether the runs of a worker will need a slot of the others: where runs are not handed off, those of a draining
/// worker end on it.
pub(crate) fn stays(policy: &Policy, worker: &crate::observation::Worker) -> bool {
    use crate::observation::WorkerState::{Accepting, Booting, Draining, Noticed};
    match worker.state {
        Booting { .. } | Accepting | Noticed => true,
        Draining => policy.handoff_s.is_some(),
    }
}
