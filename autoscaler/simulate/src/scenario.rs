//! A scenario: which part of a trace, how much work a run is, which cloud, and which policy, as TOML.

use flowfleet_plan::Policy;
use serde::{Deserialize, Serialize};

use crate::cloud::CloudSettings;

/// Everything about a simulation but the trace itself. Every key has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    pub seed: u64,
    /// Seconds between decisions.
    pub tick_s: f64,
    pub trace: TraceSettings,
    pub work: Work,
    pub cloud: CloudSettings,
    pub policy: Policy,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            tick_s: 10.0,
            trace: TraceSettings::default(),
            work: Work::default(),
            cloud: CloudSettings::default(),
            policy: Policy::default(),
        }
    }
}

/// Which arrivals of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    pub start_h: f64,
    /// `None`: to its end.
    pub hours: Option<f64>,
    /// So many runs for each of the trace; a fraction takes some of them.
    pub scale: f64,
    /// The copies of a run arrive within this time of it.
    pub spread_s: f64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            start_h: 0.0,
            hours: None,
            scale: 1.0,
            spread_s: 600.0,
        }
    }
}

/// How much work a run is, and where it can be interrupted without loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Work {
    /// Of traces that only count arrivals.
    pub service: ServiceTimes,
    /// A run that is handed off or interrupted resumes where its last multiple of this ended. `None`: at its start.
    pub checkpoint_s: Option<f64>,
    /// Seconds a prompt token and a generated token take, of traces that count tokens.
    pub token_s: [f64; 2],
}

impl Default for Work {
    fn default() -> Self {
        Self {
            service: ServiceTimes::default(),
            checkpoint_s: Some(10.0),
            token_s: [0.0002, 0.03],
        }
    }
}

/// A log-normal distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceTimes {
    pub median_s: f64,
    pub sigma: f64,
}

impl Default for ServiceTimes {
    fn default() -> Self {
        Self {
            median_s: 15.0,
            sigma: 1.0,
        }
    }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Refuses what no simulation can mean.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("tick_s", self.tick_s),
            ("trace.scale", self.trace.scale),
            ("work.service.median_s", self.work.service.median_s),
            ("policy.slo_s", self.policy.slo_s),
            ("policy.boot_s", self.policy.boot_s),
            ("work.checkpoint_s", self.work.checkpoint_s.unwrap_or(1.0)),
            ("trace.hours", self.trace.hours.unwrap_or(1.0)),
        ];
        for (key, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{key} is {value}: use a number above 0"));
            }
        }
        let natural = [
            ("trace.start_h", self.trace.start_h),
            ("trace.spread_s", self.trace.spread_s),
            ("work.service.sigma", self.work.service.sigma),
            ("policy.hold_s", self.policy.hold_s),
            ("policy.handoff_s", self.policy.handoff_s.unwrap_or(0.0)),
            ("cloud.boot_s", self.cloud.boot_s[0]),
            ("cloud.fargate_start_s", self.cloud.fargate_start_s[0]),
            ("cloud.minimum_billed_s", self.cloud.minimum_billed_s),
            ("cloud.interruptions_per_hour", self.cloud.interruptions_per_hour),
        ];
        for (key, value) in natural {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("{key} is {value}: use 0 or more"));
            }
        }
        for (key, [low, high]) in [
            ("cloud.boot_s", self.cloud.boot_s),
            ("cloud.fargate_start_s", self.cloud.fargate_start_s),
        ] {
            if !(high.is_finite() && high >= low) {
                return Err(format!("{key} is [{low}, {high}]: use [least, most]"));
            }
        }
        if self.policy.machines.slots == 0 {
            return Err("policy.machines.slots is 0: use 1 or more".into());
        }
        if self.policy.min_slots > self.policy.max_slots {
            return Err(format!(
                "policy.min_slots is {} and policy.max_slots {}: use no more than the most",
                self.policy.min_slots, self.policy.max_slots
            ));
        }
        Ok(())
    }
}
