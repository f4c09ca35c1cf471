//! The long form of the fault suite, as a program to watch.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use flowfleet_tests::faults::plan::Form;
use flowfleet_tests::faults::report::say;
use flowfleet_tests::faults::{self, Options};

const EXAMPLES: &str = "\
Examples:
  # An hour of faults
  just faults

  # The same plan once more: the seed is in the first line
  just faults --seed 7204

  # One round of it
  just faults --seed 7204 --round 12

  # What ./tests/run does, with another seed
  just faults --short --seed 3

Needs the programs of PostgreSQL, RabbitMQ and Redis, and libfaketime; starts servers of its own. Exit code 1 says
that a promise was broken; the logs are kept then.";

/// Runs a fleet under load while everything that can go wrong does.
#[derive(Debug, Parser)]
#[command(name = "flowfleet-faults", after_help = EXAMPLES)]
struct Args {
    /// Which plan; a new one if absent
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long rounds are begun
    #[arg(long, value_name = "MINUTES", default_value_t = 60.0)]
    minutes: f64,
    /// Every kind of fault once, as in ./tests/run
    #[arg(long, conflicts_with = "minutes")]
    short: bool,
    /// Only this round of the plan
    #[arg(long, value_name = "N")]
    round: Option<usize>,
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = 12.0)]
    rate: f64,
    /// Where logs go; a folder of its own under the system's for temporary files if absent
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    anyhow::ensure!(
        args.rate > 0.0 && args.rate <= 1_000.0,
        "--rate must be above 0 and at most 1000"
    );
    let limit = Duration::try_from_secs_f64(args.minutes * 60.0)?;
    let seed = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let kept = args.logs.is_some();
    let logs = args.logs.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("flowfleet-faults-{seed}-{}", std::process::id()))
    });
    let options = Options {
        seed,
        form: if args.short {
            Form::Short
        } else {
            Form::Long(limit)
        },
        only: args.round,
        rate: args.rate,
        logs,
    };
    let report = faults::run(&options).await?;
    say(&format!("\n{report}"));
    if report.violations.is_empty() {
        if !kept {
            let _ = std::fs::remove_dir_all(&options.logs);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let short = if args.short { "--short " } else { "" };
    say(&format!(
        "logs: {}; again: just faults {short}--seed {seed}",
        options.logs.display()
    ));
    Ok(ExitCode::FAILURE)
}
