//! `flowfleet python`: the environment in which flows run that the native engine must not stand in for.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use flowfleet_python::{Host, Install, LFX, Settings, State, default_venv};
use flowfleet_runtime::settings;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Context;
use crate::failure::{Failure, Result};
use crate::term::Paint;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  flowfleet python install
  flowfleet python install --extra lfx-anthropic --extra pandas
  flowfleet python check
  flowfleet run --python flow.json --input 'Hello'

Flows whose components are all known run natively and need none of this.";

const INSTALL_EXAMPLES: &str = "\
Examples:
  flowfleet python install
  flowfleet python install --dir /opt/flowfleet/python --python python3.12
  flowfleet python install --extra lfx-anthropic --extra 'pandas>=2'";

const CHECK_EXAMPLES: &str = "\
Examples:
  flowfleet python check
  flowfleet python check --dir /opt/flowfleet/python --json
  FLOWFLEET_PYTHON_USER=nobody flowfleet python check";

/// Options of `python`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a virtual environment with lfx, or bring it to this version
    Install(InstallArgs),
    /// Load lfx as a worker would, and say whether that works
    Check(CheckArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = INSTALL_EXAMPLES)]
struct InstallArgs {
    /// Where; by default where workers look
    #[arg(long, value_name = "DIR", env = "FLOWFLEET_PYTHON_VENV")]
    dir: Option<PathBuf>,
    /// The release of lfx
    #[arg(long, value_name = "VERSION", default_value = LFX)]
    lfx: String,
    /// A package that components need besides; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    extra: Vec<String>,
    /// The Python that makes it: 3.10 to 3.13
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
    /// The result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = CHECK_EXAMPLES)]
struct CheckArgs {
    /// The environment; by default where workers look
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    match args.command {
        Command::Install(args) => install(args, context).await,
        Command::Check(args) => check(args, context).await,
    }
}

async fn install(args: InstallArgs, context: &Context) -> Result {
    let term = context.term;
    let wanted = Install {
        folder: args.dir.clone().unwrap_or_else(default_venv),
        lfx: args.lfx,
        extra: args.extra,
        python: args.python,
    };
    let mut tell = |step: &str| term.note(&format!("  {} {step}", term.paint_err("…", Paint::Dim)));
    let installed = flowfleet_python::install(&wanted, &mut tell).await;
    let found = installed.map_err(|error| Failure::reach(error.to_string()))?;
    if args.json {
        return Ok(term.json(&json!({"dir": wanted.folder, "lfx": found.lfx, "python": found.python}))?);
    }
    term.line(&format!(
        "{} lfx {} on Python {} in {}",
        term.paint("✓", Paint::Good),
        found.lfx,
        found.python,
        wanted.folder.display()
    ))?;
    let place = match args.dir {
        Some(dir) => format!(", and FLOWFLEET_PYTHON_VENV={}", dir.display()),
        None => String::new(),
    };
    term.note(&format!(
        "workers use it with FLOWFLEET_PYTHON_ENABLED=true{place}; `flowfleet run` and `flowfleet up` with --python"
    ));
    Ok(())
}

async fn check(args: CheckArgs, context: &Context) -> Result {
    let mut settings = settings(true)?;
    if let Some(dir) = args.dir {
        settings.venv = dir;
    }
    let (term, venv) = (context.term, settings.venv());
    let host = start(&settings)?;
    match host.started().await {
        State::Ready(ready) if args.json => Ok(term.json(&json!({"ok": true, "venv": venv, "lfx": ready.lfx,
            "python": ready.python, "took_s": ready.took_ms as f64 / 1e3, "rss_bytes": ready.resident_bytes}))?),
        State::Ready(ready) => Ok(term.line(&format!(
            "{} lfx {} on Python {} loads in {} and takes {} MiB  {}",
            term.paint("✓", Paint::Good),
            ready.lfx,
            ready.python,
            text::seconds(ready.took_ms as f64 / 1e3),
            ready.resident_bytes >> 20,
            term.paint(&venv.display().to_string(), Paint::Dim)
        ))?),
        State::Broken(why) => Err(Failure::reach(why)),
        State::Starting => Err(Failure::reach("lfx has not loaded")),
    }
}

/// The settings under `python` of this process's environment; `enable` whatever it says.
pub(crate) fn settings(enable: bool) -> Result<Settings> {
    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Layer {
        python: Settings,
    }
    let layer: Layer =
        settings::load(None, toml::Table::new()).map_err(|error| Failure::usage(error.to_string()))?;
    let mut found = layer.python;
    found.enabled |= enable;
    Ok(found)
}

/// A host that begins to load lfx.
pub(crate) fn start(settings: &Settings) -> Result<Host> {
    Host::start(settings.clone()).map_err(|error| Failure::usage(error.to_string()))
}
