//! A Redis that loses nothing it has answered: the shared one is lossy on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::fleet::free_address;
use crate::usage;

const TO_START: Duration = Duration::from_secs(10);

/// Killed, and its files removed, with the value.
#[derive(Debug)]
pub(super) struct Redis {
    server: Child,
    files: PathBuf,
    pub(super) url: String,
}

impl Redis {
    /// Its files go below `folder`, which should be on a real disk.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let files = folder.join(format!("redis-{}", std::process::id()));
        fs::create_dir_all(&files)?;
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("an address has a port")?;
        let server = Command::new("redis-server")
            .args(["--bind", host, "--port", port])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .arg("--dir")
            .arg(&files)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server does not start: `./tests/run --services` installs it")?;
        let redis = Self {
            server,
            files,
            url: format!("redis://{address}"),
        };
        let deadline = Instant::now() + TO_START;
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            ensure!(
                Instant::now() < deadline,
                "redis-server does not answer at {address}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(redis)
    }

    pub(super) fn cpu(&self) -> anyhow::Result<f64> {
        Ok(usage::tree(self.server.id())?.cpu_s)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.files);
    }
}
