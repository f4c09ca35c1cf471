//! What a pool's past teaches: how long runs and boots take, what arrives, and what was decided lately.
//!
//! It is a fold over observations and plans, so a new leader that reads it from the store decides as the old one would have.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::arrivals::Arrivals;
use crate::decide::Plan;
use crate::observation::Observation;
use crate::policy::{Lifecycle, Policy, Rule, SloStaffing};
use crate::survival::Durations;

/// How long a lifecycle is left alone after its capacity was refused: doubled by each refusal, up to a limit.
const COOL_S: (f64, f64) = (60.0, 900.0);
/// Measured times weigh like this many of the assumed one.
const MEASURE: f64 = 0.2;
/// The share of late runs that is aimed for, as a part of what is allowed.
const AIM: f64 = 0.85;
/// For how long it is remembered what was wanted.
const MOST_HELD_S: f64 = 3_600.0;
/// No tick teaches more than so many starts.
const MOST_STARTS: f64 = 4.0;

/// The past of one pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub(crate) last_s: Option<f64>,
    pub(crate) durations: Durations,
    pub(crate) arrivals: Arrivals,
    /// The reserve that meets the goal, once runs have started.
    reserve: Option<f64>,
    boot_s: Option<f64>,
    fargate_start_s: Option<f64>,
    /// Machines wanted lately: when, and how many. Only those that no later one exceeds.
    wanted: VecDeque<(f64, u32)>,
    cooling: BTreeMap<Lifecycle, Cooling>,
    pub(crate) peer: Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Cooling {
    until_s: f64,
    for_s: f64,
}

/// What the peers' rules remember.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Since when a tracked metric has been above its target.
    pub above_since_s: Option<f64>,
}

impl History {
    /// Learns from an observation. Call it once for each, in order, before [`crate::plan`].
    pub fn observe(&mut self, policy: &Policy, seen: &Observation) {
        let dt_s = self.last_s.map_or(0.0, |last| (seen.at_s - last).max(0.0));
        self.last_s = Some(seen.at_s);
        let since = &seen.since_last;
        self.durations.observe(dt_s, &since.durations_s);
        for boot in &since.boots_s {
            let old = self.boot_s.unwrap_or(*boot);
            self.boot_s = Some(old + MEASURE * (boot - old));
        }
        for start in &since.fargate_starts_s {
            let old = self.fargate_start_s.unwrap_or(*start);
            self.fargate_start_s = Some(old + MEASURE * (start - old));
        }
        if let Rule::SloStaffing(rule) = &policy.rule {
            let lead_s = self.lead_s(policy);
            self.arrivals
                .observe(seen.at_s, dt_s, since.arrived, lead_s, rule.season);
            let on_time = since.started.saturating_sub(since.started_late) as f64;
            let late = since.started_late as f64;
            // Many starts in one tick are one experience, not many.
            let starts = late + on_time;
            if starts > 0.0 {
                // Many starts at once are one experience, not many.
                let error = late / starts - AIM * policy.late_share;
                let step = rule.gain * error * starts.min(MOST_STARTS);
                let reserve = self.reserve(rule) + step;
                self.reserve = Some(reserve.clamp(rule.reserve_min, rule.reserve_max));
            }
        }
        crate::peers::remember(policy, seen, self);
        self.cool(seen);
    }

    fn cool(&mut self, seen: &Observation) {
        for refusal in &seen.since_last.refused {
            let old = self.cooling.get(&refusal.lifecycle);
            let for_s = match old {
                Some(old) if seen.at_s < old.until_s => continue,
                // A refusal soon after the last one's end: it is not over yet.
                Some(old) if seen.at_s < old.until_s + old.for_s => (old.for_s * 2.0).min(COOL_S.1),
                _ => COOL_S.0,
            };
            let until_s = seen.at_s + for_s;
            self.cooling.insert(refusal.lifecycle, Cooling { until_s, for_s });
        }
    }

    /// Remembers what was decided.
    pub fn decided(&mut self, policy: &Policy, at_s: f64, plan: &Plan) {
        let machines = plan.machines_wanted;
        while self.wanted.back().is_some_and(|(_, wanted)| *wanted <= machines) {
            self.wanted.pop_back();
        }
        self.wanted.push_back((at_s, machines));
        // The hold time may grow again.
        let hold_s = MOST_HELD_S.max(crate::peers::hold_s(policy, self));
        while self.wanted.front().is_some_and(|(then, _)| at_s - then > hold_s) {
            self.wanted.pop_front();
        }
    }

    /// The most machines that were wanted in the last hold time.
    pub(crate) fn held(&self, at_s: f64, hold_s: f64) -> u32 {
        self.wanted
            .iter()
            .filter(|(then, _)| at_s - then <= hold_s)
            .map(|(_, wanted)| *wanted)
            .max()
            .unwrap_or(0)
    }

    /// What is kept for what no forecast knows.
    pub fn reserve(&self, rule: &SloStaffing) -> f64 {
        self.reserve
            .unwrap_or(rule.reserve)
            .clamp(rule.reserve_min, rule.reserve_max)
    }

    /// Launch to accepting, as measured.
    pub fn boot_s(&self, policy: &Policy) -> f64 {
        self.boot_s.unwrap_or(policy.boot_s).max(1.0)
    }

    /// From a decision to accepting.
    pub fn lead_s(&self, policy: &Policy) -> f64 {
        self.boot_s(policy)
    }

    /// Launch to accepting of Fargate tasks, as measured.
    pub fn fargate_start_s(&self, assumed_s: f64) -> f64 {
        self.fargate_start_s.unwrap_or(assumed_s).max(1.0)
    }

    /// Until when a lifecycle is left alone because its capacity was refused.
    pub fn cooling_until_s(&self, lifecycle: Lifecycle, at_s: f64) -> Option<f64> {
        self.cooling
            .get(&lifecycle)
            .map(|cooling| cooling.until_s)
            .filter(|until| at_s < *until)
    }
}
