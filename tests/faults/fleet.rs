//! The fleet under attack: its processes, their private links to the services, and the models they ask.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use flowfleet_mock_model as mock;
use tokio::sync::Mutex as AsyncMutex;

use super::fault::{Role, Service, Who};
use super::proxy::Proxy;
use super::servers::{Postgres, RabbitMq, Redis, Servers};
use crate::process::{binary, free_address, until};

/// Short, so that a round is short.
pub const LEASE: Duration = Duration::from_secs(3);
/// How long a process that was asked to go may take.
const GOODBYE: Duration = Duration::from_secs(30);
/// The exit code of a process that cannot start because a service is away.
const NOT_TO_BE_HAD: i32 = 3;

/// Runs of the fleet.
pub const POOL: &str = "faults";

/// Model servers, by how they behave.
#[derive(Debug)]
pub struct Models {
    pub quick: mock::Handle,
    /// Answers take about as long as a lease.
    pub slow: mock::Handle,
    /// Every third request fails.
    pub flaky: mock::Handle,
}

impl Models {
    async fn start() -> anyhow::Result<Self> {
        let model = |latency_ms, jitter_ms, fail_every| mock::Config {
            latency_ms,
            jitter_ms,
            fail_every,
            fail_status: 503,
            ..mock::Config::default()
        };
        Ok(Self {
            quick: mock::spawn(model(20, 60, 0)).await?,
            slow: mock::spawn(model(1_500, 2_500, 0)).await?,
            flaky: mock::spawn(model(10, 20, 3)).await?,
        })
    }
}

#[derive(Debug)]
pub struct Fleet {
    pub postgres: AsyncMutex<Postgres>,
    pub rabbitmq: AsyncMutex<RabbitMq>,
    pub redis: AsyncMutex<Redis>,
    pub models: Models,
    pub members: Vec<Member>,
    /// The store's own URL, past all proxies.
    pub store_url: String,
    /// Where payloads too large for a row lie.
    _blobs: tempfile::TempDir,
}

impl Fleet {
    /// Two dispatchers and three workers on servers of their own; everybody's log goes to `logs`.
    pub async fn start(logs: &Path) -> anyhow::Result<Self> {
        let servers = Servers::start(logs).await?;
        let store_url = servers.postgres.url(&servers.postgres.address());
        let migrated = tokio::process::Command::new(binary("flowfleet"))
            .arg("migrate")
            .env("FLOWFLEET_STORE_URL", &store_url)
            .output()
            .await?;
        ensure!(
            migrated.status.success(),
            "migrate: {}",
            String::from_utf8_lossy(&migrated.stderr)
        );
        let models = Models::start().await?;
        let blobs = tempfile::Builder::new().prefix("ff-blobs-").tempdir()?;
        let mut members = Vec::new();
        for who in Who::all() {
            members.push(Member::new(who, &servers, &models, blobs.path(), logs).await?);
        }
        let Servers {
            postgres,
            rabbitmq,
            redis,
        } = servers;
        let fleet = Self {
            postgres: AsyncMutex::new(postgres),
            rabbitmq: AsyncMutex::new(rabbitmq),
            redis: AsyncMutex::new(redis),
            models,
            members,
            store_url,
            _blobs: blobs,
        };
        for member in &fleet.members {
            member.start(None)?;
        }
        fleet.ready(Duration::from_secs(60)).await?;
        Ok(fleet)
    }

    pub fn member(&self, who: Who) -> &Member {
        self.members
            .iter()
            .find(|member| member.who == who)
            .expect("plans name members of the fleet")
    }

