//! The client: a process of its own, so that its CPU is counted apart. One thread, kept connections.
//!
//! Flowfleet and the floor are sent the same requests.

mod http;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::contender::Mode;
use crate::usage;
use http::Connection;

pub(crate) const FLOW: &str = "hello-prompt";

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Host and port of the dispatcher
    #[arg(long)]
    host: String,
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Load {
    /// Batches of 10,000 runs, one after another
    Batch { runs: usize },
    /// One request a run
    Single { runs: usize, concurrency: usize },
    /// One request a run, evenly spaced
    Paced { rate: f64, seconds: u64 },
}

impl Load {
    pub(crate) fn of(mode: Mode, runs: usize) -> Self {
        match mode {
            Mode::Batch => Self::Batch { runs },
            Mode::Single { concurrency } => Self::Single { runs, concurrency },
        }
    }
}

/// What a client did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Before the first submit, in microseconds since 1970.
    pub(crate) began_us: u64,
    pub(crate) submit_s: f64,
    pub(crate) cpu_s: f64,
    /// Of a paced load: every run, and the microsecond before it was submitted.
    pub(crate) paced: Vec<(Uuid, u64)>,
}

/// Most runs that one batch may hold.
const BATCH: usize = 10_000;

pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn run_json(number: usize) -> String {
    format!(r#"{{"flow":"{FLOW}","input":"Ada {number}"}}"#)
}

/// Runs a client as a process and answers what it did.
pub(crate) async fn spawn(host: &str, load: &Load) -> anyhow::Result<Sent> {
    let load = match load {
        Load::Batch { runs } => vec!["batch".to_owned(), runs.to_string()],
        Load::Single { runs, concurrency } => {
            vec!["single".to_owned(), runs.to_string(), concurrency.to_string()]
        }
        Load::Paced { rate, seconds } => vec!["paced".to_owned(), rate.to_string(), seconds.to_string()],
    };
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .args(["client", "--host", host])
        .args(load)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(output.status.success(), "the client failed: see above");
    serde_json::from_slice(&output.stdout).context("what the client says")
}

/// The client process itself.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (began_us, began) = (now_us(), Instant::now());
    let paced = match args.load {
        Load::Batch { runs } => batch(&args.host, runs).await.map(|()| Vec::new()),
        Load::Single { runs, concurrency } => {
            single(&args.host, runs, concurrency).await.map(|()| Vec::new())
        }
        Load::Paced { rate, seconds } => paced(&args.host, rate, seconds).await,
    }?;
    let sent = Sent {
        began_us,
        submit_s: began.elapsed().as_secs_f64(),
        cpu_s: usage::process(std::process::id())?.cpu_s,
        paced,
    };
    serde_json::to_writer(std::io::stdout(), &sent)?;
    Ok(())
}

async fn batch(host: &str, runs: usize) -> anyhow::Result<()> {
    let mut connection = Connection::open(host).await?;
    for first in (0..runs).step_by(BATCH) {
        let lines: Vec<String> = (first..runs.min(first + BATCH)).map(run_json).collect();
        let body = lines.join("\n");
        connection
            .post("/v1/runs/batch", "application/x-ndjson", body.as_bytes())
            .await?;
    }
    Ok(())
}

async fn single(host: &str, runs: usize, concurrency: usize) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let (next, host) = (Arc::clone(&next), host.to_owned());
        callers.spawn(async move {
            let mut connection = Connection::open(&host).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= runs {
                    return anyhow::Ok(());
                }
                connection
                    .post("/v1/runs", "application/json", run_json(number).as_bytes())
                    .await?;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Created {
    id: Uuid,
}

async fn paced(host: &str, rate: f64, seconds: u64) -> anyhow::Result<Vec<(Uuid, u64)>> {
    let runs = (rate * seconds as f64) as usize;
    let began = tokio::time::Instant::now();
    let idle: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..runs {
        tokio::time::sleep_until(began + Duration::from_secs_f64(number as f64 / rate)).await;
        let (idle, host) = (Arc::clone(&idle), host.to_owned());
        calls.spawn(async move {
            let kept = idle.lock().await.pop();
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(&host).await?,
            };
            let sent = now_us();
            let answer = connection
                .post("/v1/runs", "application/json", run_json(number).as_bytes())
                .await?;
            idle.lock().await.push(connection);
            let created: Created = serde_json::from_slice(&answer)?;
            anyhow::Ok((created.id, sent))
        });
    }
    let mut sent = Vec::with_capacity(runs);
    while let Some(call) = calls.join_next().await {
        sent.push(call??);
    }
    Ok(sent)
}
