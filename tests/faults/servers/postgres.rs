//! A PostgreSQL cluster of our own.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Daemon, output, program};
use crate::process::{free_address, until};

/// A cluster and the server that runs it, unless it is stopped.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    data: tempfile::TempDir,
    port: String,
    owner: Option<(u32, u32)>,
    log: PathBuf,
    server: Option<Daemon>,
}

impl Postgres {
    pub async fn start(logs: &Path) -> anyhow::Result<Self> {
        let bin = program("postgres", &folders(), "postgresql")?;
        let bin = bin.parent().context("a folder")?.to_owned();
        let address = free_address()?;
        let (_, port) = address.split_once(':').context("a port")?;
        let mut postgres = Self {
            bin,
            data: tempfile::Builder::new().prefix("ff-postgres-").tempdir()?,
            port: port.to_owned(),
            owner: owner()?,
            log: logs.join("postgres.log"),
            server: None,
        };
        if let Some((user, group)) = postgres.owner {
            std::os::unix::fs::chown(postgres.data.path(), Some(user), Some(group))?;
        }
        let mut initdb = postgres.command("initdb");
        initdb.args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale",
            "C.UTF-8",
            "--no-sync",
        ]);
        let made = tokio::task::spawn_blocking(move || initdb.output()).await??;
        ensure!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        postgres.resume().await?;
        Ok(postgres)
    }

    /// A program of the cluster; the server refuses to run as root.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.arg("-D").arg(self.data.path()).current_dir("/");
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL through an address: the server's own or that of a proxy.
    pub fn url(&self, address: &str) -> String {
        format!("postgres://postgres@{address}/postgres")
    }

    /// Starts the server again and waits until it answers.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let mut server = self.command("postgres");
        // Processes are killed here, never the machine: what the kernel was given survives without fsync.
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "max_connections=200",
            "log_checkpoints=off",
        ] {
            server.args(["-c", setting]);
        }
        server.args(["-p", &self.port]);
        self.server = Some(Daemon::spawn(server, &self.log)?);
        until("PostgreSQL answers", Duration::from_secs(60), async || {
            Ok(self.query("select 1").await.ok().map(drop))
        })
        .await
    }

    /// As `pg_ctl stop -m immediate`: sessions are cut off, nothing is written back, the next start recovers.
    pub async fn stop_at_once(&mut self) -> anyhow::Result<()> {
        if let Some(mut server) = self.server.take() {
            server.signal("-QUIT");
            server.ended().await?;
        }
        Ok(())
    }

    /// What a statement answers, a line a row.
    pub async fn query(&self, statement: &str) -> anyhow::Result<String> {
        let mut psql = tokio::process::Command::new("psql");
        psql.arg(self.url(&self.address()))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement])
            .env("PGCONNECT_TIMEOUT", "3");
        output(psql).await
    }
}

/// Debian keeps each version's programs in a folder of its own.
fn folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

/// Who runs the server: root must not.
fn owner() -> anyhow::Result<Option<(u32, u32)>> {
    let id = |arguments: &[&str]| -> anyhow::Result<u32> {
        let output = Command::new("id").args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        text.parse()
            .with_context(|| format!("id {arguments:?}: {text:?}"))
    };
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)))
}
