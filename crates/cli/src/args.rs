//! The command line: global options and the commands. Each command's own options live beside its code.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    completions, demo, doctor, fleet, flows, keys, migrate, mock_model, python, run, runs, simulate, submit,
    up, version,
};

const EXAMPLES: &str = "\
Examples:
  flowfleet demo                                    a whole fleet with a mock model, and a few hundred runs
  flowfleet up                                      everything in one process, data in ./.flowfleet
  flowfleet run flow.json --input 'Hello'           one flow, no server
  flowfleet flows push flow.json                    store a flow on the server
  flowfleet submit flow --input 'Hello' --wait      run it there
  flowfleet runs list --state failed                see what happened

Exit codes: 0 done, 1 the run failed, 2 usage, 3 cannot reach or not allowed.";

/// Run Langflow flows at fleet scale.
#[derive(Debug, Parser)]
#[command(name = "flowfleet", version, about, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server and terminal")]
pub(crate) struct Global {
    /// The dispatcher to talk to
    #[arg(
        long,
        global = true,
        env = "FLOWFLEET_URL",
        default_value = "http://127.0.0.1:7700",
        hide_env_values = true
    )]
    pub url: String,
    /// API key for it; needed once the server has keys
    #[arg(
        long,
        global = true,
        env = "FLOWFLEET_API_KEY",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub api_key: Option<String>,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything in one process: dispatcher and workers over SQLite and memory
    Up(up::Args),
    /// See it work: an embedded fleet, a mock model, example flows and a few hundred runs
    Demo(demo::Args),
    /// Run one flow here, without a server; streams nodes and tokens
    Run(run::Args),
    /// Store, list, show and remove flows
    Flows(flows::Args),
    /// Submit one run, or a batch of them
    Submit(Box<submit::Args>),
    /// List, show, follow, cancel, replay and explain runs
    Runs(runs::Args),
    /// Capacity, backlog and workers
    Fleet(fleet::Args),
    /// What a fleet would have cost and how long runs would have waited, by the autoscaler's own decisions
    Simulate(simulate::Args),
    /// Create, list and revoke API keys
    Keys(keys::Args),
    /// Bring a store's schema to this version
    Migrate(migrate::Args),
    /// Check every backend and say what to do
    Doctor(doctor::Args),
    /// A deterministic OpenAI-compatible model server, for demos and load tests without cost
    MockModel(mock_model::Args),
    /// The environment for flows that run in Python: install it, check it
    Python(python::Args),
    /// Completions for a shell
    Completions(completions::Args),
    /// The version of this program
    Version(version::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            if !help.contains("Examples:") {
                missing.push(path.clone());
            }
            for sub in command.get_subcommands() {
                check(sub, &path, missing);
            }
        }
        let mut missing = Vec::new();
        check(&Cli::command(), "", &mut missing);
        assert!(missing.is_empty(), "no examples: {missing:?}");
    }
}
