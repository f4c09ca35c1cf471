//! Servers of our own, so that they can be killed, stopped and flushed while other tests use theirs: PostgreSQL,
//! RabbitMQ and Redis, each in a directory of its own on a free port. They end with the value that holds them.

mod postgres;
mod rabbitmq;
mod redis;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::process::until;

pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;

/// All three.
#[derive(Debug)]
pub struct Servers {
    pub postgres: Postgres,
    pub rabbitmq: RabbitMq,
    pub redis: Redis,
}

impl Servers {
    /// Starts them side by side.
    pub async fn start(logs: &Path) -> anyhow::Result<Self> {
        let (postgres, rabbitmq, redis) =
            tokio::try_join!(Postgres::start(logs), RabbitMq::start(logs), Redis::start(logs))?;
        Ok(Self {
            postgres,
            rabbitmq,
            redis,
        })
    }
}

/// A server and everything it has forked.
#[derive(Debug)]
struct Daemon(Child);

impl Daemon {
    /// Starts `command` in a process group of its own; what it says goes to the end of `log`.
    fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("{}", log.display()))?;
        let what = format!("{command:?}");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        Ok(Self(command.spawn().with_context(|| what)?))
    }

    fn signal(&self, signal: &str) {
        let _ = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .output();
    }

    /// SIGKILL for the whole group, and waits for the end of its leader.
    fn kill(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).output();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits until it has ended by itself.
    async fn ended(&mut self) -> anyhow::Result<()> {
        until("a server ends", Duration::from_secs(30), async || {
            Ok(self.0.try_wait()?.map(drop))
        })
        .await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server's program: in a folder its package keeps it in, the first one first, or in PATH.
fn program(name: &str, folders: &[PathBuf], package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = folders.iter().cloned().chain(std::env::split_paths(&path));
    let found = known.map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed: apt-get install {package}"))
}

/// Runs a client program to its end and answers what it printed.
async fn output(mut command: tokio::process::Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let what = format!("{:?}", command.as_std());
    let done = tokio::time::timeout(Duration::from_secs(60), command.output())
        .await
        .with_context(|| format!("{what}: no end after a minute"))?
        .with_context(|| what.clone())?;
    if !done.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
