//! Settings of where a worker runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What kind of capacity a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Found out: from ECS or EC2 where it runs there, else `local`.
    Auto,
    Local,
    Spot,
    OnDemand,
    Fargate,
}

impl Lifecycle {
    /// As metrics and listings call it, if it is not to be found out.
    pub fn named(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Local => Some("local"),
            Self::Spot => Some("spot"),
            Self::OnDemand => Some("on_demand"),
            Self::Fargate => Some("fargate"),
        }
    }
}

/// What follows when EC2 says that an instance is likelier than others to be interrupted soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebalance {
    /// It is shown.
    Report,
    /// The worker drains as if it had been told to end.
    Drain,
}

/// Where a worker runs, and what it makes of its provider's notices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The capacity it belongs to; by default what its provider says.
    pub pool: Option<String>,
    /// What it costs, from its launch on.
    pub usd_per_hour: Option<f64>,
    /// Where instance metadata is served, if not where EC2 serves it.
    pub metadata_url: Option<String>,
    /// Seconds between two looks for notices.
    pub poll_s: f64,
    /// Seconds after an interruption notice within which all runs have ended or are handed back.
    pub notice_s: f64,
    pub rebalance: Rebalance,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pool: None,
            usd_per_hour: None,
            metadata_url: None,
            poll_s: 5.0,
            notice_s: 60.0,
            rebalance: Rebalance::Report,
        }
    }
}

impl Settings {
    pub(crate) fn poll(&self) -> Duration {
        Duration::from_secs_f64(self.poll_s)
    }

    pub(crate) fn notice(&self) -> Duration {
        Duration::from_secs_f64(self.notice_s)
    }
}
