//! A full disk under the embedded fleet's store: what was accepted before and meanwhile is there afterwards, and what
//! could not be stored was refused.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use flowfleet_mock_model as mock;
use reqwest::StatusCode;
use serde_json::Value;

use super::report::say;
use crate::embedded::Embedded;
use crate::flows;

/// Enough for the fleet's files, few enough to be full at once.
const SIZE: &str = "size=24m";
/// Answers that refuse for want of room, before the disk is freed again.
const REFUSALS: usize = 10;

/// A small file system of our own.
#[derive(Debug)]
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` where nobody may mount one.
    fn mount() -> anyhow::Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("ff-disk-").tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .arg(folder.path())
            .output()?;
        Ok(mounted.status.success().then_some(Self(folder)))
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Takes all the room there is.
    fn fill(&self) -> anyhow::Result<()> {
        use std::io::Write;
        let mut file = std::fs::File::create(self.ballast())?;
        // In smaller and smaller pieces, to the last page.
        for size in [1 << 20, 64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The folder itself goes afterwards.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub accepted: usize,
    pub refused: usize,
    /// While the disk was full.
    pub accepted_meanwhile: usize,
}

/// `None`, said loudly, where no small file system can be had.
pub async fn run() -> anyhow::Result<Option<Outcome>> {
    let Some(disk) = Disk::mount()? else {
        say("*** SKIPPED: a full disk. Mounting a small file system needs root. ***");
        return Ok(None);
    };
    let model = mock::spawn(mock::Config {
        latency_ms: 300,
        ..mock::Config::default()
    })
    .await?;
    let fleet = Embedded::start(&disk.0.path().join("data"), &model.base_url()).await?;
    fleet.put_flow("two", &flows::chain_of_models(2)).await?;
    let mut outcome = Outcome::default();
    let mut ids = Vec::new();
    for n in 0..20 {
        let (status, body) = fleet.submit("two", &input(n)).await?;
        ensure!(
            status == StatusCode::ACCEPTED,
            "before the disk is full: {status} {body}"
        );
        ids.push((n, id(&body)?));
    }
    disk.fill()?;
    let began = Instant::now();
    let mut n = 20;
    while outcome.refused < REFUSALS {
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "a full disk refuses nothing: {outcome:?}"
        );
        // SQLite writes over free pages of its log for a while.
        if outcome.refused == 0 {
            disk.fill()?;
        }
        let (status, body) = fleet.submit("two", &input(n)).await?;
        if status == StatusCode::ACCEPTED {
            ids.push((n, id(&body)?));
            outcome.accepted_meanwhile += 1;
        } else {
            ensure!(
                status.is_server_error() && body["code"].is_string(),
                "a full disk is said so: {status} {body}"
            );
            outcome.refused += 1;
        }
        n += 1;
    }
    // Longer than a lease's heartbeat: whatever runs meets the full disk as well.
    tokio::time::sleep(Duration::from_secs(2)).await;
    disk.free()?;
    outcome.accepted = ids.len();
    check(&fleet, &ids).await?;
    let (status, body) = fleet.submit("two", &input(n)).await?;
    ensure!(status == StatusCode::ACCEPTED, "with room again: {status} {body}");
    check(&fleet, &[(n, id(&body)?)]).await?;
    Ok(Some(outcome))
}

fn id(body: &Value) -> anyhow::Result<String> {
    Ok(body["id"]
        .as_str()
        .with_context(|| format!("an id in {body}"))?
        .to_owned())
}

/// Waits until these have succeeded.
async fn check(fleet: &Embedded, ids: &[(usize, String)]) -> anyhow::Result<()> {
    for (n, id) in ids {
        let run = fleet.wait(id, Duration::from_secs(90)).await?;
        ensure!(run["output"] == format!("echo: echo: {}", input(*n)), "{run}");
    }
    Ok(())
}

/// Long enough to want pages of its own.
fn input(n: usize) -> String {
    format!("{n} {}", "x".repeat(10_000))
}
