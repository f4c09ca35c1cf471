//! The floor: the least that the same guarantees need on the same services, with nothing around it.
//!
//! Rows are inserted with their input and committed before the answer; ids are published to a quorum queue with
//! confirms; a worker consumes them, claims them in the store under a new epoch, acknowledges after the claim has
//! committed, renders the text, and stores it under that epoch. Everything is batched by what is waiting, without
//! timers, and pipelined over several connections. There are no events, attempts, leases to renew, indexes beside the
//! primary key, outbox, flows, settings, limits, tenants, logs or metrics.
//!
//! Like Flowfleet it is two processes, [`front`] and [`worker`]. How many connections and how large batches are
//! best is found by [`search`].

pub(crate) mod front;
mod queue;
mod search;
pub(crate) mod worker;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::Bench;
use crate::client::{self, Load, now_us};
use crate::contender::{Contender, LatencySamples, Mode, Throughput};
use crate::fleet::{Process, free_address};
use crate::services::{Database, Services, Vhost};
use crate::times;
use search::Tuning;

/// Free room in each page lets both updates of a row stay in it.
const SCHEMA: &str = "
CREATE TABLE runs (
    id uuid PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,
    state smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    lease_until timestamptz,
    finished_at timestamptz,
    input text NOT NULL,
    output text
) WITH (fillfactor = 60)";

const RIGHT: &str = "
SELECT count(*) FROM runs
WHERE id >= $1 AND state = 2 AND output LIKE 'Hello, Ada %! This flow ran on Flowfleet.'";

const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(300);
const WARM_UP: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct Floor {
    /// Whether the best settings are to be found before the first round of a mode.
    search: bool,
    tuned: Vec<(Mode, Tuning)>,
    running: Option<Running>,
}

/// The two processes and what they work on.
#[derive(Debug)]
struct Running {
    tuning: Tuning,
    front: Process,
    worker: Process,
    client: reqwest::Client,
    pool: PgPool,
    place: Place,
    /// Runs that were submitted to this worker process.
    submitted: usize,
}

#[derive(Debug)]
struct Place {
    database: Database,
    vhost: Vhost,
    services: Services,
}

impl Place {
    async fn start(self, tuning: Tuning) -> anyhow::Result<Running> {
        let this = std::env::current_exe()?;
        let client = reqwest::Client::new();
        let mut processes = Vec::new();
        for side in ["floor-front", "floor-worker"] {
            let address = free_address()?;
            let mut command = Command::new(&this);
            command.args([side, "--listen", &address]).args([
                "--store",
                &self.database.url,
                "--queue",
                &self.vhost.url,
            ]);
            command.args(if side == "floor-front" {
                tuning.front()
            } else {
                tuning.worker()
            });
            let mut process = Process::start(side, &mut command, &address)?;
            process.ready(&client, "/ready").await?;
            processes.push(process);
        }
        let (Some(worker), Some(front)) = (processes.pop(), processes.pop()) else {
            anyhow::bail!("two processes were started");
        };
        let mut running = Running {
            tuning,
            front,
            worker,
            client,
            pool: self.database.pool(1).await?,
            place: self,
            submitted: 0,
        };
        let single = Mode::Single { concurrency: 64 };
        for mode in [Mode::Batch, single] {
            running.submit(mode, WARM_UP).await?;
            running.until_all_ended().await?;
        }
        Ok(running)
    }
}

impl Running {
    /// Stops the processes; what they worked on stays.
    async fn stop(self) -> anyhow::Result<Place> {
        self.pool.close().await;
        self.front.stop().await?;
        self.worker.stop().await?;
        Ok(self.place)
    }

    /// When it began, how long it took, and the CPU of a client if there was one.
    async fn submit(&mut self, mode: Mode, runs: usize) -> anyhow::Result<(u64, f64, Option<f64>)> {
        self.submitted += runs;
        if let Mode::Single { .. } = mode {
            let sent = client::spawn(self.front.host(), &Load::of(mode, runs)).await?;
            return Ok((sent.began_us, sent.submit_s, Some(sent.cpu_s)));
        }
        let url = format!("{}/generate?runs={runs}", self.front.url);
        let answer = self.client.post(url).send().await?;
        ensure!(
            answer.status().is_success(),
            "the floor fails: {}",
            answer.text().await?
        );
        let done: front::Generated = answer.json().await?;
        Ok((done.began_us, done.submit_s, None))
    }

