//! The services tests run against, and how they are isolated and restarted.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use uuid::Uuid;

pub fn postgres_url() -> String {
    std::env::var("FLOWFLEET_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

pub fn redis_url() -> String {
    std::env::var("FLOWFLEET_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

pub fn rabbitmq_url() -> String {
    std::env::var("FLOWFLEET_TEST_RABBITMQ")
        .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// Where `tests/wheels.sh` unpacked Langflow's wheels.
pub fn wheels() -> std::path::PathBuf {
    std::env::var_os("FLOWFLEET_TEST_WHEELS").map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                || std::path::PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
                Into::into,
            );
            cache.join("flowfleet/wheels")
        },
        Into::into,
    )
}

/// A PostgreSQL database of one test, dropped with it.
#[derive(Debug)]
pub struct Database {
    name: String,
    pub url: String,
}

impl Database {
    pub fn create() -> anyhow::Result<Self> {
        let name = format!("ff_it_{}", Uuid::now_v7().simple());
        sql(&postgres_url(), &format!("CREATE DATABASE {name}"))?;
        let (server, _) = postgres_url()
            .rsplit_once('/')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .context("a URL")?;
        Ok(Self {
            url: format!("{server}/{name}"),
            name,
        })
    }
}

impl Drop for Database {
    #[expect(
        clippy::print_stderr,
        reason = "a test that has ended has no other way to say so"
    )]
    fn drop(&mut self) {
        if let Err(error) = sql(
            &postgres_url(),
            &format!("DROP DATABASE {} WITH (FORCE)", self.name),
        ) {
            eprintln!("leaving database {} behind: {error}", self.name);
        }
    }
}

fn sql(url: &str, statement: &str) -> anyhow::Result<String> {
    let output = Command::new("psql")
        .args([url, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement])
        .output()
        .context("psql runs (apt-get install postgresql-client)")?;
    text(statement, &output)
}

fn text(what: &str, output: &Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn rabbitmqctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("rabbitmqctl")
        .args(arguments)
        .output()
        .context("rabbitmqctl runs")?;
    text(&format!("rabbitmqctl {}", arguments.join(" ")), &output)
}

/// Stops the broker's whole operating-system process and starts it again.
pub fn restart_rabbitmq() -> anyhow::Result<()> {
    rabbitmqctl(&["shutdown"])?;
    let started = Command::new("rabbitmq-server")
        .arg("-detached")
        .output()
        .context("rabbitmq-server runs")?;
    text("rabbitmq-server -detached", &started)?;
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match rabbitmqctl(&["await_startup", "--timeout", "60"]) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            // The node's name is not registered yet.
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Removes all messages that wait in a pool; answers how many queues were purged.
pub fn purge(pool: &str) -> anyhow::Result<usize> {
    let mut purged = 0;
    for priority in ["high", "normal", "low"] {
        if rabbitmqctl(&["purge_queue", &format!("flowfleet.{pool}.{priority}")]).is_ok() {
            purged += 1;
        }
    }
    Ok(purged)
}

/// Removes a pool's queues at the end of a test.
pub fn delete_queues(pool: &str) {
    for priority in ["high", "normal", "low"] {
        let _ = rabbitmqctl(&["delete_queue", &format!("flowfleet.{pool}.{priority}")]);
    }
}
