//! A full disk under the embedded fleet's store: what was accepted before and meanwhile is there afterwards, and what
//! could not be stored was refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use flowfleet_mock_model as mock;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::report::say;
use crate::flows;
use crate::process::{Process, binary, free_address, until};

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
    let mut outcome = Outcome::default();
    let mut ids = Vec::new();
    for n in 0..20 {
        let (status, body) = fleet.submit(n).await?;
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
        let (status, body) = fleet.submit(n).await?;
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
    fleet.check(&ids).await?;
    let (status, body) = fleet.submit(n).await?;
    ensure!(status == StatusCode::ACCEPTED, "with room again: {status} {body}");
    fleet.check(&[(n, id(&body)?)]).await?;
    Ok(Some(outcome))
}

fn id(body: &Value) -> anyhow::Result<String> {
    Ok(body["id"]
        .as_str()
        .with_context(|| format!("an id in {body}"))?
        .to_owned())
}

struct Embedded {
    url: String,
    client: reqwest::Client,
    _process: Process,
}

impl Embedded {
    async fn start(data: &Path, model: &str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let url = format!("http://{address}");
        let child = Command::new(binary("flowfleet"))
            .args(["up", "--listen", &address, "--data"])
            .arg(data)
            .env("OPENAI_BASE_URL", model)
            .env("OPENAI_API_KEY", "a key")
            .env(
                "FLOWFLEET_LOG",
                std::env::var("FLOWFLEET_LOG").unwrap_or_else(|_| "off".to_owned()),
            )
            .stdout(Stdio::null())
            .spawn()?;
        let process = Process {
            child,
            name: "flowfleet up",
            admin: url.clone(),
        };
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()?;
        until("`flowfleet up` is ready", Duration::from_secs(60), async || {
            let answer = client.get(format!("{url}/health/ready")).send().await;
            Ok(answer
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(()))
        })
        .await?;
        let flow = client
            .put(format!("{url}/v1/flows/two"))
            .json(&flows::chain_of_models(2));
        flow.send().await?.error_for_status()?;
        Ok(Self {
            url,
            client,
            _process: process,
        })
    }

    async fn submit(&self, n: usize) -> anyhow::Result<(StatusCode, Value)> {
        let run = json!({"flow": "two", "input": input(n)});
        let answer = self
            .client
            .post(format!("{}/v1/runs", self.url))
            .json(&run)
            .send()
            .await?;
        Ok((answer.status(), answer.json().await?))
    }

    /// Waits until these have succeeded.
    async fn check(&self, ids: &[(usize, String)]) -> anyhow::Result<()> {
        for (n, id) in ids {
            let what = format!("run {id} ends");
            let run: Value = until(&what, Duration::from_secs(90), async || {
                let answer = self
                    .client
                    .get(format!("{}/v1/runs/{id}?wait_s=5", self.url))
                    .send()
                    .await?;
                let run: Value = answer.json().await?;
                Ok(run["finished_at"].is_string().then_some(run))
            })
            .await?;
            ensure!(run["output"] == format!("echo: echo: {}", input(*n)), "{run}");
        }
        Ok(())
    }
}

/// Long enough to want pages of its own.
fn input(n: usize) -> String {
    format!("{n} {}", "x".repeat(10_000))
}