    async fn until_all_ended(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let url = format!("{}/finished", self.worker.url);
            let finished: usize = self.client.get(url).send().await?.json().await?;
            if finished >= self.submitted {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{finished} of {} runs have ended after {PATIENCE:?}",
                self.submitted
            );
            tokio::time::sleep(POLL).await;
        }
    }

    async fn round(&mut self, mode: Mode, runs: usize) -> anyhow::Result<Throughput> {
        let first = times::first_id(now_us());
        let services = self.place.services.usage();
        let (front, worker) = (self.front.usage()?.cpu_s, self.worker.usage()?.cpu_s);
        let (began_us, submit_s, client) = self.submit(mode, runs).await?;
        self.until_all_ended().await?;
        let seen_us = now_us();
        let mut cpu = vec![
            ("dispatcher".to_owned(), self.front.usage()?.cpu_s - front),
            ("worker".to_owned(), self.worker.usage()?.cpu_s - worker),
        ];
        cpu.extend(client.map(|cpu| ("client".to_owned(), cpu)));
        cpu.extend(self.place.services.usage().cpu_since(&services));
        let ended_us = times::last_end(&self.pool, first, runs).await?;
        let right: i64 = sqlx::query_scalar(RIGHT)
            .bind(first)
            .fetch_one(&self.pool)
            .await?;
        ensure!(
            usize::try_from(right) == Ok(runs),
            "{right} of {runs} runs answered as they should"
        );
        let seconds = |until: u64| until.saturating_sub(began_us) as f64 / 1e6;
        Ok(Throughput {
            runs,
            submit_s,
            total_s: seconds(ended_us),
            seen_s: Some(seconds(seen_us)),
            cpu,
        })
    }
}

impl Floor {
    fn tuning(&self, mode: Mode) -> Tuning {
        let tuned = self.tuned.iter().find(|(tuned, _)| *tuned == mode);
        tuned.map_or_else(|| Tuning::usual(mode), |(_, tuning)| *tuning)
    }

    /// The processes with the settings that are best for a mode.
    async fn tuned(&mut self, mode: Mode) -> anyhow::Result<&mut Running> {
        let wanted = self.tuning(mode);
        let running = self.running.take().context("it was not prepared")?;
        let running = if running.tuning == wanted {
            running
        } else {
            running.stop().await?.start(wanted).await?
        };
        Ok(self.running.insert(running))
    }
}

#[async_trait]
impl Contender for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn about(&self) -> String {
        let single = Mode::Single { concurrency: 64 };
        format!(
            "bare inserts, publishes, claims and finishes; batch: {}; single, behind a bare HTTP endpoint: {}",
            self.tuning(Mode::Batch),
            self.tuning(single)
        )
    }

    async fn prepare(&mut self, bench: &Bench) -> anyhow::Result<()> {
        let database = bench.services.database("floor").await?;
        let pool = database.pool(1).await?;
        let durable: String = sqlx::query_scalar("SHOW synchronous_commit")
            .fetch_one(&pool)
            .await?;
        ensure!(durable == "on", "synchronous_commit is {durable}: turn it on");
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        pool.close().await;
        let vhost = bench.services.vhost("floor")?;
        queue::declare(&vhost.url).await?;
        let place = Place {
            database,
            vhost,
            services: bench.services.clone(),
        };
        self.search = !bench.options.quick;
        self.running = Some(place.start(Tuning::usual(Mode::Batch)).await?);
        Ok(())
    }

    async fn throughput(&mut self, mode: Mode, runs: usize) -> anyhow::Result<Throughput> {
        if self.search && !self.tuned.iter().any(|(tuned, _)| *tuned == mode) {
            let running = self.running.take().context("it was not prepared")?;
            let (running, tuning) = search::best(running, mode, runs / 2).await?;
            self.tuned.push((mode, tuning));
            self.running = Some(running);
            self.tuned(mode).await?.place.services.settle().await;
        }
        self.tuned(mode).await?.round(mode, runs).await
    }

    async fn latency(&mut self, rate: f64, seconds: u64) -> anyhow::Result<LatencySamples> {
        let running = self.tuned(Mode::Single { concurrency: 64 }).await?;
        let sent = client::spawn(running.front.host(), &Load::Paced { rate, seconds }).await?;
        times::samples(&running.pool, &sent.paced).await
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(running) => running.stop().await.map(drop),
            None => Ok(()),
        }
    }
}
