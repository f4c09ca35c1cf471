//! What is known of a pool at one moment. Numbers that could not be had are absent, never guessed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::policy::Lifecycle;

/// A pool at one moment. Times are seconds since the epoch of whoever observes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Observation {
    pub at_s: f64,
    /// Runs that want a worker.
    pub queued: u64,
    /// How long the oldest of them has waited.
    pub oldest_wait_s: f64,
    /// Those of the queued that ask for on-demand capacity: interrupted before, or near their deadline.
    pub queued_on_demand: u64,
    /// How long runs have been executing whose worker is not among `workers`.
    pub elsewhere_ages_s: Vec<f64>,
    pub since_last: Since,
    pub workers: Vec<Worker>,
    pub prices: Prices,
    pub spend: Spend,
    /// How old what is known is. Beyond [`Freshness::LIMIT_S`] nothing is scaled in, and nothing else is decided.
    pub freshness: Freshness,
    /// Bounds from elsewhere, such as a CloudWatch metric named in the configuration.
    pub bounds: Vec<Bound>,
}

impl Default for Observation {
    fn default() -> Self {
        Self {
            at_s: 0.0,
            queued: 0,
            oldest_wait_s: 0.0,
            queued_on_demand: 0,
            elsewhere_ages_s: Vec::new(),
            since_last: Since::default(),
            workers: Vec::new(),
            prices: Prices::default(),
            spend: Spend::default(),
            freshness: Freshness::default(),
            bounds: Vec::new(),
        }
    }
}

/// What happened since the last observation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Since {
    pub arrived: u64,
    pub started: u64,
    /// Of the started: those that waited longer than the goal.
    pub started_late: u64,
    /// How long the runs that ended had executed.
    pub durations_s: Vec<f64>,
    /// Launch to accepting, of workers that became ready.
    pub boots_s: Vec<f64>,
    /// The same for Fargate tasks.
    pub fargate_starts_s: Vec<f64>,
    /// Capacity that was refused.
    pub refused: Vec<Refusal>,
    /// Workers that were taken away.
    pub interrupted: u32,
}

/// A refused launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub lifecycle: Lifecycle,
    /// The provider's code, such as `InsufficientInstanceCapacity`.
    pub code: Arc<str>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub id: Arc<str>,
    pub lifecycle: Lifecycle,
    pub state: WorkerState,
    pub slots: u32,
    /// How long each of its runs has been executing, over all attempts.
    pub ages_s: Vec<f64>,
    /// How long ago it was launched.
    pub age_s: f64,
    pub usd_per_hour: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    Booting {
        /// When it should accept runs; not below zero.
        ready_in_s: f64,
    },
    Accepting,
    Draining,
    /// It is going to be taken away.
    Noticed,
}

impl Worker {
    /// How many runs it executes.
    pub fn busy(&self) -> u32 {
        u32::try_from(self.ages_s.len()).unwrap_or(u32::MAX)
    }

    /// Whether it is or will be capacity.
    pub fn counts(&self) -> bool {
        matches!(self.state, WorkerState::Booting { .. } | WorkerState::Accepting)
    }
}

/// What one slot costs an hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    pub spot: f64,
    pub on_demand: f64,
    pub fargate: f64,
}

impl Default for Prices {
    fn default() -> Self {
        Self {
            spot: 0.35,
            on_demand: 1.0,
            fargate: 1.25,
        }
    }
}

impl Prices {
    pub fn of(&self, lifecycle: Lifecycle) -> f64 {
        match lifecycle {
            Lifecycle::Spot => self.spot,
            Lifecycle::OnDemand => self.on_demand,
            Lifecycle::Fargate => self.fargate,
            Lifecycle::Local => 0.0,
        }
    }
}

/// What has been spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spend {
    /// Since midnight UTC.
    pub today_usd: f64,
}

/// How old what is known is, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Freshness {
    /// Runs. `None`: the store does not answer.
    pub runs_s: Option<f64>,
    /// Workers and capacity. `None`: their sources do not answer.
    pub workers_s: Option<f64>,
}

impl Freshness {
    pub const LIMIT_S: f64 = 60.0;

    pub const NOW: Self = Self {
        runs_s: Some(0.0),
        workers_s: Some(0.0),
    };
}

/// A limit from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Where it comes from, for the ledger.
    pub name: Arc<str>,
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
}
