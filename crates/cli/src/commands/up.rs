//! `flowfleet up`: everything in one process, data in one directory.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use flowfleet_engine::Services;
use flowfleet_runtime::Shutdown;
use flowfleet_runtime::telemetry::{self, LogFormat};
use serde_json::json;

use super::Context;
use crate::embedded::{DataLock, Embedded, Options};
use crate::failure::{Failure, Result};
use crate::term::Paint;

const EXAMPLES: &str = "\
Examples:
  flowfleet up
  flowfleet up --data /var/lib/flowfleet --slots 256
  flowfleet up --listen 127.0.0.1:0 --json          a free port, announced as JSON
  OPENAI_API_KEY=sk-... flowfleet up                flows find their model
  flowfleet keys create --name ops --role admin --store sqlite:.flowfleet/flowfleet.db && flowfleet up --listen 0.0.0.0:7700

Runs, flows and keys live in DIR/flowfleet.db and survive any stop of this process. The first Ctrl-C drains: running
flows may end or are handed back with what they have done; the second stops at once.";

/// Options of `up`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the API listens; other addresses than this machine's own need an API key
    #[arg(
        long,
        env = "FLOWFLEET_LISTEN",
        default_value = "127.0.0.1:7700",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Where runs, flows and keys live
    #[arg(long, default_value = ".flowfleet", value_name = "DIR")]
    data: PathBuf,
    /// Runs each worker executes at once; flows mostly wait for models
    #[arg(long, env = "FLOWFLEET_SLOTS", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// Workers in this process
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Run flows in Python that need it; `flowfleet python install` makes the environment, FLOWFLEET_PYTHON_* set the rest
    #[arg(long)]
    python: bool,
    #[command(flatten)]
    log: Log,
    /// Say where it listens as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Warnings; that a part is not ready while the process starts or drains is none here.
const QUIET: &str = "warn,flowfleet_runtime::health=error";

/// What is logged to stderr.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Log")]
pub(crate) struct Log {
    /// What is logged, such as warn or info,flowfleet_worker=debug
    #[arg(long, env = "FLOWFLEET_LOG", default_value = QUIET, value_name = "FILTER")]
    pub log: String,
    /// How it is logged
    #[arg(
        long,
        env = "FLOWFLEET_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

impl Log {
    pub(crate) fn init(&self) -> Result<telemetry::Telemetry> {
        telemetry::init("flowfleet", &self.log, self.log_format)
            .map_err(|error| Failure::usage(error.to_string()))
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let telemetry = args.log.init()?;
    let term = context.term;
    for name in [
        "FLOWFLEET_STORE_URL",
        "FLOWFLEET_QUEUE_URL",
        "FLOWFLEET_BUS_URL",
        "FLOWFLEET_BLOB_URL",
    ] {
        if std::env::var_os(name).is_some() {
            term.note(&format!(
                "note: {name} is set, but `up` always keeps its own data in {}",
                args.data.display()
            ));
        }
    }
    let lock = DataLock::take(&args.data)?;
    let shutdown = Shutdown::on_signals();
    let options = Options {
        data: args.data.clone(),
        listen: args.listen,
        workers: args.workers,
        slots: args.slots,
        services: Services::from_env().map_err(|error| Failure::usage(error.to_string()))?,
        python: python(&args)?,
    };
    let fleet = Embedded::start(options, lock, shutdown.clone())
        .await
        .map_err(|error| start_failed(&error))?;
    let url = fleet.url();
    if args.json {
        let line = json!({"url": url, "listen": fleet.address, "data": args.data, "workers": args.workers,
            "slots": args.workers * args.slots});
        term.line(&line.to_string())?;
    } else {
        announce(&args, &fleet, &url, context)?;
    }
    let result = {
        let told = shutdown.clone();
        let watch = tokio::spawn(async move {
            told.draining.cancelled().await;
            term.note("draining: running flows may end or are handed back; Ctrl-C again stops at once");
        });
        let result = fleet.join().await;
        watch.abort();
        result
    };
    // Flushing traces blocks.
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
    result.map_err(Failure::from)?;
    term.note("stopped; everything is kept for the next start");
    Ok(())
}

/// The Python host, if it was asked for. It loads lfx while everything else starts.
fn python(args: &Args) -> Result<Option<flowfleet_python::Host>> {
    let settings = super::python::settings(args.python)?;
    match settings.enabled {
        true => super::python::start(&settings).map(Some),
        false => Ok(None),
    }
}

fn announce(args: &Args, fleet: &Embedded, url: &str, context: &Context) -> Result {
    let term = context.term;
    let row = |name: &str, value: String| {
        term.line(&format!(
            "  {} {value}",
            term.paint(&format!("{name:<10}"), Paint::Dim)
        ))
    };
    let schema = if fleet.migrated > 0 {
        " (schema brought up to date)"
    } else {
        ""
    };
    term.line(&format!(
        "{} {url}",
        term.paint("Flowfleet is listening on", Paint::Good)
    ))?;
    row("data", format!("{}{schema}", args.data.display()))?;
    row(
        "workers",
        format!("{} with {} slots each", args.workers, args.slots),
    )?;
    row("API", format!("{url}/docs"))?;
    row("metrics", format!("{url}/metrics"))?;
    let program = program();
    let server = server_flag(url);
    term.line("")?;
    term.line("Next, in another terminal:")?;
    for command in [
        format!("{program} flows push my-flow.json{server}"),
        format!("{program} submit my-flow --input 'Hello' --wait{server}"),
        format!("{program} runs list{server}"),
    ] {
        term.line(&format!("  {}", term.paint(&command, Paint::Accent)))?;
    }
    Ok(())
}

/// The flag that names a server which is not where commands look by themselves.
pub(crate) fn server_flag(url: &str) -> String {
    if url == "http://127.0.0.1:7700" {
        String::new()
    } else {
        format!(" --url {url}")
    }
}

/// How to call this program from here.
pub(crate) fn program() -> String {
    let Ok(exe) = std::env::current_exe() else {
        return "flowfleet".to_owned();
    };
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| exe.parent() == Some(&dir)));
    if on_path {
        return "flowfleet".to_owned();
    }
    let here = std::env::current_dir()
        .ok()
        .and_then(|here| exe.strip_prefix(here).ok().map(PathBuf::from));
    here.unwrap_or(exe).display().to_string()
}

/// Why the fleet did not start.
pub(crate) fn start_failed(error: &anyhow::Error) -> Failure {
    let in_use = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::AddrInUse)
    });
    let failure = Failure::reach(format!("cannot start: {error:#}"));
    if in_use {
        failure.advise("--listen 127.0.0.1:0 takes a free port")
    } else {
        failure
    }
}
