//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::client;
use crate::floor::{front, worker};

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p bench -- all
      every part, about an hour; tables on the terminal, figures and pictures under target/bench/
  cargo run --release -p bench -- --quick all
      the same with small numbers, some minutes: to see that it works, not to quote
  cargo run --release -p bench -- throughput --only floor
      Flowfleet and the floor alone
  cargo run --release -p bench -- --out /tmp/figures latency

PostgreSQL, RabbitMQ and Redis must be running: `./tests/run --services` starts them. Others than the local ones are
named by FLOWFLEET_TEST_POSTGRES, FLOWFLEET_TEST_RABBITMQ and FLOWFLEET_TEST_REDIS.";

/// Measures Flowfleet beside its limits and its peers.
#[derive(Debug, Parser)]
#[command(name = "bench", version, about, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Runs of one round of throughput [default: 20000; with --quick 4000]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) runs: Option<usize>,
    /// Rounds of every contender, in turns; the medians count [default: 3; with --quick 1]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) rounds: Option<usize>,
    /// Small numbers and short times, to see that it works
    #[arg(long, global = true)]
    pub(crate) quick: bool,
    /// Contenders beside Flowfleet, by the beginning of their names [default: all]
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Slots of the worker
    #[arg(long, global = true, value_name = "N", default_value_t = 1024)]
    pub(crate) slots: u32,
    /// Measure the programs in this folder instead of building them
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) binaries: Option<PathBuf>,
    /// Where figures and pictures are written
    #[arg(long, global = true, value_name = "DIR", default_value = "target/bench")]
    pub(crate) out: PathBuf,
}

impl Options {
    pub(crate) fn runs(&self) -> usize {
        self.runs.unwrap_or(if self.quick { 4_000 } else { 20_000 })
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    /// Whether a contender beside Flowfleet was asked for.
    pub(crate) fn wants(&self, contender: &str) -> bool {
        let name = contender.to_lowercase();
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|asked| name.starts_with(&asked.to_lowercase()))
    }
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Every part
    All,
    /// Submit to finished, by batch and by single submits, beside the floor and the peers
    Throughput,
    /// Submit to started and to finished at ten runs a second
    Latency,
    /// CPU of the engine alone, beside warm lfx
    Engine,
    /// The Python host beside lfx serve: runs a second, CPU and memory
    Python,
    /// Cost of a run as the history, the backlog, the listeners and the fleet grow
    Scale,
    /// Where a run's CPU goes
    Growth,
    /// Submits runs; started by the parts as a process of its own
    #[command(hide = true)]
    Client(client::Args),
    /// The half of the floor that takes runs
    #[command(hide = true)]
    FloorFront(front::Args),
    /// The half of the floor that executes runs
    #[command(hide = true)]
    FloorWorker(worker::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_shows_examples_and_options_stand_anywhere() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        assert!(help.contains("Examples:") && help.contains("--quick"));
        let args = Args::try_parse_from(["bench", "throughput", "--quick", "--only", "flo,celery"]).unwrap();
        assert!(matches!(args.command, Command::Throughput));
        assert_eq!(args.options.runs(), 4_000);
        assert!(args.options.wants("Floor") && args.options.wants("celery prefork"));
        assert!(!args.options.wants("pg-boss"));
    }
}
