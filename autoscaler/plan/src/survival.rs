//! How long runs still take, from how long others took: a hazard over log-spaced ages.
//!
//! Runs that still execute say how long runs take at least (they are censored), so they count as exposure without an
//! end. What ended is forgotten exponentially. A weak log-normal prior stands in where there is no data.

use serde::{Deserialize, Serialize};

const BINS: usize = 84;
/// The upper edge of the first bin, in seconds, and the ratio of each edge to the one before.
const FIRST_S: f64 = 0.5;
const RATIO: f64 = 1.2;
const FORGET_S: f64 = 1.5 * 86_400.0;
/// The prior: so many runs of a log-normal with this median and spread.
const PRIOR_RUNS: f64 = 2.0;
const PRIOR_MEDIAN_S: f64 = 20.0;
const PRIOR_SIGMA: f64 = 1.8;

/// The lower edge of a bin.
fn edge(bin: usize) -> f64 {
    match bin {
        0 => 0.0,
        bin => FIRST_S * RATIO.powi(i32::try_from(bin - 1).unwrap_or(i32::MAX)),
    }
}

fn bin_of(age_s: f64) -> usize {
    if age_s < FIRST_S {
        return 0;
    }
    let bin = ((age_s / FIRST_S).ln() / RATIO.ln()) as usize + 1;
    bin.min(BINS - 1)
}

/// What has been seen of how long runs take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// Runs that ended at an age in the bin.
    ended: Vec<f64>,
    /// The time that runs which ended spent at ages in the bin.
    exposed_s: Vec<f64>,
}

impl Default for Durations {
    fn default() -> Self {
        let mut new = Self {
            ended: vec![0.0; BINS],
            exposed_s: vec![0.0; BINS],
        };
        // Quantiles of the prior, each a run.
        const QUANTILES: usize = 40;
        for i in 0..QUANTILES {
            let q = (i as f64 + 0.5) / QUANTILES as f64;
            let duration = PRIOR_MEDIAN_S * (PRIOR_SIGMA * normal_quantile(q)).exp();
            new.add(duration, PRIOR_RUNS / QUANTILES as f64);
        }
        new
    }
}

impl Durations {
    /// Lets `dt_s` pass, then adds runs that ended.
    pub fn observe(&mut self, dt_s: f64, durations_s: &[f64]) {
        let keep = (-dt_s.max(0.0) / FORGET_S).exp();
        // The prior is not forgotten below itself: without data the curve would have no end.
        let total: f64 = self.ended.iter().sum();
        if total * keep > PRIOR_RUNS {
            for value in self.ended.iter_mut().chain(&mut self.exposed_s) {
                *value *= keep;
            }
        }
        for &duration in durations_s {
            self.add(duration, 1.0);
        }
    }

    fn add(&mut self, duration_s: f64, weight: f64) {
        let duration_s = if duration_s.is_finite() {
            duration_s.max(0.0)
        } else {
            return;
        };
        let last = bin_of(duration_s);
        for bin in 0..last {
            self.exposed_s[bin] += weight * (edge(bin + 1) - edge(bin));
        }
        self.exposed_s[last] += weight * (duration_s - edge(last));
        self.ended[last] += weight;
    }

    /// The survival curve, given what executes now.
    pub fn curve(&self, running: &Ages) -> Survival {
        let past = &running.runs;
        let partial: Vec<f64> = (0..BINS)
            .map(|bin| running.sum_s[bin] - past[bin] * edge(bin))
            .collect();
        let mut hazard = [0.0; BINS];
        let mut cumulative = [0.0; BINS + 1];
        // From the oldest bin down: runs older than a bin spent its whole width there.
        let mut older = 0.0;
        for bin in (0..BINS).rev() {
            let width = edge(bin + 1) - edge(bin);
            let exposed = self.exposed_s[bin] + partial[bin] + older * width;
            hazard[bin] = if exposed > 0.0 {
                self.ended[bin] / exposed.max(1e-3 * width)
            } else {
                // Nobody was ever this old: as many end in a bin as in the middle of a heavy tail.
                1.0 / (3.0 * width)
            };
            older += past[bin];
        }
        for bin in 0..BINS {
            cumulative[bin + 1] = cumulative[bin] + hazard[bin] * (edge(bin + 1) - edge(bin));
        }
        Survival { hazard, cumulative }
    }

    /// The mean of what has been seen, in seconds.
    pub fn mean_s(&self) -> f64 {
        let ended: f64 = self.ended.iter().sum();
        let exposed: f64 = self.exposed_s.iter().sum();
        exposed / ended.max(f64::MIN_POSITIVE)
    }
}

/// The ages of executing runs, by bin.
#[derive(Debug, Clone)]
pub struct Ages {
    runs: [f64; BINS],
    sum_s: [f64; BINS],
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            runs: [0.0; BINS],
            sum_s: [0.0; BINS],
        }
    }
}

impl Ages {
    pub fn of<'a>(ages_s: impl Iterator<Item = &'a f64>) -> Self {
        let mut this = Self::default();
        for &age in ages_s {
            let bin = bin_of(age);
            this.runs[bin] += 1.0;
            this.sum_s[bin] += age;
        }
        this
    }

    /// How many runs, and their mean age, of each bin that has some.
    fn groups(&self) -> impl Iterator<Item = (f64, f64)> {
        self.runs
            .iter()
            .zip(&self.sum_s)
            .filter(|(runs, _)| **runs > 0.0)
            .map(|(runs, sum_s)| (*runs, sum_s / runs))
    }

    pub fn runs(&self) -> f64 {
        self.runs.iter().sum()
    }
}

/// The chance that runs last.
#[derive(Debug, Clone)]
pub struct Survival {
    hazard: [f64; BINS],
    cumulative: [f64; BINS + 1],
}

impl Survival {
    fn hazard_until(&self, age_s: f64) -> f64 {
        let bin = bin_of(age_s);
        self.cumulative[bin] + self.hazard[bin] * (age_s - edge(bin))
    }

    /// The chance that a run of this age executes for `further_s` more.
    pub fn lasts(&self, age_s: f64, further_s: f64) -> f64 {
        (self.hazard_until(age_s) - self.hazard_until(age_s + further_s)).exp()
    }

    /// How many of the runs still execute after `further_s`, and the variance of that.
    pub fn remain(&self, ages: &Ages, further_s: f64) -> (f64, f64) {
        ages.groups().fold((0.0, 0.0), |(mean, variance), (runs, age_s)| {
            let lasts = self.lasts(age_s, further_s);
            (mean + runs * lasts, variance + runs * lasts * (1.0 - lasts))
        })
    }

    /// How many seconds of the next `horizon_s` a run that starts now executes.
    pub fn occupies_s(&self, horizon_s: f64) -> f64 {
        const STEPS: usize = 12;
        let step = horizon_s / STEPS as f64;
        (0..STEPS)
            .map(|i| self.lasts(0.0, (i as f64 + 0.5) * step) * step)
            .sum()
    }
}

/// The quantile of the standard normal distribution, by bisection.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-8.0_f64, 8.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if normal_cumulative(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The cumulative standard normal distribution, by Abramowitz and Stegun 26.2.17 (absolute error below 7.5e-8).
fn normal_cumulative(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if x >= 0.0 { 1.0 - tail } else { tail }
}
