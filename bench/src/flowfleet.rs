//! Flowfleet as a contender: one dispatcher and one worker process.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::Bench;
use crate::client::{self, Load, Sent, now_us};
use crate::contender::{Contender, LatencySamples, Mode, Throughput};
use crate::fleet::{Fleet, Setup};
use crate::services::Services;
use crate::times;

/// What the worker counts, a line for each queue and outcome. Asking the store instead would cost the store: the
/// indexes of live runs are full of entries of runs that have just ended.
const FINISHED: &str = "flowfleet_runs_finished_total{";

/// How many runs since an id answered what the flow must answer.
const RIGHT: &str = "
SELECT count(*) FROM runs r JOIN run_attempts a ON a.run_id = r.id AND a.epoch = r.epoch
WHERE r.id >= $1 AND r.state = 'succeeded' AND a.output LIKE '%Hello, Ada %! This flow ran on Flowfleet.%'";

const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(300);
const WARM_UP: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct Flowfleet {
    slots: u32,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    fleet: Fleet,
    pool: PgPool,
    host: String,
    services: Services,
}

impl Flowfleet {
    fn running(&self) -> anyhow::Result<&Running> {
        self.running.as_ref().context("it was not prepared")
    }
}

impl Running {
    /// Runs that the workers have finished since they started.
    async fn finished(&self) -> anyhow::Result<usize> {
        let mut finished = 0;
        for worker in &self.fleet.workers {
            let url = format!("{}/metrics", worker.url);
            finished += counted(&self.fleet.client.get(url).send().await?.text().await?);
        }
        Ok(finished)
    }

    async fn load(&self, load: &Load, runs: usize) -> anyhow::Result<Sent> {
        let wanted = self.finished().await? + runs;
        let sent = client::spawn(&self.host, load).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let finished = self.finished().await?;
            if finished >= wanted {
                return Ok(sent);
            }
            ensure!(
                Instant::now() < deadline,
                "{} of {runs} runs have not ended after {PATIENCE:?}",
                wanted - finished
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The sum over all queues and outcomes.
fn counted(metrics: &str) -> usize {
    let lines = metrics.lines().filter(|line| line.starts_with(FINISHED));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
        .sum()
}

#[async_trait]
impl Contender for Flowfleet {
    fn name(&self) -> &'static str {
        "flowfleet"
    }

    fn about(&self) -> String {
        format!("one dispatcher, one worker with {} slots, over HTTP", self.slots)
    }

    async fn prepare(&mut self, bench: &Bench) -> anyhow::Result<()> {
        self.slots = bench.options.slots;
        let setup = Setup {
            purpose: "flowfleet",
            workers: 1,
            slots: self.slots,
            env: Vec::new(),
        };
        let fleet = Fleet::start(bench, setup).await?;
        let flow = include_str!("../../examples/flows/hello-prompt.json");
        fleet.put_flow(client::FLOW, &serde_json::from_str(flow)?).await?;
        let running = Running {
            pool: fleet.database.pool(1).await?,
            host: fleet.dispatcher.host().to_owned(),
            services: bench.services.clone(),
            fleet,
        };
        for mode in [Mode::Batch, Mode::Single { concurrency: 64 }] {
            running.load(&Load::of(mode, WARM_UP), WARM_UP).await?;
        }
        self.running = Some(running);
        Ok(())
    }

    async fn throughput(&mut self, mode: Mode, runs: usize) -> anyhow::Result<Throughput> {
        let running = self.running()?;
        let (first, load) = (times::first_id(now_us()), Load::of(mode, runs));
        let (services, own) = (running.services.usage(), running.fleet.cpu()?);
        let sent = running.load(&load, runs).await?;
        let seen_us = now_us();
        let mut cpu = vec![("client".to_owned(), sent.cpu_s)];
        for ((name, after), (_, before)) in running.fleet.cpu()?.into_iter().zip(own) {
            cpu.push((name, after - before));
        }
        cpu.extend(running.services.usage().cpu_since(&services));
        let ended_us = times::last_end(&running.pool, first, runs).await?;
        let right: i64 = sqlx::query_scalar(RIGHT)
            .bind(first)
            .fetch_one(&running.pool)
            .await?;
        ensure!(
            usize::try_from(right) == Ok(runs),
            "{right} of {runs} runs answered as they should"
        );
        let seconds = |until: u64| until.saturating_sub(sent.began_us) as f64 / 1e6;
        Ok(Throughput {
            runs,
            submit_s: sent.submit_s,
            total_s: seconds(ended_us),
            seen_s: Some(seconds(seen_us)),
            cpu,
        })
    }

    async fn latency(&mut self, rate: f64, seconds: u64) -> anyhow::Result<LatencySamples> {
        let running = self.running()?;
        let sent = client::spawn(&running.host, &Load::Paced { rate, seconds }).await?;
        times::samples(&running.pool, &sent.paced).await
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(running) => {
                running.pool.close().await;
                running.fleet.stop().await
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_counts() {
        let metrics = "# TYPE flowfleet_runs_finished_total counter\n\
            flowfleet_runs_finished_total{queue=\"default\",outcome=\"succeeded\"} 41\n\
            flowfleet_runs_finished_total{queue=\"default\",outcome=\"failed\"} 1\n\
            flowfleet_workers 7\n";
        assert_eq!(counted(metrics), 42);
    }
}
