//! `flowfleet mock-model`: the model that costs nothing.

use clap::Args as ClapArgs;
use flowfleet_runtime::Shutdown;
use serde_json::json;
use tokio::net::TcpListener;

use super::Context;
use crate::failure::{Failure, Result};
use crate::term::Paint;

const EXAMPLES: &str = "\
Examples:
  flowfleet mock-model
  flowfleet mock-model --latency-ms 400 --jitter-ms 200 --tokens-per-s 50       about as slow as a real one
  flowfleet mock-model --fail-every 10 --fail-status 429 --retry-after-s 1      with bad days
  flowfleet mock-model --listen 127.0.0.1:0 --json                              a free port, announced as JSON
  curl -s http://127.0.0.1:7780/stats                                           what it was asked

Point flows at it, in the environment of `flowfleet up`, `flowfleet run` or a worker:
  export OPENAI_BASE_URL=http://127.0.0.1:7780/v1 OPENAI_API_KEY=mock
  export ANTHROPIC_BASE_URL=http://127.0.0.1:7780 ANTHROPIC_API_KEY=mock OLLAMA_BASE_URL=http://127.0.0.1:7780";

/// Options of `mock-model`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
// The options flattened into it are a group named `Args` already.
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    model: flowfleet_mock_model::Args,
    /// Say where it listens as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let listen = args.model.listen;
    let failed = |error: std::io::Error| {
        Failure::reach(format!("cannot listen on {listen}: {error}"))
            .advise("--listen 127.0.0.1:0 takes a free port")
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let url = format!("http://{}/v1", listener.local_addr().map_err(failed)?);
    let term = context.term;
    if args.json {
        term.line(&json!({"base_url": url}).to_string())?;
    } else {
        term.line(&format!(
            "{} {url}",
            term.paint("the mock model is listening on", Paint::Good)
        ))?;
        term.line("point flows at it:")?;
        let export = format!("export OPENAI_BASE_URL={url} OPENAI_API_KEY=mock");
        term.line(&format!("  {}", term.paint(&export, Paint::Accent)))?;
    }
    let shutdown = Shutdown::on_signals();
    flowfleet_mock_model::serve(args.model.config(), listener, shutdown.draining)
        .await
        .map_err(|error| Failure::reach(format!("the mock model broke: {error}")))
}
