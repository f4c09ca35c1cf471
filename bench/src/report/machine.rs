//! On what was measured: without it no figure means anything.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Serialize;

use crate::Bench;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) at: String,
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// The commit of this checkout; `+` when files differ from it.
    pub(crate) commit: String,
    pub(crate) services: BTreeMap<&'static str, String>,
    /// Over 1, 5 and 15 minutes, before anything was measured.
    pub(crate) load_average: String,
    pub(crate) quick: bool,
}

fn line_of(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_line(file: &str) -> String {
    std::fs::read_to_string(file)
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn commit() -> String {
    let Some(mut commit) = answer("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    if answer("git", &["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty()) {
        commit.push('+');
    }
    commit
}

impl Machine {
    pub(crate) fn look(bench: &Bench) -> Self {
        let unknown = || "unknown".to_owned();
        let memory_kib = line_of("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            at: jiff::Timestamp::now().to_string(),
            cores: std::thread::available_parallelism().map_or(0, Into::into),
            cpu: line_of("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            kernel: first_line("/proc/sys/kernel/osrelease"),
            rustc: answer("rustc", &["--version"]).unwrap_or_else(unknown),
            commit: commit(),
            services: bench.services.versions.clone(),
            load_average: first_line("/proc/loadavg")
                .split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            quick: bench.options.quick,
        }
    }

    /// All of it that a reader compares.
    pub(crate) fn sentence(&self) -> String {
        let services: Vec<String> = self
            .services
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        format!(
            "{} × {}, {} MiB, Linux {}, {}, {}, commit {}, load before {}{}",
            self.cores,
            self.cpu,
            self.memory_mib,
            self.kernel,
            services.join(", "),
            self.rustc,
            self.commit,
            self.load_average,
            if self.quick {
                "; --quick: not to be quoted"
            } else {
                ""
            }
        )
    }
}
