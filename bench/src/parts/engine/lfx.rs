//! lfx from PyPI in an environment of its own under the cache, and what a warm process of it needs for a run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::flows;
use crate::report::complain;

/// The release whose flows we execute, and the bundle with its OpenAI client.
const PACKAGES: [&str; 2] = ["lfx==1.13.0", "lfx-openai==0.2.0"];

/// How a run gets a graph; see the program.
pub(super) const WAYS: [&str; 2] = ["copied", "built"];

const PROGRAM: &str = include_str!("warm_lfx.py");

/// One way in one round, as the program prints it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Cost {
    pub(super) way: String,
    runs: u32,
    cpu_s: f64,
    wall_s: f64,
    rss_bytes: u64,
}

impl Cost {
    pub(super) fn cpu_us(&self) -> f64 {
        self.cpu_s * 1e6 / f64::from(self.runs)
    }

    pub(super) fn wall_us(&self) -> f64 {
        self.wall_s * 1e6 / f64::from(self.runs)
    }
}

#[derive(Debug)]
pub(in crate::parts) struct Lfx {
    python: PathBuf,
}

fn done(what: &str, command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{what} does not start"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = text.trim().lines().rev().take(3).collect();
    ensure!(
        output.status.success(),
        "{what} failed: {}",
        last.into_iter().rev().collect::<Vec<_>>().join(" ")
    );
    Ok(())
}

impl Lfx {
    pub(super) fn about() -> String {
        format!(
            "lfx is {} in a Python process that has loaded the flow: no HTTP, no start, one run at a time; user and \
             system time by getrusage. A graph of lfx serves one run, so each gets its own: copied as `lfx serve` \
             does, or built from the document.",
            PACKAGES.join(" with ")
        )
    }

    /// Installs it unless that was done before: some minutes and half a gigabyte.
    pub(in crate::parts) fn prepare() -> anyhow::Result<Self> {
        let folder = flows::cache()?.join("bench").join("lfx-1.13.0");
        let python = folder.join("bin/python");
        let complete = folder.join("complete");
        if !complete.exists() {
            complain("installing lfx ...");
            std::fs::create_dir_all(&folder)?;
            done(
                "python3 -m venv (Debian: apt-get install python3-venv)",
                Command::new("python3")
                    .args(["-m", "venv", "--clear"])
                    .arg(&folder),
            )?;
            let pip = [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "uv",
            ];
            done("pip install uv", Command::new(&python).args(pip))?;
            // pip itself tries pre-releases for minutes before it finds the same set.
            done(
                "uv pip install lfx",
                Command::new(folder.join("bin/uv"))
                    .args(["pip", "install", "--quiet", "--python"])
                    .arg(&python)
                    .args(PACKAGES),
            )?;
            std::fs::write(&complete, PACKAGES.join("\n"))?;
        }
        Ok(Self { python })
    }

    pub(in crate::parts) fn python(&self) -> &Path {
        &self.python
    }

    /// One round of both ways, in a new process.
    pub(super) async fn measure(
        &self,
        flow: &Value,
        base_url: &str,
        runs: usize,
    ) -> anyhow::Result<Vec<Cost>> {
        let folder = tempfile::tempdir()?;
        let (program, document) = (folder.path().join("warm_lfx.py"), folder.path().join("flow.json"));
        std::fs::write(&program, PROGRAM)?;
        std::fs::write(&document, serde_json::to_vec(flow)?)?;
        let mut command = Command::new(&self.python);
        command
            .arg(&program)
            .arg(&document)
            .arg(runs.to_string())
            .current_dir(folder.path())
            .env("OPENAI_BASE_URL", base_url)
            .env("OPENAI_API_KEY", "none")
            .env("LANGFLOW_SSRF_PROTECTION_ENABLED", "false")
            .env("DO_NOT_TRACK", "true")
            .env("LANGFLOW_DO_NOT_TRACK", "true")
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "warm_lfx.py failed: {}",
            errors.trim().lines().last().unwrap_or("it said nothing")
        );
        let lines = String::from_utf8(output.stdout)?;
        let costs: Vec<Cost> = lines
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        ensure!(
            costs.iter().map(|cost| cost.way.as_str()).eq(WAYS),
            "warm_lfx.py printed something else: {lines}"
        );
        Ok(costs)
    }
}
