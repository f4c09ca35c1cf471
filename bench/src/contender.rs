//! What is measured side by side: Flowfleet, the floor and the peers, each behind [`Contender`].

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Bench;

/// How runs are handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// By the best bulk call there is.
    Batch,
    /// One call a run, so many calls at once.
    Single { concurrency: usize },
}

impl Mode {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Batch => "batch".to_owned(),
            Self::Single { concurrency } => format!("single, {concurrency} at once"),
        }
    }
}

/// One round of throughput.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Throughput {
    /// Runs that were submitted, all of which have finished.
    pub(crate) runs: usize,
    /// From before the first submit until the last one was answered.
    pub(crate) submit_s: f64,
    /// From before the first submit until the last run's end, durably visible.
    pub(crate) total_s: f64,
    /// The same, as somebody saw it who polled from outside; where there is such a view.
    pub(crate) seen_s: Option<f64>,
    /// CPU seconds by process: the contender's own. Those of the services are added by the harness.
    pub(crate) cpu: Vec<(String, f64)>,
}

/// What every run at low load took.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LatencySamples {
    /// From the client's clock before the submit until the run's code begins.
    pub(crate) started: Vec<Duration>,
    /// From the client's clock before the submit until the run's end is stored.
    pub(crate) finished: Vec<Duration>,
}

/// A system that takes `{"name": "Ada"}`, renders "Hello, Ada! ..." and keeps the answer durably.
///
/// `prepare` comes first and once, `finish` last and once; in between, rounds of several contenders take
/// turns. One that waits for its turn must use next to no CPU.
#[async_trait]
pub(crate) trait Contender: Send {
    /// As the tables show it; short.
    fn name(&self) -> &str;

    /// Versions and settings that decide its speed, in one sentence.
    fn about(&self) -> String;

    /// Installs, builds and starts whatever is needed. An error takes this contender out of the tables; its
    /// text says why, below them.
    async fn prepare(&mut self, bench: &Bench) -> anyhow::Result<()>;

    /// Submits `runs` runs and waits for their ends.
    async fn throughput(&mut self, mode: Mode, runs: usize) -> anyhow::Result<Throughput>;

    /// Submits `rate` runs a second, evenly spaced, for so many seconds.
    async fn latency(&mut self, rate: f64, seconds: u64) -> anyhow::Result<LatencySamples>;

    /// Stops and removes what `prepare` made.
    async fn finish(&mut self) -> anyhow::Result<()>;
}
