//! What runs cost on a fleet as it is: CPU by process, rate, and how long a queued run waits for its claim.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::Bench;
use crate::client::{self, Load, now_us};
use crate::fleet::{Fleet, Setup};
use crate::parts::engine::hello;
use crate::report::{Cell, Column, Unit, quantile};
use crate::times;

/// Whether any run is still on its way. Reads the two small indexes of live runs.
const LIVE: &str = "
SELECT EXISTS (SELECT FROM runs WHERE state = 'queued') OR EXISTS (SELECT FROM runs WHERE state = 'running')";

const CLAIMS: &str = "
SELECT (extract(epoch FROM started_at - queued_at) * 1000000)::bigint FROM runs
WHERE id = ANY($1) AND started_at IS NOT NULL";

const PATIENCE: Duration = Duration::from_secs(600);
const CONCURRENCY: usize = 64;

/// Processes in the order of the tables. The client's CPU is not part of a run's cost.
pub(in crate::parts) const PROCESSES: [&str; 5] = ["dispatcher", "worker", "postgres", "rabbitmq", "redis"];

/// One round.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Cost {
    /// Microseconds a run, in the order of `PROCESSES`; none where a service is elsewhere.
    cpu_us: Vec<Option<f64>>,
    runs_s: f64,
    claim_ms: Vec<f64>,
}

impl Cost {
    /// Of Postgres, dispatcher and worker.
    fn core_us(&self) -> Option<f64> {
        self.cpu_us[..3].iter().copied().sum()
    }
}

/// A fleet with the flow that is measured, and its database.
pub(in crate::parts) struct Bed {
    pub(in crate::parts) fleet: Fleet,
    pub(in crate::parts) pool: PgPool,
}

impl Bed {
    pub(in crate::parts) async fn start(
        bench: &Bench,
        purpose: &'static str,
        workers: usize,
    ) -> anyhow::Result<Self> {
        let setup = Setup {
            purpose,
            workers,
            slots: bench.options.slots,
            env: Vec::new(),
        };
        Self::start_with(bench, setup).await
    }

    pub(super) async fn start_with(bench: &Bench, setup: Setup) -> anyhow::Result<Self> {
        let fleet = Fleet::start(bench, setup).await?;
        fleet.put_flow(client::FLOW, &hello()?).await?;
        let pool = fleet.database.pool(1).await?;
        Ok(Self { fleet, pool })
    }

    pub(in crate::parts) async fn stop(self) -> anyhow::Result<()> {
        self.pool.close().await;
        self.fleet.stop().await
    }

