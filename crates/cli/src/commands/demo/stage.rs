//! What the demo runs on: an embedded fleet, a mock model, and a data directory.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowfleet_engine::Services;
use flowfleet_mock_model as mock;
use flowfleet_runtime::Shutdown;

use super::{Args, Voice};
use crate::client::Client;
use crate::commands::up::start_failed;
use crate::embedded::{DataLock, Embedded, Options};
use crate::failure::{Failure, Result};
use crate::term::Paint;
use crate::text;

const PORT: u16 = 7700;
const DATA: &str = ".flowfleet/demo";
/// About as fast as a small model close by.
const LATENCY_MS: u64 = 40;
const JITTER_MS: u64 = 60;
const TOKENS_PER_S: f64 = 250.0;

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Stage {
    pub url: String,
    fleet: Embedded,
    model: mock::Handle,
}

impl Stage {
    pub(super) async fn build(args: &Args, shutdown: &Shutdown, voice: Voice) -> Result<Self> {
        let started = std::time::Instant::now();
        voice.term.line(&format!(
            "{}  a whole fleet in this process, nothing to install",
            voice.term.paint("Flowfleet demo", Paint::Bold)
        ))?;
        let data = args.data.clone().unwrap_or_else(|| PathBuf::from(DATA));
        let lock = DataLock::take(&data)?;
        if args.data.is_none() {
            clear(&data)?;
        }
        let config = mock::Config {
            latency_ms: LATENCY_MS,
            jitter_ms: JITTER_MS,
            tokens_per_s: TOKENS_PER_S,
            ..mock::Config::default()
        };
        let model = mock::spawn(config).await;
        let model = model.map_err(|error| Failure::reach(format!("cannot start the mock model: {error}")))?;
        let (listen, moved) = listen(args.listen);
        let services = Services {
            environment: environment(model.base_url()),
            ..Services::from_env().map_err(|error| Failure::usage(error.to_string()))?
        };
        let options = Options {
            data: data.clone(),
            listen,
            workers: 1,
            slots: args.slots,
            services,
            python: None,
        };
        let fleet = Embedded::start(options, lock, shutdown.clone())
            .await
            .map_err(|error| start_failed(&error))?;
        let url = fleet.url();

        voice.title("Starting")?;
        voice.done(
            "store",
            &format!(
                "SQLite in {}, {} ran",
                data.display(),
                text::plural(fleet.migrated as usize, "migration")
            ),
        )?;
        voice.done("queue and bus", "in memory")?;
        voice.done("worker", &format!("{} slots", args.slots))?;
        let latency = format!("{LATENCY_MS} to {} ms to the first token", LATENCY_MS + JITTER_MS);
        voice.done(
            "mock model",
            &format!("{}  ({latency}, {TOKENS_PER_S} tokens/s)", model.base_url()),
        )?;
        let moved = if moved {
            format!("  (port {PORT} is taken)")
        } else {
            String::new()
        };
        voice.done("dispatcher", &format!("{url}{moved}"))?;
        voice.line(&format!(
            "up in {}",
            text::seconds(started.elapsed().as_secs_f64())
        ))?;
        Ok(Self { url, fleet, model })
    }

    pub(super) fn client(&self, key: Option<String>) -> Result<Client> {
        Client::new(&self.url, key)
    }

    /// Runs until told to end.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self { fleet, model, .. } = self;
        let ended = fleet.join().await;
        model.shutdown();
        ended
    }
}

/// Where to listen when nobody said, and whether that is not the usual place.
fn listen(wanted: Option<SocketAddr>) -> (SocketAddr, bool) {
    if let Some(wanted) = wanted {
        return (wanted, false);
    }
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    match TcpListener::bind(usual) {
        Ok(_) => (usual, false),
        Err(_) => (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), true),
    }
}

/// The environment flows see: the mock model, whatever real credentials this shell may have.
fn environment(base_url: String) -> flowfleet_engine::Environment {
    Arc::new(move |name: &str| match name {
        "OPENAI_BASE_URL" | "OPENAI_API_BASE" => Some(base_url.clone()),
        "OPENAI_API_KEY" => Some("demo".to_owned()),
        _ => None,
    })
}

/// Removes what a demo before left, and nothing else.
fn clear(data: &Path) -> Result {
    let failed = |error: std::io::Error| {
        Failure::reach(format!(
            "cannot clear the demo's data in {}: {error}",
            data.display()
        ))
    };
    for name in ["flowfleet.db", "flowfleet.db-wal", "flowfleet.db-shm"] {
        match std::fs::remove_file(data.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    match std::fs::remove_dir_all(data.join("blobs")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_removes_only_what_a_demo_made() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("flowfleet.db"), "x").unwrap();
        std::fs::write(dir.path().join("mine.txt"), "x").unwrap();
        std::fs::create_dir(dir.path().join("blobs")).unwrap();
        clear(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["mine.txt"]);
    }

    #[test]
    fn flows_of_the_demo_never_reach_a_paid_model() {
        let environment = environment("http://mock/v1".to_owned());
        assert_eq!(environment("OPENAI_API_KEY").as_deref(), Some("demo"));
        assert_eq!(environment("OPENAI_BASE_URL").as_deref(), Some("http://mock/v1"));
        assert_eq!(environment("HOME"), None);
    }
}