    pub fn dispatchers(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.who.role == Role::Dispatcher)
    }

    /// Waits until every process says that it is ready.
    pub async fn ready(&self, within: Duration) -> anyhow::Result<()> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(2))
            .build()?;
        for member in &self.members {
            let what = format!("{} is ready", member.who);
            until(&what, within, async || {
                let answer = client.get(format!("{}/health/ready", member.url)).send().await;
                Ok(answer
                    .is_ok_and(|answer| answer.status().is_success())
                    .then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Looks after the processes as an init system would, for as long as it is polled.
    pub async fn supervise(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            for member in &self.members {
                member.look_after();
            }
        }
    }

    /// What processes did that they must not do, since the last call.
    pub fn misdeeds(&self) -> Vec<String> {
        self.members
            .iter()
            .flat_map(|member| std::mem::take(&mut member.lock().misdeeds))
            .collect()
    }
}

/// A process, running or not.
#[derive(Debug)]
pub struct Member {
    pub who: Who,
    pub url: String,
    links: [Proxy; 3],
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    /// What libfaketime reads the offset of the clock from.
    clock: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    /// It was asked to go at this time.
    leaving: Option<Instant>,
    skewed: bool,
    misdeeds: Vec<String>,
}

impl Member {
    async fn new(
        who: Who,
        servers: &Servers,
        models: &Models,
        blobs: &Path,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let links = [
            Proxy::start(&servers.postgres.address()).await?,
            Proxy::start(&servers.rabbitmq.address()).await?,
            Proxy::start(&servers.redis.address()).await?,
        ];
        let address = free_address()?;
        let mut environment = vec![
            ("FLOWFLEET_STORE_URL", servers.postgres.url(&links[0].address())),
            ("FLOWFLEET_QUEUE_URL", servers.rabbitmq.url(&links[1].address())),
            ("FLOWFLEET_BUS_URL", servers.redis.url(&links[2].address())),
            ("FLOWFLEET_BLOB_URL", format!("file:{}", blobs.display())),
            (
                "FLOWFLEET_LOG",
                std::env::var("FLOWFLEET_LOG").unwrap_or_else(|_| "info".to_owned()),
            ),
        ];
        let own: &[(&str, &str)] = match who.role {
            Role::Dispatcher => &[
                ("FLOWFLEET_UPKEEP_LEAD_S", "0.5"),
                ("FLOWFLEET_UPKEEP_REAP_S", "0.3"),
                ("FLOWFLEET_UPKEEP_SWEEP_S", "1"),
                ("FLOWFLEET_UPKEEP_SWEEP_AGE_S", "2"),
                ("FLOWFLEET_UPKEEP_RECONCILE_S", "1"),
                ("FLOWFLEET_UPKEEP_RECONCILE_AGE_S", "2"),
                ("FLOWFLEET_DRAIN_S", "2"),
            ],
            Role::Worker => &[
                ("FLOWFLEET_QUEUES", POOL),
                ("FLOWFLEET_SLOTS", "24"),
                ("FLOWFLEET_DRAIN_S", "0.3"),
                ("FLOWFLEET_MODEL_MAX_RETRIES", "0"),
            ],
        };
        environment.extend(own.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let listen = match who.role {
            Role::Dispatcher => "FLOWFLEET_LISTEN",
            Role::Worker => "FLOWFLEET_ADMIN_LISTEN",
        };
        environment.push((listen, address.clone()));
        if who.role == Role::Worker {
            environment.push(("FLOWFLEET_LEASE_S", LEASE.as_secs_f64().to_string()));
            environment.push(("OPENAI_BASE_URL", models.quick.base_url()));
            environment.push(("OPENAI_API_KEY", "a key".to_owned()));
        }
        Ok(Self {
            who,
            url: format!("http://{address}"),
            links,
            environment,
            log: logs.join(format!("{who}.log")),
            clock: logs.join(format!("{who}.clock")),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn link(&self, service: Service) -> &Proxy {
        &self.links[service as usize]
    }

    /// Starts the process, under a clock that is wrong by `skew` seconds if that is given.
    pub fn start(&self, skew: Option<i64>) -> anyhow::Result<()> {
        let child = self.spawn(skew)?;
        let mut state = self.lock();
        state.skewed = skew.is_some();
        state.leaving = None;
        state.child = Some(child);
        Ok(())
    }

    fn spawn(&self, skew: Option<i64>) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let program = match self.who.role {
            Role::Dispatcher => "flowfleet-dispatcher",
            Role::Worker => "flowfleet-worker",
        };
        let mut command = Command::new(binary(program));
        command
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .env_remove("FLOWFLEET_CONFIG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(seconds) = skew {
            self.set_clock(seconds)?;
            command
                .env("LD_PRELOAD", libfaketime()?)
                .env("FAKETIME_TIMESTAMP_FILE", &self.clock)
                .env("FAKETIME_CACHE_DURATION", "1")
                // Waits and timeouts are measured by a clock that nobody sets.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.spawn().with_context(|| format!("{} starts", self.who))
    }

    /// Sets the clock of a process that was started with a wrong one.
    pub fn set_clock(&self, seconds: i64) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.clock, format!("{seconds:+}\n"))?)
    }

    /// SIGKILL.
    pub fn kill(&self) {
        if let Some(mut child) = self.lock().child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.lock().child.as_ref().map(Child::id);
        if let Some(pid) = pid {
            // It may have ended at this very moment: the supervisor finds out.
            let _ = Command::new("kill").args([signal, &pid.to_string()]).output();
        }
    }

    /// How many runs a worker executes; none if it does not say.
    pub async fn busy(&self) -> u64 {
        let shown = async {
            let answer = reqwest::get(format!("{}/metrics", self.url)).await.ok()?;
            let text = answer.text().await.ok()?;
            let mut lines = text.lines();
            let line =
                lines.find(|line| line.starts_with("flowfleet_slots{") && line.contains("\"busy\""))?;
            line.rsplit(' ').next()?.parse().ok()
        };
        shown.await.unwrap_or(0)
    }

    /// SIGTERM; it is not started again when it ends.
    pub fn ask_to_leave(&self) {
        self.signal("-TERM");
        self.lock().leaving = Some(Instant::now());
    }

    /// Waits for a process that was asked to leave.
    pub async fn gone(&self) -> anyhow::Result<()> {
        let what = format!("{} leaves", self.who);
        until(&what, GOODBYE + Duration::from_secs(5), async || {
            Ok(self.lock().child.is_none().then_some(()))
        })
        .await
    }

    fn look_after(&self) {
        let mut state = self.lock();
        let Some(child) = &mut state.child else { return };
        let Ok(Some(status)) = child.try_wait() else {
            if state.leaving.is_some_and(|since| since.elapsed() > GOODBYE) {
                state.misdeeds.push(format!(
                    "{} was asked to leave and is still there after {GOODBYE:?}",
                    self.who
                ));
                drop(state);
                self.kill();
            }
            return;
        };
        state.child = None;
        if state.leaving.take().is_some() {
            if !status.success() {
                state
                    .misdeeds
                    .push(format!("{} was asked to leave and ended with {status}", self.who));
            }
            return;
        }
        // A process that cannot start because a service is away ends, and is started again by whoever started it.
        if status.code() != Some(NOT_TO_BE_HAD) {
            state
                .misdeeds
                .push(format!("{} ended by itself: {}", self.who, how(status)));
        }
        let skew = state.skewed.then_some(0);
        drop(state);
        if let Err(error) = self.start(skew) {
            self.lock()
                .misdeeds
                .push(format!("{} does not start again: {error:#}", self.who));
        }
    }

    /// Whatever the log says that no log may say.
    pub fn panics(&self) -> Vec<String> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let panics = text
            .lines()
            .filter(|line| line.contains("panicked at") || line.contains("panic="));
        panics
            .take(5)
            .map(|line| format!("{}: {line}", self.who))
            .collect()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}

/// The library that gives a process a clock of its own.
fn libfaketime() -> anyhow::Result<PathBuf> {
    let folders = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|arch| format!("/usr/lib/{arch}/faketime"));
    folders
        .iter()
        .chain([
            &"/usr/lib/faketime".to_owned(),
            &"/usr/local/lib/faketime".to_owned(),
        ])
        .map(|folder| Path::new(folder).join("libfaketimeMT.so.1"))
        .find(|path| path.exists())
        .context("libfaketime is not installed: apt-get install faketime")
}
