//! What came of a simulation: costs, waits, waste; as data and as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use flowfleet_plan::{Lifecycle, Observation, WorkerState};
use serde::{Deserialize, Serialize};

use crate::clairvoyant::Bound;
use crate::cloud::Cloud;
use crate::scenario::Scenario;
use crate::trace::Arrival;

/// One policy on one trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub policy: String,
    pub runs: usize,
    pub cost_usd: f64,
    pub cost_by_lifecycle_usd: BTreeMap<Lifecycle, f64>,
    /// Share of runs that started later than the goal.
    pub late_share: f64,
    pub wait_mean_s: f64,
    pub wait_p50_s: f64,
    pub wait_p95_s: f64,
    pub wait_p99_s: f64,
    pub wait_max_s: f64,
    pub launches: BTreeMap<Lifecycle, u64>,
    pub drains: u64,
    /// Machines that got a notice, and runs that were lost with theirs and began again at a checkpoint.
    pub notices: u64,
    pub interrupted_runs: u64,
    pub handed_off_runs: u64,
    pub refusals: u64,
    pub waste: Waste,
    pub peak_slots: u32,
    pub hours: f64,
    pub decisions: u64,
    #[serde(skip)]
    pub samples: Vec<Sample>,
    /// When each run started and how long it had waited.
    #[serde(skip)]
    pub waits: Vec<(f32, f32)>,
}

/// What was paid for and not used, by reason, as shares of the cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Waste {
    pub boot_share: f64,
    pub idle_share: f64,
    /// Work that was done twice.
    pub lost_share: f64,
}

/// The fleet at a tick, in slots.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    pub at_s: f32,
    pub queued: f32,
    pub running: f32,
    pub wished: f32,
    pub booting: f32,
    pub draining: f32,
    pub spot: f32,
    pub on_demand: f32,
    pub fargate: f32,
}

impl Sample {
    pub(crate) fn of(at_s: f64, seen: &Observation, wished: f64) -> Self {
        let mut sample = Self {
            at_s: at_s as f32,
            queued: seen.queued as f32,
            wished: wished as f32,
            ..Self::default()
        };
        for worker in &seen.workers {
            let slots = worker.slots as f32;
            sample.running += worker.busy() as f32;
            match worker.state {
                WorkerState::Booting { .. } => sample.booting += slots,
                WorkerState::Draining | WorkerState::Noticed => sample.draining += slots,
                WorkerState::Accepting => match worker.lifecycle {
                    Lifecycle::Spot | Lifecycle::Local => sample.spot += slots,
                    Lifecycle::OnDemand => sample.on_demand += slots,
                    Lifecycle::Fargate => sample.fargate += slots,
                },
            }
        }
        sample
    }

    /// All slots that are paid for.
    pub fn slots(&self) -> f32 {
        self.booting + self.draining + self.spot + self.on_demand + self.fargate
    }
}

/// What the world counts as it goes.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) ended: usize,
    pub(crate) last_end_s: f64,
    pub(crate) waits: Vec<(f32, f32)>,
    pub(crate) late: u64,
    pub(crate) launches: BTreeMap<Lifecycle, u64>,
    pub(crate) drains: u64,
    pub(crate) notices: u64,
    pub(crate) interrupted: u64,
    pub(crate) handed_off: u64,
    pub(crate) refusals: u64,
    pub(crate) lost_s: f64,
    pub(crate) boot_slot_s: f64,
    samples: Vec<Sample>,
    slot_s: f64,
}

impl Measured {
    pub(crate) fn started(&mut self, now_s: f64, wait_s: f64, late: bool) {
        self.waits.push((now_s as f32, wait_s as f32));
        self.late += u64::from(late);
    }

    pub(crate) fn sample(&mut self, sample: Sample) {
        if let Some(last) = self.samples.last() {
            self.slot_s += f64::from(sample.at_s - last.at_s) * f64::from(last.slots());
        }
        self.samples.push(sample);
    }

