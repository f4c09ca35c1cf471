//! A fleet under test: dispatcher and workers as separate processes, on a database, a virtual host and a Redis
//! prefix of their own.

mod build;
mod process;

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::Bench;
use crate::services::{Database, Vhost};
pub(crate) use build::Binaries;
pub(crate) use process::{Process, free_address};

/// What a fleet is to look like.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Becomes part of the names of its database and virtual host: `[a-z0-9_]`, and unique within a part.
    pub(crate) purpose: &'static str,
    pub(crate) workers: usize,
    pub(crate) slots: u32,
    /// Further environment of all processes, such as `OPENAI_BASE_URL`.
    pub(crate) env: Vec<(String, String)>,
}

/// Dropping it kills its processes and removes what it kept.
#[derive(Debug)]
pub(crate) struct Fleet {
    // In the order in which they are to go.
    pub(crate) workers: Vec<Process>,
    pub(crate) dispatcher: Process,
    pub(crate) client: reqwest::Client,
    pub(crate) database: Database,
    pub(crate) vhost: Vhost,
    setup: Setup,
    redis: String,
    binaries: Binaries,
    blobs: tempfile::TempDir,
}

impl Fleet {
    pub(crate) async fn start(bench: &Bench, setup: Setup) -> anyhow::Result<Self> {
        let database = bench.services.database(setup.purpose).await?;
        Self::start_on(bench, setup, database).await
    }

    /// As `start`, on a database that was filled before; it is migrated first.
    pub(crate) async fn start_on(bench: &Bench, setup: Setup, database: Database) -> anyhow::Result<Self> {
        let vhost = bench.services.vhost(setup.purpose)?;
        let redis = bench.services.redis_url(setup.purpose);
        let blobs = tempfile::tempdir()?;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(120))
            .build()?;
        let environment = environment(&setup, &database, &vhost, &redis, blobs.path());
        let migrated = Command::new(bench.binaries.path("flowfleet"))
            .arg("migrate")
            .envs(environment.iter().cloned())
            .output()?;
        ensure!(
            migrated.status.success(),
            "`flowfleet migrate` failed: {}",
            String::from_utf8_lossy(&migrated.stderr)
        );
        let address = free_address()?;
        let mut dispatcher = Process::start(
            "dispatcher",
            Command::new(bench.binaries.path("flowfleet-dispatcher"))
                .envs(environment)
                .env("FLOWFLEET_LISTEN", &address),
            &address,
        )?;
        dispatcher.ready(&client, "/health/ready").await?;
        let mut fleet = Self {
            workers: Vec::new(),
            dispatcher,
            client,
            database,
            vhost,
            redis,
            binaries: bench.binaries.clone(),
            blobs,
            setup,
        };
        for _ in 0..fleet.setup.workers {
            fleet.start_worker().await?;
        }
        Ok(fleet)
    }

    pub(crate) async fn start_worker(&mut self) -> anyhow::Result<()> {
        let address = free_address()?;
        let environment = environment(
            &self.setup,
            &self.database,
            &self.vhost,
            &self.redis,
            self.blobs.path(),
        );
        let mut worker = Process::start(
            "worker",
            Command::new(self.binaries.path("flowfleet-worker"))
                .envs(environment)
                .env("FLOWFLEET_ADMIN_LISTEN", &address)
                .env("FLOWFLEET_SLOTS", self.setup.slots.to_string()),
            &address,
        )?;
        worker.ready(&self.client, "/health/ready").await?;
        self.workers.push(worker);
        Ok(())
    }

    pub(crate) async fn put_flow(&self, name: &str, flow: &Value) -> anyhow::Result<()> {
        let answer = self
            .client
            .put(format!("{}/v1/flows/{name}", self.dispatcher.url))
            .json(flow)
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(
            status.is_success(),
            "the flow {name} is refused: {status}: {text}"
        );
        Ok(())
    }

    /// CPU seconds since their start of the dispatcher and of all workers together.
    pub(crate) fn cpu(&self) -> anyhow::Result<Vec<(String, f64)>> {
        let mut workers = 0.0;
        for worker in &self.workers {
            workers += worker.usage()?.cpu_s;
        }
        Ok(vec![
            ("dispatcher".to_owned(), self.dispatcher.usage()?.cpu_s),
            ("worker".to_owned(), workers),
        ])
    }

    /// Drains the workers, then the dispatcher, and removes everything.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for worker in self.workers {
            worker.stop().await?;
        }
        self.dispatcher.stop().await
    }
}

fn environment(
    setup: &Setup,
    database: &Database,
    vhost: &Vhost,
    redis: &str,
    blobs: &std::path::Path,
) -> Vec<(String, String)> {
    let mut environment: Vec<(String, String)> = [
        ("FLOWFLEET_STORE_URL", database.url.clone()),
        ("FLOWFLEET_QUEUE_URL", vhost.url.clone()),
        ("FLOWFLEET_BUS_URL", redis.to_owned()),
        ("FLOWFLEET_BLOB_URL", format!("file:{}", blobs.display())),
        ("FLOWFLEET_LOG", "warn".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    environment.extend(setup.env.iter().cloned());
    environment
}
