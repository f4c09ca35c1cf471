//! One process of a peer: it says `ready`, is told to go, and answers with a line of JSON.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::usage;

const TO_START: Duration = Duration::from_secs(60);
/// Longer than the clients' own patience, which ends with a better message.
const TO_ANSWER: Duration = Duration::from_secs(700);
const TO_STOP: Duration = Duration::from_secs(10);

/// A process with all it forked; killed with the value.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    child: Child,
    pid: u32,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    complaints: PathBuf,
}

impl Program {
    /// Starts a program and waits until it is ready. What it complains about goes to a file, of which only the
    /// end is shown, and only when it fails.
    pub(super) async fn start(
        name: &str,
        command: &mut Command,
        complaints: PathBuf,
    ) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&complaints)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let mut program = Self {
            name: name.to_owned(),
            pid: child.id().context("a process that has just started has an id")?,
            input: child.stdin.take().context("standard input is a pipe")?,
            output: BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines(),
            child,
            complaints,
        };
        while program.line(TO_START).await? != "ready" {}
        Ok(program)
    }

    /// Says go and waits for the answer.
    pub(super) async fn go<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        self.input.write_all(b"go\n").await?;
        let line = self.line(TO_ANSWER).await?;
        serde_json::from_str(&line).with_context(|| format!("{} answers {line:?}", self.name))
    }

    async fn line(&mut self, patience: Duration) -> anyhow::Result<String> {
        match tokio::time::timeout(patience, self.output.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line.trim().to_owned()),
            Ok(Ok(None)) => bail!("{} ended: {}", self.name, self.last_complaints()),
            Ok(Err(error)) => Err(error).with_context(|| format!("reading what {} says", self.name)),
            Err(_) => bail!(
                "{} says nothing for {} s: {}",
                self.name,
                patience.as_secs(),
                self.last_complaints()
            ),
        }
    }

    fn last_complaints(&self) -> String {
        let text = std::fs::read_to_string(&self.complaints).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(4)..].join(" | ")
    }

    /// CPU seconds of the process and all it forked.
    pub(super) fn cpu(&self) -> anyhow::Result<f64> {
        Ok(usage::tree(self.pid)?.cpu_s)
    }

    /// Asks the process to end; one that does not is killed.
    pub(super) async fn stop(mut self) {
        signal("-TERM", &self.pid.to_string());
        // When it is still there after that, it is killed as it goes out of scope.
        let _ = tokio::time::timeout(TO_STOP, self.child.wait()).await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The group: what a pool forked must not outlive it.
        signal("-KILL", &format!("-{}", self.pid));
    }
}

fn signal(which: &str, whom: &str) {
    // What has already ended cannot be signalled, and need not be.
    let _ = std::process::Command::new("kill")
        .args([which, "--", whom])
        .stderr(Stdio::null())
        .status();
}
