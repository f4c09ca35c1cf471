//! `flowfleet runs`: list, show, follow, cancel, replay and explain.

mod many;

use clap::{Args as ClapArgs, Subcommand};
use flowfleet_core::{FlowName, QueueName, RunId, RunState};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Context;
use crate::client::{Client, Run};
use crate::failure::{Failure, Result};
use crate::show;
use crate::term::Paint;
use crate::text::{self, parse_label, parse_past};

const EXAMPLES: &str = "\
Examples:
  flowfleet runs list --state failed --since 1h
  flowfleet runs show 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f
  flowfleet runs events 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f
  flowfleet runs explain 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f
  flowfleet runs cancel --flow ask --state queued --dry-run
  flowfleet runs replay --label batch=nightly --state failed";

/// Options of `runs`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Runs, newest first
    List(List),
    /// One run in full
    Show(Show),
    /// What happened to a run, followed to its end
    Events(Events),
    /// Cancel runs, by id or by filter; running ones are stopped too
    Cancel(Many),
    /// Run again what has ended, by id or by filter: new runs with the same input
    Replay(Many),
    /// Why a run is where it is
    Explain(Explain),
}

/// Which runs.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Which runs")]
struct Filter {
    /// Only in this state; may be repeated
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<RunState>,
    /// Only of this flow
    #[arg(long)]
    flow: Option<FlowName>,
    /// Only of this queue
    #[arg(long)]
    queue: Option<QueueName>,
    /// Only with this label; may be repeated, then all must match
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Only created since: RFC 3339, or how long ago (90s, 2h, 3d)
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    since: Option<Timestamp>,
    /// Only created before: RFC 3339, or how long ago
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    until: Option<Timestamp>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet runs list
  flowfleet runs list --state queued --state running --queue bulk
  flowfleet runs list --flow ask --since 1h --limit 500 --json | jq -r '.items[] | [.id, .state] | @tsv'
  flowfleet runs list --label team=search --until 2026-01-31T00:00:00Z")]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet runs show 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f
  flowfleet runs show 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f --output")]
struct Show {
    id: RunId,
    /// Only the output
    #[arg(long)]
    output: bool,
    /// As JSON
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet runs events 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f
  flowfleet runs events 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f --json | jq -r 'select(.event == \"node.finished\") | .data'
  flowfleet runs events 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f --after 12")]
struct Events {
    id: RunId,
    /// Only events after this sequence
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// As JSON, one event a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet runs cancel 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f
  flowfleet runs cancel --label batch=nightly --dry-run
  flowfleet runs replay 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f
  flowfleet runs replay --flow ask --state failed --since 1h")]
struct Many {
    /// Runs
    #[arg(value_name = "ID", conflicts_with_all = ["states", "flow", "queue", "labels", "since", "until", "dry_run"])]
    ids: Vec<RunId>,
    #[command(flatten)]
    filter: Filter,
    /// Only count what the filter matches
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet runs explain 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f
  flowfleet runs explain 019a9d0c-5f0e-7d2c-b1f5-6c1f5a6d7e8f --json")]
struct Explain {
    id: RunId,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let client = context.client()?;
    match args.action {
        Action::List(args) => list(&args, &client, context).await,
        Action::Show(args) => show_run(&args, &client, context).await,
        Action::Events(args) => {
            let show = if args.json { Follow::Json } else { Follow::Result };
            follow(&client, &args.id.to_string(), args.after, show, context).await
        }
        Action::Cancel(args) => many::run("cancel", &args, &client, context).await,
        Action::Replay(args) => many::run("replay", &args, &client, context).await,
        Action::Explain(args) => explain(&args, &client, context).await,
    }
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query: Vec<(&'static str, String)> = Vec::new();
        query.extend(
            self.states
                .iter()
                .map(|state| ("state", state.as_str().to_owned())),
        );
        query.extend(self.flow.iter().map(|flow| ("flow", flow.to_string())));
        query.extend(self.queue.iter().map(|queue| ("queue", queue.to_string())));
        query.extend(
            self.labels
                .iter()
                .map(|(key, value)| ("label", format!("{key}:{value}"))),
        );
        query.extend(self.since.iter().map(|at| ("since", at.to_string())));
        query.extend(self.until.iter().map(|at| ("until", at.to_string())));
        query
    }
}

async fn list(args: &List, client: &Client, context: &Context) -> Result {
    let page = client
        .list(&["v1", "runs"], &args.filter.query(), args.limit.max(1))
        .await?;
    if args.json {
        context.term.json(&json!(page))?;
        return Ok(());
    }
    if page.items.is_empty() {
        context.term.note("no such runs");
        return Ok(());
    }
    let runs = page.items.iter().map(parse).collect::<Result<Vec<_>>>()?;
    context.term.line(&show::runs(&context.term, &runs))?;
    if page.next_cursor.is_some() {
        context.term.note(&format!(
            "there are more than {}: --limit, or a narrower filter",
            args.limit
        ));
    }
    Ok(())
}

async fn show_run(args: &Show, client: &Client, context: &Context) -> Result {
    let value = client.run(&args.id.to_string(), None).await?;
    if args.json {
        context.term.json(&value)?;
    } else if args.output {
        context
            .term
            .line(&text::of(value.get("output").unwrap_or(&Value::Null)))?;
    } else {
        context.term.line(&show::run(&context.term, &parse(&value)?))?;
    }
    Ok(())
}

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// To stdout: they are what was asked for.
    Result,
    /// To stdout as JSON, one a line.
    Json,
    /// To stderr, beside the output.
    Aside,
}

/// Shows the events of a run to its end.
pub(crate) async fn follow(
    client: &Client,
    id: &str,
    after: Option<u64>,
    to: Follow,
    context: &Context,
) -> Result {
    let mut events = client.events(id, after);
    let mut lines = show::EventLines::new(context.term, "");
    while let Some(event) = events.next().await? {
        match to {
            Follow::Json => context.term.line(&event.to_json().to_string())?,
            Follow::Result => lines.print(&event)?,
            Follow::Aside => lines.note(&event),
        }
    }
    Ok(())
}

async fn explain(args: &Explain, client: &Client, context: &Context) -> Result {
    let answer: Value = client
        .get(&["v1", "runs", &args.id.to_string(), "explain"])
        .send()
        .await?;
    if args.json {
        context.term.json(&answer)?;
        return Ok(());
    }
    let mut said = Vec::new();
    sentences(&answer, &mut said);
    if said.is_empty() {
        context.term.json(&answer)?;
    }
    for sentence in said {
        context.term.line(&sentence)?;
    }
    Ok(())
}

/// All texts of an explanation that are sentences, in order.
fn sentences(value: &Value, said: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains(' ') && !said.contains(text) => said.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| sentences(item, said)),
        Value::Object(fields) => fields.values().for_each(|field| sentences(field, said)),
        _ => {}
    }
}

pub(crate) fn parse(value: &Value) -> Result<Run> {
    serde_json::from_value(value.clone())
        .map_err(|error| Failure::reach(format!("the server's answer is not understood: {error}")))
}

/// Prints what an ended run gave: its output on stdout, the rest on stderr.
pub(crate) fn outcome(value: &Value, context: &Context) -> Result {
    let run = parse(value)?;
    let term = &context.term;
    let took = run
        .duration_s
        .map(|s| format!(" in {}", text::seconds(s)))
        .unwrap_or_default();
    let waited = run
        .wait_s
        .map(|s| format!(" after waiting {}", text::seconds(s)))
        .unwrap_or_default();
    if run.state == "succeeded" {
        term.line(&text::of(&run.output))?;
        term.note(&format!(
            "{} succeeded{took}{waited}, run {}",
            term.paint_err("✓", Paint::Good),
            run.id
        ));
        return Ok(());
    }
    exit(value)
}

/// The exit code of an ended run, and why it failed.
pub(crate) fn exit(value: &Value) -> Result {
    let run = parse(value)?;
    if run.state == "succeeded" {
        return Ok(());
    }
    let why = run
        .error
        .as_ref()
        .map(|error| format!(": {}", show::fault(error)))
        .unwrap_or_default();
    Err(Failure::run(format!("run {} {}{why}", run.id, run.state)))
}
