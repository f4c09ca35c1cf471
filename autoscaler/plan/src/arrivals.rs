//! How many runs arrive, and how sure that is.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

const DAY_S: f64 = 86_400.0;
/// Yesterday's profile, in bins of five minutes.
const BINS: usize = 288;
const BIN_S: f64 = DAY_S / BINS as f64;
const SLOW_S: f64 = 600.0;
const FAST_S: f64 = 60.0;
const ERROR_S: f64 = 3_600.0;
/// How far yesterday may move the forecast.
const SEASON: (f64, f64) = (0.7, 1.6);

/// What has been seen of arrivals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arrivals {
    slow: f64,
    fast: f64,
    /// How much time has been seen; young averages are not averages yet.
    seen_s: f64,
    /// Runs a second by time of day: of yesterday, and of today so far.
    yesterday: Vec<f64>,
    today: Vec<f64>,
    day: i64,
    days: u32,
    total: f64,
    /// Forecasts whose time has not come: when, what rate, and how many had arrived by then.
    pending: VecDeque<(f64, f64, f64)>,
    /// The squared error beyond what chance explains, and the squared forecast: both averages.
    error: f64,
    scale: f64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            slow: 0.0,
            fast: 0.0,
            seen_s: 0.0,
            yesterday: vec![0.0; BINS],
            today: vec![0.0; BINS],
            day: i64::MIN,
            days: 0,
            total: 0.0,
            pending: VecDeque::new(),
            error: 0.0,
            scale: 0.0,
        }
    }
}

impl Arrivals {
    /// Adds what arrived in the `dt_s` before `at_s`, and checks the forecasts made one lead time ago.
    pub(crate) fn observe(&mut self, at_s: f64, dt_s: f64, arrived: u64, lead_s: f64, season: bool) {
        let arrived = arrived as f64;
        self.total += arrived;
        if dt_s > 0.0 {
            let rate = arrived / dt_s;
            self.seen_s += dt_s;
            // While little has been seen, the mean of it.
            let weight = |over_s: f64| (1.0 - (-dt_s / over_s).exp()).max(dt_s / self.seen_s.max(dt_s));
            let (slow, fast) = (weight(SLOW_S), weight(FAST_S));
            self.slow += slow * (rate - self.slow);
            self.fast += fast * (rate - self.fast);
        }
        self.turn_day(at_s);
        self.today[time_bin(at_s)] += arrived / BIN_S;

        while let Some(&(made_at, rate, total)) = self.pending.front() {
            let passed = at_s - made_at;
            if passed < lead_s {
                break;
            }
            self.pending.pop_front();
            let expected = rate * passed;
            let missed = self.total - total - expected;
            // Too many cost waiting, too few only money: both are errors of the forecast.
            let beyond_chance = (missed * missed - expected).max(0.0);
            let weight = 1.0 - (-dt_s.max(1.0) / ERROR_S).exp();
            self.error += weight * (beyond_chance - self.error);
            self.scale += weight * (expected * expected - self.scale);
        }
        self.pending
            .push_back((at_s, self.rate(at_s, lead_s, season), self.total));
    }

    fn turn_day(&mut self, at_s: f64) {
        let day = (at_s / DAY_S).floor() as i64;
        if day != self.day {
            if self.day != i64::MIN {
                self.days = self.days.saturating_add(1);
                self.yesterday = std::mem::replace(&mut self.today, vec![0.0; BINS]);
            }
            self.day = day;
        }
    }

    /// Runs a second over the next `lead_s`.
    pub(crate) fn rate(&self, at_s: f64, lead_s: f64, season: bool) -> f64 {
        let base = self.slow.max(self.fast);
        if season {
            base * self.season(at_s, lead_s)
        } else {
            base
        }
    }

    /// How yesterday went on from this time of day, bounded.
    fn season(&self, at_s: f64, lead_s: f64) -> f64 {
        // The first day in the books may have begun at noon.
        if self.days < 2 {
            return 1.0;
        }
        let around = |at_s: f64| -> f64 {
            (-3..=3)
                .map(|i| self.yesterday[time_bin(at_s + f64::from(i) * BIN_S)])
                .sum()
        };
        let (now, then) = (around(at_s), around(at_s + lead_s + BIN_S));
        // A handful of runs a half hour is no profile.
        if now * BIN_S < 50.0 {
            return 1.0;
        }
        (then / now).clamp(SEASON.0, SEASON.1)
    }

    /// The relative error of the forecast over one lead time, beyond what chance explains.
    pub(crate) fn variation(&self) -> f64 {
        if self.scale <= 0.0 {
            return 0.0;
        }
        (self.error / self.scale).sqrt().min(3.0)
    }
}

fn time_bin(at_s: f64) -> usize {
    (at_s.rem_euclid(DAY_S) / BIN_S) as usize % BINS
}
