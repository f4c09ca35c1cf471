//! `flowfleet-simulation`: explores histories of the core protocol, or plays one again step by step.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use flowfleet_simulation::{Failure, Mutation, Plan, Report, Tape, explore, replay, shrink};
use indicatif::{ProgressBar, ProgressStyle};

/// Explore histories of the core protocol under faults, and shrink the first that breaks an invariant.
///
/// A history is one life of a small fleet: up to four runs, three workers and two dispatchers, with a tape of choices
/// that says who moves next and what goes wrong, until everything has come to rest.
#[derive(Debug, Parser)]
#[command(
    name = "flowfleet-simulation",
    version,
    after_help = "Examples:
  flowfleet-simulation --minutes 5                 five minutes of fresh histories
  flowfleet-simulation --seed 42 --histories 1     the history of one seed
  flowfleet-simulation --replay 04_9_19_74_d8f373  a tape from a report, step by step
  flowfleet-simulation --without NoSweep           see the checker catch a missing rule
  flowfleet-simulation --minutes 1 --coverage      and how often everything happened

Exit codes: 0 nothing was broken, 1 an invariant was, 2 usage."
)]
struct Args {
    /// Play for this long
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// Stop after this many histories
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    histories: u64,
    /// Seed of the first history; the others count up from it. A random one when absent
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads; all cores when absent
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Play this tape and print every step
    #[arg(long, value_name = "TAPE", conflicts_with_all = ["seed", "histories", "minutes"])]
    replay: Option<String>,
    /// Switch a rule off
    #[arg(long, value_name = "RULE")]
    without: Option<Mutation>,
    /// Print how often every fault, step and transition happened
    #[arg(long)]
    coverage: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "use a number of minutes".to_owned())?;
    if minutes > 0.0 && minutes <= 100_000.0 {
        return Ok(minutes);
    }
    Err("use a number above 0 and at most 100000".to_owned())
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let mut out = std::io::stdout().lock();
    if let Some(text) = &args.replay {
        let tape = Tape::parse(text).unwrap_or_else(|error| {
            use clap::CommandFactory as _;
            Args::command()
                .error(clap::error::ErrorKind::InvalidValue, error)
                .exit()
        });
        return tell(&mut out, tape, args.without);
    }
    let first_seed = args.seed.unwrap_or_else(rand::random);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let plan = Plan {
        first_seed,
        histories: args.histories,
        time: Duration::from_secs_f64(args.minutes * 60.0),
        threads: args.threads.unwrap_or(cores),
        broken: args.without,
    };
    writeln!(out, "from seed {first_seed}, {} threads", plan.threads)?;
    let bar = bar()?;
    let report = explore(&plan, |played| bar.set_position(played));
    bar.finish_and_clear();
    print(&mut out, &report, args.coverage)?;
    match &report.failure {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => failed(&mut out, failure, args.without),
    }
}

/// A bar where somebody watches.
fn bar() -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {elapsed} {pos} histories, {per_sec}")
        .context("the template of the bar")?;
    bar.set_style(style);
    Ok(bar)
}

fn print(out: &mut impl Write, report: &Report, coverage: bool) -> std::io::Result<()> {
    let seen = &report.coverage;
    writeln!(
        out,
        "{} histories in {:.1} s: {:.0} a minute",
        seen.histories,
        report.took.as_secs_f64(),
        report.rate()
    )?;
    let each = seen.histories.max(1);
    writeln!(
        out,
        "{} steps ({} a history), {:.0} days of virtual time, about {} different histories and {} different states",
        seen.moves,
        seen.moves / each,
        seen.virtual_ms as f64 / 86_400_000.0,
        report.histories,
        report.states
    )?;
    if coverage {
        for (name, count) in seen.lines() {
            writeln!(out, "{count:>12}  {name}")?;
        }
    }
    let missing = seen.missing();
    if !missing.is_empty() {
        writeln!(out, "never happened: {}", missing.join("; "))?;
    }
    Ok(())
}

fn failed(out: &mut impl Write, failure: &Failure, without: Option<Mutation>) -> anyhow::Result<ExitCode> {
    writeln!(out, "\nseed {}: {}", failure.seed, failure.violation)?;
    writeln!(
        out,
        "shrinking {} bytes: {}",
        failure.tape.bytes().len(),
        failure.tape
    )?;
    let (tape, _) = shrink(&failure.tape, failure.violation.clone(), without);
    writeln!(out, "to {} bytes: --replay {}\n", tape.bytes().len(), tape)?;
    tell(out, tape, without)
}

/// Plays one tape and prints its steps.
fn tell(out: &mut impl Write, tape: Tape, without: Option<Mutation>) -> anyhow::Result<ExitCode> {
    let played = replay(tape, without);
    for line in &played.trace {
        writeln!(out, "{line}")?;
    }
    match played.violation {
        None => {
            writeln!(out, "no invariant is broken")?;
            Ok(ExitCode::SUCCESS)
        }
        Some(violation) => {
            writeln!(out, "broken: {violation}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}
