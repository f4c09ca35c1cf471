//! PostgreSQL, RabbitMQ and Redis: where they are, which versions, what CPU they use, and rooms of our own on them.

mod postgres;
mod rabbitmq;
mod redis;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use url::Url;

use crate::usage;
pub(crate) use postgres::Database;
pub(crate) use rabbitmq::Vhost;

const SETTLE_PAUSE: Duration = Duration::from_millis(500);
const SETTLE_TRIES: usize = 20;
/// The share of a core below which the services count as idle.
const CALM: f64 = 0.1;

const START_THEM: &str = "start the services with `./tests/run --services`, or name others";

/// The services everything is measured on.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    postgres: Url,
    rabbitmq: Url,
    redis: Url,
    processes: Processes,
    pub(crate) versions: BTreeMap<&'static str, String>,
}

/// The first process of each service; none where it runs elsewhere or may not be looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Processes {
    postgres: Option<u32>,
    rabbitmq: Option<u32>,
    redis: Option<u32>,
}

/// What the services used since they started.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ServiceUsage {
    pub(crate) postgres: Option<usage::Usage>,
    pub(crate) rabbitmq: Option<usage::Usage>,
    pub(crate) redis: Option<usage::Usage>,
}

impl ServiceUsage {
    /// CPU seconds by service since an earlier reading.
    pub(crate) fn cpu_since(&self, before: &Self) -> Vec<(String, f64)> {
        [
            ("postgres", before.postgres, self.postgres),
            ("rabbitmq", before.rabbitmq, self.rabbitmq),
            ("redis", before.redis, self.redis),
        ]
        .into_iter()
        .filter_map(|(name, before, now)| Some((name.to_owned(), now?.cpu_s - before?.cpu_s)))
        .collect()
    }
}

fn from_env(variable: &str, default: &str) -> anyhow::Result<Url> {
    let text = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    Url::parse(&text).map_err(|error| anyhow::anyhow!("{variable} is no URL: {error}"))
}

impl Services {
    /// Those the environment names, or the local ones; fails with what to do when one does not answer.
    pub(crate) async fn find() -> anyhow::Result<Self> {
        let mut services = Self {
            postgres: from_env(
                "FLOWFLEET_TEST_POSTGRES",
                "postgres://postgres@127.0.0.1:5432/postgres",
            )?,
            rabbitmq: from_env("FLOWFLEET_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/%2f")?,
            redis: from_env("FLOWFLEET_TEST_REDIS", "redis://127.0.0.1:6379")?,
            processes: Processes::default(),
            versions: BTreeMap::new(),
        };
        let unreachable = |what: &str, variable: &str, error: anyhow::Error| {
            error.context(format!("{what} does not answer: {START_THEM} in {variable}"))
        };
        let (version, process) = postgres::probe(services.postgres.as_str())
            .await
            .map_err(|error| unreachable("PostgreSQL", "FLOWFLEET_TEST_POSTGRES", error))?;
        services.versions.insert("postgres", version);
        services.processes.postgres = process;
        let (version, process) = rabbitmq::probe(services.rabbitmq.as_str())
            .await
            .map_err(|error| unreachable("RabbitMQ", "FLOWFLEET_TEST_RABBITMQ", error))?;
        services.versions.insert("rabbitmq", version);
        services.processes.rabbitmq = process;
        let (version, process) = redis::probe(&services.redis)
            .await
            .map_err(|error| unreachable("Redis", "FLOWFLEET_TEST_REDIS", error))?;
        services.versions.insert("redis", version);
        services.processes.redis = process;
        Ok(services)
    }

    pub(crate) fn usage(&self) -> ServiceUsage {
        let read = |process: Option<u32>| process.and_then(|pid| usage::tree(pid).ok());
        ServiceUsage {
            postgres: read(self.processes.postgres),
            rabbitmq: read(self.processes.rabbitmq),
            redis: read(self.processes.redis),
        }
    }

    /// Lets no contender pay for what another left to do: writes out PostgreSQL's dirty pages and waits until the
    /// services have calmed down, though not for ever.
    pub(crate) async fn settle(&self) {
        // Needs a privilege that a role for tests may lack; then the next checkpoint comes when it comes.
        let _ = postgres::checkpoint(self.postgres.as_str()).await;
        for _ in 0..SETTLE_TRIES {
            let before = self.usage();
            tokio::time::sleep(SETTLE_PAUSE).await;
            let used: f64 = self.usage().cpu_since(&before).iter().map(|(_, cpu)| cpu).sum();
            if used < SETTLE_PAUSE.as_secs_f64() * CALM {
                return;
            }
        }
    }

    /// A database of this process's own, dropped with the value.
    pub(crate) async fn database(&self, purpose: &str) -> anyhow::Result<Database> {
        Database::create(&self.postgres, &own_name(purpose)).await
    }

    /// A virtual host of this process's own, deleted with the value.
    pub(crate) fn vhost(&self, purpose: &str) -> anyhow::Result<Vhost> {
        Vhost::create(&self.rabbitmq, &own_name(purpose))
    }

    /// Redis under a key prefix of this process's own.
    pub(crate) fn redis_url(&self, purpose: &str) -> String {
        let mut url = self.redis.clone();
        url.query_pairs_mut().append_pair("prefix", &own_name(purpose));
        url.into()
    }
}

fn own_name(purpose: &str) -> String {
    format!("bench_{purpose}_{}", std::process::id())
}
