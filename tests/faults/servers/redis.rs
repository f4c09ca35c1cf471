//! A Redis of our own, which keeps nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::{Daemon, output, program};
use crate::process::{free_address, until};

#[derive(Debug)]
pub struct Redis {
    port: String,
    data: tempfile::TempDir,
    log: PathBuf,
    server: Option<Daemon>,
}

impl Redis {
    pub async fn start(logs: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let (_, port) = address.split_once(':').context("a port")?;
        let mut redis = Self {
            port: port.to_owned(),
            data: tempfile::Builder::new().prefix("ff-redis-").tempdir()?,
            log: logs.join("redis.log"),
            server: None,
        };
        redis.resume().await?;
        Ok(redis)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self, address: &str) -> String {
        format!("redis://{address}")
    }

    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let mut server = Command::new(program("redis-server", &[], "redis-server")?);
        server
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &self.port,
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(self.data.path());
        self.server = Some(Daemon::spawn(server, &self.log)?);
        until("Redis answers", Duration::from_secs(30), async || {
            Ok(self
                .call(&["ping"])
                .await
                .ok()
                .filter(|answer| answer == "PONG")
                .map(drop))
        })
        .await
    }

    pub fn kill(&mut self) {
        self.server = None;
    }

    pub async fn call(&self, command: &[&str]) -> anyhow::Result<String> {
        let mut client = tokio::process::Command::new("redis-cli");
        client.args(["-p", &self.port]).args(command);
        output(client).await
    }
}