    pub(in crate::parts) async fn until_all_ended(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while sqlx::query_scalar::<_, bool>(LIVE).fetch_one(&self.pool).await? {
            ensure!(
                Instant::now() < deadline,
                "runs are still live after {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Submits runs one by one and waits for their ends.
    pub(in crate::parts) async fn warm_up(&self, runs: usize) -> anyhow::Result<()> {
        let load = Load::Single {
            runs,
            concurrency: CONCURRENCY,
        };
        client::spawn(self.fleet.dispatcher.host(), &load).await?;
        self.until_all_ended().await
    }

    pub(super) async fn measure(&self, bench: &Bench, runs: usize, seconds: u64) -> anyhow::Result<Cost> {
        let meter = Meter::start(bench, &self.fleet)?;
        let first = times::first_id(now_us());
        let load = Load::Single {
            runs,
            concurrency: CONCURRENCY,
        };
        let sent = client::spawn(self.fleet.dispatcher.host(), &load).await?;
        self.until_all_ended().await?;
        let cpu_us = meter.stop(bench, &self.fleet, runs)?;
        let ended_us = times::last_end(&self.pool, first, runs).await?;
        let seconds_all = ended_us.saturating_sub(sent.began_us) as f64 / 1e6;
        Ok(Cost {
            cpu_us,
            runs_s: runs as f64 / seconds_all,
            claim_ms: self.claims(50.0, seconds).await?,
        })
    }

    /// How long runs at low load wait for their claim, in milliseconds by the store's clock.
    pub(super) async fn claims(&self, rate: f64, seconds: u64) -> anyhow::Result<Vec<f64>> {
        let load = Load::Paced { rate, seconds };
        let sent = client::spawn(self.fleet.dispatcher.host(), &load).await?;
        self.until_all_ended().await?;
        let ids: Vec<_> = sent.paced.iter().map(|(id, _)| *id).collect();
        let waits: Vec<i64> = sqlx::query_scalar(CLAIMS)
            .bind(&ids)
            .fetch_all(&self.pool)
            .await?;
        ensure!(waits.len() == ids.len(), "not every run was claimed");
        Ok(waits.into_iter().map(|us| us as f64 / 1000.0).collect())
    }
}

/// CPU seconds of all processes at a moment.
pub(in crate::parts) struct Meter {
    fleet: Vec<(String, f64)>,
    services: crate::services::ServiceUsage,
}

impl Meter {
    pub(in crate::parts) fn start(bench: &Bench, fleet: &Fleet) -> anyhow::Result<Self> {
        Ok(Self {
            fleet: fleet.cpu()?,
            services: bench.services.usage(),
        })
    }

    /// Microseconds a run since then, in the order of `PROCESSES`.
    pub(in crate::parts) fn stop(
        &self,
        bench: &Bench,
        fleet: &Fleet,
        runs: usize,
    ) -> anyhow::Result<Vec<Option<f64>>> {
        let mut used = bench.services.usage().cpu_since(&self.services);
        for ((name, now), (_, before)) in fleet.cpu()?.into_iter().zip(&self.fleet) {
            used.push((name, now - before));
        }
        let of = |name: &str| used.iter().find(|(found, _)| found == name);
        Ok(PROCESSES
            .iter()
            .map(|name| of(name).map(|(_, seconds)| seconds * 1e6 / runs as f64))
            .collect())
    }
}

pub(super) fn columns() -> Vec<Column> {
    let mut columns: Vec<Column> = PROCESSES.map(|name| Column::new(name, Unit::Micros)).into();
    columns.push(Column::new("first three", Unit::Micros));
    columns.push(Column::new("runs", Unit::PerSecond));
    columns.push(Column::new("claim p50", Unit::Millis));
    columns.push(Column::new("claim p95", Unit::Millis));
    columns
}

/// The cells of all rounds at one size.
pub(super) fn cells(rounds: &[Cost]) -> Vec<Cell> {
    let of = |value: &dyn Fn(&Cost) -> Option<f64>| Cell::rounds(rounds.iter().filter_map(value).collect());
    let mut cells: Vec<Cell> = (0..PROCESSES.len())
        .map(|at| of(&|cost| cost.cpu_us.get(at).copied().flatten()))
        .collect();
    cells.push(of(&Cost::core_us));
    cells.push(of(&|cost| Some(cost.runs_s)));
    cells.push(of(&|cost| quantile(&cost.claim_ms, 0.5)));
    cells.push(of(&|cost| quantile(&cost.claim_ms, 0.95)));
    cells
}

/// The median over the rounds of what a run costs in Postgres, dispatcher and worker.
pub(super) fn core(rounds: &[Cost]) -> Option<f64> {
    Cell::rounds(rounds.iter().filter_map(Cost::core_us).collect()).value
}

/// A sample of a process's metrics, summed over its labels.
pub(super) async fn metric(client: &reqwest::Client, url: &str, name: &str) -> anyhow::Result<f64> {
    let text = client.get(format!("{url}/metrics")).send().await?.text().await?;
    text.lines()
        .filter(|line| line.starts_with(name) && matches!(line.as_bytes().get(name.len()), Some(b'{' | b' ')))
        .map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>())
        .sum::<Result<f64, _>>()
        .with_context(|| format!("the metric {name}"))
}
