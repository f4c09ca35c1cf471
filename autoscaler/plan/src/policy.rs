//! What an operator wishes of a pool: limits, goals, prices it may pay, and the rule that sizes it.

use serde::{Deserialize, Serialize};

/// How capacity is bought. Ordered from what is given up first to what is kept longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// A task that starts fast and costs most.
    Fargate,
    OnDemand,
    /// Cheap, and may be taken away with two minutes' notice.
    Spot,
    /// Workers on a machine that is there anyway.
    Local,
}

impl Lifecycle {
    pub const ALL: [Self; 4] = [Self::Fargate, Self::OnDemand, Self::Spot, Self::Local];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fargate => "fargate",
            Self::OnDemand => "on_demand",
            Self::Spot => "spot",
            Self::Local => "local",
        }
    }
}

/// One pool: a set of queues whose runs go to workers of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    pub min_slots: u32,
    pub max_slots: u32,
    /// Runs should start within this time.
    pub slo_s: f64,
    /// The share of runs that may start later.
    pub late_share: f64,
    /// How long surplus capacity is kept before it is drained: about what a boot costs.
    pub hold_s: f64,
    /// Executing runs leave a draining worker at their next checkpoint after this time. `None`: they end there.
    pub handoff_s: Option<f64>,
    /// What is assumed of the time from launch to accepting until it has been measured.
    pub boot_s: f64,
    pub machines: Machines,
    pub fargate: Option<Fargate>,
    pub budget: Budget,
    pub rule: Rule,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_slots: 0,
            max_slots: 1_000,
            slo_s: 30.0,
            late_share: 0.05,
            hold_s: 120.0,
            handoff_s: Some(30.0),
            boot_s: 90.0,
            machines: Machines::default(),
            fargate: None,
            budget: Budget::default(),
            rule: Rule::default(),
        }
    }
}

/// The mix of machines of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machines {
    /// What one machine executes at once.
    pub slots: u32,
    /// What is bought beyond the base: `spot`, `on_demand`, or `local`.
    pub lifecycle: Lifecycle,
    /// Slots of on-demand capacity before any spot is bought.
    pub on_demand_base: u32,
    /// Whether on-demand stands in while spot cannot be had.
    pub on_demand_fallback: bool,
}

impl Default for Machines {
    fn default() -> Self {
        Self {
            slots: 4,
            lifecycle: Lifecycle::Spot,
            on_demand_base: 0,
            on_demand_fallback: true,
        }
    }
}

/// Short-lived tasks that bridge the boot of machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fargate {
    pub max_tasks: u32,
    pub slots: u32,
    /// What is assumed of a task's start until it has been measured.
    pub start_s: f64,
    /// A task is launched only if its run starts at least this much earlier there.
    pub gain_s: f64,
}

impl Default for Fargate {
    fn default() -> Self {
        Self {
            max_tasks: 20,
            slots: 1,
            start_s: 35.0,
            gain_s: 10.0,
        }
    }
}

/// What a pool may cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    pub usd_per_hour: Option<f64>,
    pub usd_per_day: Option<f64>,
}

/// How many slots are wanted, before limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    SloStaffing(SloStaffing),
    /// AWS: target tracking on messages per instance.
    BacklogPerInstance {
        /// Messages per machine.
        target: f64,
    },
    /// KEDA's RabbitMQ trigger on a horizontal pod autoscaler.
    KedaHpa {
        /// Messages per machine.
        target: f64,
    },
    /// Target tracking on `CapacityProviderReservation`.
    EcsManaged {
        /// Percent.
        target: f64,
    },
    /// Queued and running jobs, plus a buffer.
    Buildkite {
        /// Slots kept free.
        buffer: f64,
    },
    /// Steps by queue length: (messages, machines), ascending.
    Step {
        steps: Vec<(u64, u32)>,
    },
}

impl Default for Rule {
    fn default() -> Self {
        Self::SloStaffing(SloStaffing::default())
    }
}

impl Rule {
    pub fn name(&self) -> &'static str {
        match self {
            Self::SloStaffing(_) => "slo-staffing",
            Self::BacklogPerInstance { .. } => "backlog-per-instance",
            Self::KedaHpa { .. } => "keda-hpa",
            Self::EcsManaged { .. } => "ecs-managed",
            Self::Buildkite { .. } => "buildkite",
            Self::Step { .. } => "step",
        }
    }
}

/// Settings of the rule `slo-staffing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SloStaffing {
    /// How strongly late and timely starts move the reserve.
    pub gain: f64,
    /// The reserve is what is kept for what no forecast knows: 0 none, 1 the usual, 2 much. It starts here, ...
    pub reserve: f64,
    /// ... and finds its own place between these two, where just the allowed share of runs is late.
    pub reserve_min: f64,
    pub reserve_max: f64,
    /// Whether yesterday's profile shapes the forecast.
    pub season: bool,
}

impl Default for SloStaffing {
    fn default() -> Self {
        Self {
            gain: 0.05,
            reserve: 0.6,
            reserve_min: 0.0,
            reserve_max: 1.5,
            season: true,
        }
    }
}
