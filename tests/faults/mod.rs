//! The fault suite: a fleet of several dispatchers and workers on servers of its own, under load, while everything
//! that can go wrong does.
//!
//! A [`plan`] says from a seed which [`fault`]s happen when; [`inject`] does them to the [`fleet`]; [`load`] keeps it
//! busy and remembers what clients were told; [`audit`] reads what became of it, and [`check`] says what of that breaks
//! a promise. A seed replays the plan; how processes and the network interleave is not in its power.

pub mod audit;
pub mod check;
pub mod disk;
pub mod fault;
pub mod fleet;
pub mod inject;
pub mod load;
pub mod plan;
pub mod proxy;
mod remains;
pub mod report;
pub mod servers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::watch;

use crate::flows;
use crate::process::until;

use audit::Audit;
use fleet::Fleet;
use load::{Client, Ledger, Wanted};
use plan::{Form, Plan, Round};
use report::Report;

/// Clients that submit side by side.
const CLIENTS: usize = 6;
/// Beyond this many different questions the models' counts are forgotten, at a moment of rest.
const COUNTS: usize = 40_000;

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub form: Form,
    /// Only this round of the plan, from 1.
    pub only: Option<usize>,
    /// Requests a second, of all clients together; some are batches.
    pub rate: f64,
    /// Where logs go.
    pub logs: PathBuf,
}

/// Runs the suite to its end; the report says what was broken.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    report::say(&format!(
        "seed {}, logs in {}",
        options.seed,
        options.logs.display()
    ));
    std::fs::create_dir_all(&options.logs)?;
    let began = Instant::now();
    let fleet = Fleet::start(&options.logs).await?;
    let ledger = Ledger::default();
    let suite = Suite {
        options,
        fleet: &fleet,
        ledger: &ledger,
        plan: Plan::new(options.seed, options.form),
    };
    suite.put_flows().await?;
    report::say(&format!(
        "the fleet is up after {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    let (wanted, watched) = watch::channel(Wanted::Load);
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(Client::new(&fleet, &ledger, options.seed.wrapping_add(n as u64))?);
    }
    let interval = Duration::from_secs_f64(CLIENTS as f64 / options.rate);
    let load = join_all(
        clients
            .into_iter()
            .map(|client| client.run(interval, watched.clone())),
    );
    let rounds = Box::pin(suite.rounds(&wanted));
    let mut work = Box::pin(async { tokio::join!(load, rounds).1 });
    tokio::select! {
        report = &mut work => report,
        () = fleet.supervise() => unreachable!("a supervisor never ends"),
    }
}

struct Suite<'a> {
    options: &'a Options,
    fleet: &'a Fleet,
    ledger: &'a Ledger,
    plan: Plan,
}

impl Suite<'_> {
    async fn put_flows(&self) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        for models in 0..=3 {
            let flow = match models {
                0 => flows::passthrough(),
                length => flows::chain_of_models(length),
            };
            for dispatcher in self.fleet.dispatchers().take(1) {
                let url = format!("{}/v1/flows/models-{models}", dispatcher.url);
                client.put(url).json(&flow).send().await?.error_for_status()?;
            }
        }
        Ok(())
    }

    async fn rounds(&self, wanted: &watch::Sender<Wanted>) -> anyhow::Result<Report> {
        let began = Instant::now();
        let mut report = Report::new(self.options.seed);
        let mut audit = Audit::new(self.fleet, self.ledger)?;
        // Some work is under way before anything breaks.
        until("the load is there", Duration::from_secs(60), async || {
            Ok((self.ledger.len() > 50).then_some(()))
        })
        .await?;
        let first = self.options.only.map_or(0, |only| only.saturating_sub(1));
        for number in first.. {
            let over = matches!(self.options.form, Form::Long(limit) if began.elapsed() >= limit);
            let Some(round) = self.plan.round(number).filter(|_| !over) else {
                break;
            };
            self.one_round(number, &round, &mut audit, &mut report).await?;
            if audit.questions() > COUNTS {
                self.rest(wanted, &mut audit, &mut report).await?;
                audit.forget_questions();
                wanted.send_replace(Wanted::Load);
            }
            if self.options.only.is_some() {
                break;
            }
        }
        self.rest(wanted, &mut audit, &mut report).await?;
        wanted.send_replace(Wanted::Nothing);
        report.add(None, audit.remains().await?);
        report.took = began.elapsed();
        report.accepted = self.ledger.len();
        report.checked = audit.checked();
        report.attempts = audit.attempts().clone();
        Ok(report)
    }

    async fn one_round(
        &self,
        number: usize,
        round: &Round,
        audit: &mut Audit<'_>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        report::say(&format!("round {}: {round}", number + 1));
        let seed = self.options.seed.wrapping_add(number as u64 * 1_000);
        inject::carry_out(self.fleet, self.ledger, round, seed).await?;
        let settled = audit.settle().await?;
        let took = settled.took;
        report.faults(round, took);
        report.add(Some(number), settled.violations);
        report::say(&format!(
            "    at rest after {:.1} s; {} runs accepted, {} checked, {} requests repeated, {} violations",
            took.as_secs_f64(),
            self.ledger.len(),
            audit.checked(),
            self.ledger.retries.load(std::sync::atomic::Ordering::Relaxed),
            report.violations.len(),
        ));
        Ok(())
    }

    /// No new load, and everything that was accepted has ended.
    async fn rest(
        &self,
        wanted: &watch::Sender<Wanted>,
        audit: &mut Audit<'_>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        wanted.send_replace(Wanted::Pause);
        until("the clients pause", Duration::from_secs(60), async || {
            Ok((self.ledger.paused() == CLIENTS).then_some(()))
        })
        .await?;
        let settled = audit.settle().await?;
        report.add(None, settled.violations);
        Ok(())
    }
}
