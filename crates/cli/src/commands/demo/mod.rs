//! `flowfleet demo`: a fleet, a model and a few hundred runs, to see it work on a machine that has nothing.

mod load;
mod report;
mod stage;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use flowfleet_runtime::Shutdown;

use super::Context;
use super::up::Log;
use crate::failure::{Code, Failure, Result};
use crate::term::{Paint, Term};

const EXAMPLES: &str = "\
Examples:
  flowfleet demo
  flowfleet demo --runs 5000 --exit
  flowfleet demo --listen 127.0.0.1:0 --data /tmp/demo

Starts an embedded fleet and a mock model, uploads three example flows, submits runs, shows what comes out, and stays up
for `flowfleet submit` and the browser until Ctrl-C. Needs nothing else: no broker, no database, no key.";

/// Options of `demo`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many runs to submit
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Leave when the runs are done; exits with 1 if any failed
    #[arg(long)]
    exit: bool,
    /// Where the API listens [default: 127.0.0.1:7700, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Keep the data of this demo here; without it, each demo starts empty in ./.flowfleet/demo
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Runs executed at once
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    #[command(flatten)]
    log: Log,
}

/// What the demo says, in sections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voice {
    pub term: Term,
}

impl Voice {
    pub(super) fn title(&self, text: &str) -> Result {
        self.term.line("")?;
        self.term.line(&self.term.paint(text, Paint::Bold))?;
        Ok(())
    }

    pub(super) fn done(&self, what: &str, words: &str) -> Result {
        let mark = self.term.paint("✓", Paint::Good);
        self.term.line(&format!("  {mark} {what:<15} {words}"))?;
        Ok(())
    }

    pub(super) fn line(&self, text: &str) -> Result {
        self.term.line(format!("  {text}").trim_end())?;
        Ok(())
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let telemetry = args.log.init()?;
    let voice = Voice { term: context.term };
    let shutdown = Shutdown::on_signals();
    let stage = stage::Stage::build(&args, &shutdown, voice).await?;
    // A kept store may have keys.
    let key = context.global.api_key.clone().filter(|_| args.data.is_some());
    let (url, client) = (stage.url.clone(), stage.client(key)?);
    let fleet = tokio::spawn(stage.run());

    let show = async {
        let flows = load::push_flows(&client, voice).await?;
        let load = load::submit(&client, &flows, args.runs, voice).await?;
        let all_well = report::results(&client, &load, voice).await?;
        report::streamed(&client, voice).await?;
        report::next_steps(&url, args.exit, voice)?;
        Ok::<_, Failure>(all_well)
    };
    let draining = shutdown.draining.clone();
    let outcome = tokio::select! {
        outcome = show => outcome,
        () = draining.cancelled() => {
            voice.term.note("stopping: Ctrl-C again stops at once");
            Ok(true)
        }
    };
    if outcome.is_ok() && !args.exit {
        draining.cancelled().await;
    }
    shutdown.drain();
    let ended = fleet
        .await
        .map_err(|error| Failure::reach(format!("the demo broke: {error}")))?;
    // Flushing traces blocks.
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
    let all_well = outcome?;
    ended.map_err(Failure::from)?;
    if all_well {
        Ok(())
    } else {
        Err(Failure::said(Code::RunFailed))
    }
}
