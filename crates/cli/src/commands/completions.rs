//! `flowfleet completions`.

use clap::{Args as ClapArgs, CommandFactory as _};
use clap_complete::Shell;

use super::Context;
use crate::args::Cli;
use crate::failure::Result;

const EXAMPLES: &str = "\
Examples:
  flowfleet completions bash > ~/.local/share/bash-completion/completions/flowfleet
  flowfleet completions zsh > ~/.zfunc/_flowfleet
  flowfleet completions fish > ~/.config/fish/completions/flowfleet.fish";

/// Options of `completions`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "flowfleet", &mut script);
    context.term.bytes(&script)?;
    Ok(())
}
