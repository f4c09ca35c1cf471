//! `flowfleet version`.

use clap::Args as ClapArgs;

use super::Context;
use crate::failure::Result;

const EXAMPLES: &str = "\
Examples:
  flowfleet version
  flowfleet version --json";

/// Options of `version`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        context
            .term
            .json(&serde_json::json!({"name": "flowfleet", "version": version}))?;
    } else {
        context.term.line(&format!("flowfleet {version}"))?;
    }
    Ok(())
}
