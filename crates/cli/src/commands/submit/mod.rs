//! `flowfleet submit`: one run, or a batch of them.

mod batch;
mod lines;
mod options;
mod single;
mod watch;

use std::time::Duration;

use clap::Args as ClapArgs;
use flowfleet_core::FlowRef;

pub(crate) use batch::{Chunk, post};
pub(crate) use watch::{Tally, Watch};

use super::Context;
use crate::failure::Result;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  flowfleet submit ask --input 'What is a lease?' --wait
  flowfleet submit ask --input-file question.txt --follow
  flowfleet submit ask@3 --input hi --priority high --label team=search --idempotency-key order-42
  flowfleet submit ask --input hi --tweaks '{\"LanguageModelComponent-1\": {\"temperature\": 0}}'
  flowfleet submit ask --input hi --var OPENAI_API_KEY=sk-...
  flowfleet submit ask --input hi --delay 10m --timeout 30s --max-attempts 5
  flowfleet submit ask --batch questions.ndjson --wait --results answers.ndjson
  flowfleet submit ask --batch questions.csv --queue bulk --priority low

Batches:
  NDJSON: one run a line, as for POST /v1/runs, {\"input\": \"...\", \"labels\": {...}}, or just a
  JSON string, the input.
  CSV: a column `input`, and any of flow, session_id, queue, priority, delay_s, run_at, timeout_s,
  expires_in_s, max_attempts, idempotency_key, label.NAME, var.NAME, tweak.COMPONENT.FIELD.
  Options given here hold for every line that does not say otherwise. Every line gets an
  idempotency key made of the batch's and its number, so that repeating the command with the same
  --idempotency-key repeats nothing. Runs carry the label batch=KEY.

With --wait or --follow, the output goes to stdout and everything else to stderr; the exit code
is 1 unless all runs succeeded.";

/// Options of `submit`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The flow: name (its newest version) or name@version
    #[arg(required_unless_present = "batch")]
    flow: Option<FlowRef>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    options: options::Options,
    #[command(flatten)]
    then: Then,
}

/// The input.
#[derive(Debug, ClapArgs)]
#[group(multiple = false)]
#[command(next_help_heading = "Input")]
struct What {
    /// The input, as text
    #[arg(long, short, value_name = "TEXT")]
    input: Option<String>,
    /// A file with the input; *.json is sent as JSON, anything else as text; - reads stdin
    #[arg(long, value_name = "FILE")]
    input_file: Option<String>,
    /// Many runs: a .csv file, or one JSON a line; - reads NDJSON from stdin
    #[arg(long, value_name = "FILE")]
    batch: Option<String>,
}

/// What to do after the submission.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Afterwards")]
struct Then {
    /// Wait for the end and print the output
    #[arg(long, short)]
    wait: bool,
    /// Show events and streamed text until the end, then print the output; with --json the events, one a line
    #[arg(long, short, conflicts_with_all = ["batch", "wait"])]
    follow: bool,
    /// Give up waiting after this long (the runs go on); exits with 3
    #[arg(long, value_name = "TIME", value_parser = text::parse_duration, requires = "wait")]
    wait_timeout: Option<Duration>,
    /// Write id, state, output and error of each run of a batch to a file, one JSON a line
    #[arg(long, value_name = "FILE", requires_all = ["batch", "wait"])]
    results: Option<std::path::PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let client = context.client()?;
    match &args.what.batch {
        Some(file) => batch::run(file, &args, &client, context).await,
        None => single::run(&args, &client, context).await,
    }
}
