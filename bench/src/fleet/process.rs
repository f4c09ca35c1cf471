//! A process that is measured, and killed with the value that holds it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::usage::{self, Usage};

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) name: String,
    /// Base URL of what it serves.
    pub(crate) url: String,
}

impl Process {
    /// Starts a program that will serve at `address`.
    pub(crate) fn start(name: &str, command: &mut Command, address: &str) -> anyhow::Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            url: format!("http://{address}"),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Host and port of what it serves.
    pub(crate) fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap_or(&self.url)
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        usage::process(self.pid())
    }

    /// Waits until `path` answers with success.
    pub(crate) async fn ready(&mut self, client: &reqwest::Client, path: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut last = "no connection".to_owned();
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at start ({status}): see above", self.name);
            }
            match client.get(format!("{}{path}", self.url)).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => last = answer.text().await.unwrap_or_default(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{} is not ready after 60 s: {last}", self.name);
    }

    /// Asks the process to end, as an operator would, and waits for it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let status = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()?;
        ensure!(status.success(), "{} cannot be stopped", self.name);
        let deadline = Instant::now() + Duration::from_secs(40);
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "{} does not stop", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on loopback that nobody listens at.
pub(crate) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
