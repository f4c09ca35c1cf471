//! Why capacity changes, or does not, as data and as sentences.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::policy::Lifecycle;

/// One reason. Its sentence is its `Display`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// The rule wants so many slots.
    Wanted {
        rule: Arc<str>,
        slots: f64,
        running: f64,
        queued: u64,
    },
    /// The oldest run waits too long.
    Overdue {
        oldest_wait_s: f64,
        slo_s: f64,
    },
    /// Surplus is kept for a while.
    Held {
        machines: u32,
        hold_s: f64,
    },
    AtMax {
        max_slots: u32,
        wished: f64,
    },
    AtMin {
        min_slots: u32,
    },
    /// The budget of an hour or a day cuts the wish.
    OverBudget {
        period: Period,
        budget_usd: f64,
        machines_refused: u32,
    },
    /// Capacity of this kind was refused lately.
    Cooling {
        lifecycle: Lifecycle,
        for_s: f64,
    },
    /// On-demand stands in for spot.
    Fallback {
        machines: u32,
    },
    /// Runs that were interrupted, or are near their deadline, ask for on-demand.
    OnDemandAsked {
        runs: u64,
    },
    /// Something is not known, so nothing is given up.
    Stale {
        what: Unknown,
    },
    /// Runs would wait longer for machines than Fargate takes.
    Bridge {
        runs: u32,
        saves_s: f64,
    },
    /// A bound from outside.
    Bounded {
        name: Arc<str>,
        slots: f64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Hour,
    Day,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    Runs,
    Workers,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted {
                rule,
                slots,
                running,
                queued,
            } => write!(
                f,
                "{rule} wants {slots:.1} slots: {running:.0} runs execute and {queued} wait"
            ),
            Self::Overdue { oldest_wait_s, slo_s } => write!(
                f,
                "the oldest run waits {oldest_wait_s:.0} s, the goal is {slo_s:.0} s: each run gets a slot"
            ),
            Self::Held { machines, hold_s } => write!(
                f,
                "{machines} machines are kept that were wanted within {hold_s:.0} s: starting them again costs as much"
            ),
            Self::AtMax { max_slots, wished } => {
                write!(f, "max_slots is {max_slots}, {wished:.0} were wished for")
            }
            Self::AtMin { min_slots } => write!(f, "min_slots keeps {min_slots}"),
            Self::OverBudget {
                period,
                budget_usd,
                machines_refused,
            } => write!(
                f,
                "the budget of {budget_usd} USD {} leaves out {machines_refused} machines",
                match period {
                    Period::Hour => "an hour",
                    Period::Day => "a day",
                }
            ),
            Self::Cooling { lifecycle, for_s } => write!(
                f,
                "{} capacity was refused: asked for again in {for_s:.0} s",
                lifecycle.as_str()
            ),
            Self::Fallback { machines } => {
                write!(f, "{machines} on-demand machines stand in for spot")
            }
            Self::OnDemandAsked { runs } => write!(
                f,
                "{runs} runs were interrupted before or are near their deadline: they get on-demand"
            ),
            Self::Stale { what } => write!(
                f,
                "{} not known: nothing is given up until it is",
                match what {
                    Unknown::Runs => "what waits and executes is",
                    Unknown::Workers => "which workers there are is",
                }
            ),
            Self::Bridge { runs, saves_s } => write!(
                f,
                "{runs} runs would start {saves_s:.0} s later on machines than on Fargate"
            ),
            Self::Bounded { name, slots } => write!(f, "{name} bounds the wish to {slots:.0} slots"),
        }
    }
}
