//! Runs a recipe as a contender: its workers wait from `prepare` on, each round has a client of its own.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use super::install::Installed;
use super::program::Program;
use super::recipes::{Keeps, Recipe};
use super::redis::Redis;
use crate::Bench;
use crate::contender::{Contender, LatencySamples, Mode, Throughput};
use crate::services::{Database, Services, Vhost};

#[derive(Debug)]
pub(super) struct Peer {
    recipe: Recipe,
    running: Option<Running>,
}

/// In the order in which they are to go.
#[derive(Debug)]
struct Running {
    workers: Vec<Program>,
    rooms: Rooms,
    installed: Installed,
    services: Services,
    /// What the programs complain about.
    complaints: TempDir,
}

/// Its own rooms on the services.
#[derive(Debug, Default)]
struct Rooms {
    database: Option<Database>,
    vhost: Option<Vhost>,
    redis: Option<Redis>,
}

/// What a client answers about a round of throughput.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    runs: usize,
    submit_s: f64,
    total_s: f64,
    seen_s: f64,
}

/// What a client answers about latency, in seconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Samples {
    started: Vec<f64>,
    finished: Vec<f64>,
}

impl Peer {
    pub(super) fn new(recipe: Recipe) -> Self {
        Self {
            recipe,
            running: None,
        }
    }

    fn running(&self) -> anyhow::Result<&Running> {
        self.running.as_ref().context("prepare comes first")
    }

    /// A client that is connected and waits to be told to go.
    async fn client(&self, arguments: &[String]) -> anyhow::Result<Program> {
        let running = self.running()?;
        let mut command = running.command(&self.recipe);
        command.args(self.recipe.client).args(arguments);
        let complaints = running.complaints.path().join("client");
        Program::start(
            &format!("{}'s client", self.recipe.name),
            &mut command,
            complaints,
        )
        .await
    }
}

impl Rooms {
    async fn prepare(
        keeps: Keeps,
        purpose: &str,
        services: &Services,
        installed: &Installed,
    ) -> anyhow::Result<Self> {
        let mut rooms = Self::default();
        match keeps {
            Keeps::RabbitmqAndPostgres => {
                rooms.database = Some(services.database(purpose).await?);
                rooms.vhost = Some(services.vhost(purpose)?);
            }
            Keeps::Postgres => rooms.database = Some(services.database(purpose).await?),
            Keeps::OwnRedis => rooms.redis = Some(Redis::start(&installed.folder).await?),
        }
        Ok(rooms)
    }

    fn environment(&self) -> Vec<(&'static str, &str)> {
        [
            ("PEER_POSTGRES", self.database.as_ref().map(|room| &room.url)),
            ("PEER_AMQP", self.vhost.as_ref().map(|room| &room.url)),
            ("PEER_REDIS", self.redis.as_ref().map(|room| &room.url)),
        ]
        .into_iter()
        .filter_map(|(name, url)| Some((name, url?.as_str())))
        .collect()
    }
}

impl Running {
    fn command(&self, recipe: &Recipe) -> Command {
        let mut command = Command::new(&self.installed.interpreter);
        command
            .current_dir(&self.installed.folder)
            .envs(recipe.env.iter().copied())
            .envs(self.rooms.environment());
        command
    }

    /// CPU seconds so far, of its workers and of the services. A Redis of its own stands for the shared one.
    fn cpu(&self) -> anyhow::Result<(f64, Option<f64>)> {
        let workers = self
            .workers
            .iter()
            .map(Program::cpu)
            .sum::<anyhow::Result<f64>>()?;
        let redis = self.rooms.redis.as_ref().map(Redis::cpu).transpose()?;
        Ok((workers, redis))
    }
}

#[async_trait]
impl Contender for Peer {
    fn name(&self) -> &str {
        self.recipe.name
    }

    fn about(&self) -> String {
        self.recipe.describe()
    }

    async fn prepare(&mut self, bench: &Bench) -> anyhow::Result<()> {
        let installed = self.recipe.install.run().await?;
        let purpose: String = self.recipe.name.replace([' ', '-'], "_");
        let services = bench.services.clone();
        let rooms = Rooms::prepare(self.recipe.keeps, &purpose, &services, &installed).await?;
        self.running = Some(Running {
            workers: Vec::new(),
            rooms,
            installed,
            services,
            complaints: tempfile::tempdir()?,
        });
        // A round without runs lets the client make its tables before workers look for them.
        let nothing = ["throughput", "--runs", "0"].map(str::to_owned);
        self.client(&nothing).await?.stop().await;
        for at in 0..self.recipe.workers {
            let running = self.running()?;
            let mut command = running.command(&self.recipe);
            command.args(self.recipe.worker);
            let complaints = running.complaints.path().join(format!("worker-{at}"));
            let name = format!("{}'s worker", self.recipe.name);
            let worker = Program::start(&name, &mut command, complaints).await?;
            if let Some(running) = &mut self.running {
                running.workers.push(worker);
            }
        }
        Ok(())
    }

    async fn throughput(&mut self, mode: Mode, runs: usize) -> anyhow::Result<Throughput> {
        let mut arguments = vec!["throughput".to_owned(), "--runs".to_owned(), runs.to_string()];
        arguments.push("--mode".to_owned());
        match mode {
            Mode::Batch => arguments.push("batch".to_owned()),
            Mode::Single { concurrency } => {
                arguments.extend(["single", "--concurrency"].map(str::to_owned));
                arguments.push(concurrency.to_string());
            }
        }
        let mut client = self.client(&arguments).await?;
        let running = self.running()?;
        let services = running.services.usage();
        let (client_before, (workers, redis)) = (client.cpu()?, running.cpu()?);
        let answer: Answer = client.go().await?;
        let (client_after, (workers_after, redis_after)) = (client.cpu()?, running.cpu()?);
        let mut cpu = vec![
            ("client".to_owned(), client_after - client_before),
            ("worker".to_owned(), workers_after - workers),
        ];
        cpu.extend(running.services.usage().cpu_since(&services));
        if let (Some(before), Some(after)) = (redis, redis_after) {
            cpu.retain(|(process, _)| process != "redis");
            cpu.push(("redis".to_owned(), after - before));
        }
        client.stop().await;
        Ok(Throughput {
            runs: answer.runs,
            submit_s: answer.submit_s,
            total_s: answer.total_s,
            seen_s: Some(answer.seen_s),
            cpu,
        })
    }

    async fn latency(&mut self, rate: f64, seconds: u64) -> anyhow::Result<LatencySamples> {
        let arguments = [
            "latency".to_owned(),
            "--rate".to_owned(),
            rate.to_string(),
            "--seconds".to_owned(),
            seconds.to_string(),
        ];
        let mut client = self.client(&arguments).await?;
        let samples: Samples = client.go().await?;
        client.stop().await;
        // Clocks are read in several processes: a hair below zero is zero.
        let durations = |seconds: Vec<f64>| -> Vec<Duration> {
            let positive = seconds.into_iter().map(|each| each.max(0.0));
            positive.map(Duration::from_secs_f64).collect()
        };
        Ok(LatencySamples {
            started: durations(samples.started),
            finished: durations(samples.finished),
        })
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(mut running) = self.running.take() {
            for worker in running.workers.drain(..) {
                worker.stop().await;
            }
        }
        Ok(())
    }
}