    pub(crate) fn report(
        self,
        scenario: &Scenario,
        arrivals: &[Arrival],
        cloud: &Cloud,
        now_s: f64,
        ticks: u64,
    ) -> Report {
        let cost_by_lifecycle_usd = cloud.billed(now_s);
        let mut waits: Vec<f32> = self.waits.iter().map(|(_, wait)| *wait).collect();
        waits.sort_by(f32::total_cmp);
        let quantile = |q: f64| {
            let index = ((waits.len() as f64 * q).ceil() as usize).clamp(1, waits.len().max(1)) - 1;
            waits.get(index).copied().map_or(0.0, f64::from)
        };
        let runs = arrivals.len();
        let work_s: f64 = arrivals.iter().map(|arrival| arrival.service_s).sum();
        let share = |slot_s: f64| {
            if self.slot_s > 0.0 {
                slot_s / self.slot_s
            } else {
                0.0
            }
        };
        let idle_s = (self.slot_s - work_s - self.boot_slot_s - self.lost_s).max(0.0);
        Report {
            policy: scenario.policy.rule.name().to_owned(),
            runs,
            cost_usd: cost_by_lifecycle_usd.values().sum(),
            cost_by_lifecycle_usd,
            late_share: self.late as f64 / runs.max(1) as f64,
            wait_mean_s: waits.iter().map(|wait| f64::from(*wait)).sum::<f64>() / waits.len().max(1) as f64,
            wait_p50_s: quantile(0.5),
            wait_p95_s: quantile(0.95),
            wait_p99_s: quantile(0.99),
            wait_max_s: quantile(1.0),
            launches: self.launches,
            drains: self.drains,
            notices: self.notices,
            interrupted_runs: self.interrupted,
            handed_off_runs: self.handed_off,
            refusals: self.refusals,
            waste: Waste {
                boot_share: share(self.boot_slot_s),
                idle_share: share(idle_s),
                lost_share: share(self.lost_s),
            },
            peak_slots: self
                .samples
                .iter()
                .map(|sample| sample.slots())
                .fold(0.0, f32::max) as u32,
            hours: now_s / 3_600.0,
            decisions: ticks,
            samples: self.samples,
            waits: self.waits,
        }
    }
}

/// The reports of one trace side by side, beside what nobody can beat.
pub fn table(reports: &[Report], bound: &Bound, slo_s: f64) -> String {
    let mut text = String::new();
    let late = format!("> {slo_s} s");
    let _ = writeln!(
        text,
        "{:<22} {:>10} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6} {:>6} {:>6}",
        "policy",
        "USD",
        "x CLV",
        late,
        "p50 s",
        "p95 s",
        "p99 s",
        "launches",
        "handed",
        "boot",
        "idle",
        "lost"
    );
    for report in reports {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let launches: u64 = report.launches.values().sum();
        let _ = writeln!(
            text,
            "{:<22} {:>10.2} {:>7.3} {:>8} {:>8.1} {:>8.1} {:>8.1} {:>8} {:>7} {:>6} {:>6} {:>6}",
            report.policy,
            report.cost_usd,
            report.cost_usd / bound.clairvoyant_usd.max(f64::MIN_POSITIVE),
            percent(report.late_share),
            report.wait_p50_s,
            report.wait_p95_s,
            report.wait_p99_s,
            launches,
            report.handed_off_runs,
            percent(report.waste.boot_share),
            percent(report.waste.idle_share),
            percent(report.waste.lost_share),
        );
    }
    let _ = writeln!(
        text,
        "{:<22} {:>10.2} {:>7.3}\n{:<22} {:>10.2} {:>7.3}",
        "clairvoyant (CLV)",
        bound.clairvoyant_usd,
        1.0,
        "work alone",
        bound.work_usd,
        bound.work_usd / bound.clairvoyant_usd.max(f64::MIN_POSITIVE),
    );
    text
}
