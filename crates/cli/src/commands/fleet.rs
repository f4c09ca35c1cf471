//! `flowfleet fleet`: what the fleet has and what waits for it.

use clap::{Args as ClapArgs, Subcommand};
use comfy_table::Cell;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::Context;
use crate::client::{Client, Worker};
use crate::failure::{Failure, Result};
use crate::term::Paint;
use crate::{show, text};

const EXAMPLES: &str = "\
Examples:
  flowfleet fleet status
  flowfleet fleet workers
  flowfleet fleet drain 0198f3c2-... --handoff-s 30
  flowfleet fleet workers --json | jq '[.items[].slots] | add'";

/// Options of `fleet`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Workers, slots and what waits in each queue
    Status(Status),
    /// Every worker that is there
    Workers(Workers),
    /// Let a worker take no more runs; it stays, and can be told to accept again
    Drain(Drain),
    /// Let a worker that was told to drain accept runs again
    Undrain(Undrain),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  # It takes nothing new; its runs end there
  flowfleet fleet drain 0198f3c2-7a52-7c1e-9d2f-2f6c0a8f4b11

  # Runs that have not ended in 30 s go on elsewhere, from their next node boundary
  flowfleet fleet drain 0198f3c2-7a52-7c1e-9d2f-2f6c0a8f4b11 --handoff-s 30")]
struct Drain {
    /// Id of the worker, as `flowfleet fleet workers` shows it
    worker: String,
    /// After so many seconds its runs go to other workers, between two nodes
    #[arg(long, value_name = "SECONDS")]
    handoff_s: Option<f64>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet fleet undrain 0198f3c2-7a52-7c1e-9d2f-2f6c0a8f4b11")]
struct Undrain {
    /// Id of the worker, as `flowfleet fleet workers` shows it
    worker: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet fleet status
  flowfleet fleet status --json")]
struct Status {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet fleet workers
  flowfleet fleet workers --json")]
struct Workers {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let client = context.client()?;
    match args.action {
        Action::Status(args) => status(args.json, &client, context).await,
        Action::Workers(args) => workers(args.json, &client, context).await,
        Action::Drain(args) => {
            let body = args
                .handoff_s
                .map_or_else(|| json!({}), |s| json!({ "handoff_s": s }));
            let call = client.call(Method::POST, &["v1", "fleet", "workers", &args.worker, "drain"]);
            told(args.json, &call.json(&body).send().await?, context)
        }
        Action::Undrain(args) => {
            let call = client.call(Method::POST, &["v1", "fleet", "workers", &args.worker, "undrain"]);
            told(args.json, &call.send().await?, context)
        }
    }
}

fn told(as_json: bool, answer: &Value, context: &Context) -> Result {
    if as_json {
        context.term.json(answer)?;
        return Ok(());
    }
    let (worker, wished) = (text::of(&answer["id"]), text::of(&answer["wished"]));
    context.term.line(&format!(
        "{worker} was told: {wished}. `flowfleet fleet workers` shows when it is."
    ))?;
    Ok(())
}

async fn status(as_json: bool, client: &Client, context: &Context) -> Result {
    let fleet: Value = client.get(&["v1", "fleet"]).send().await?;
    if as_json {
        context.term.json(&fleet)?;
        return Ok(());
    }
    if fleet.get("presence_known").and_then(Value::as_bool) == Some(false) {
        context
            .term
            .note("the bus is away: which workers are there is not known");
    }
    let mut first = true;
    for (name, value) in fleet
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "presence_known")
    {
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                if !std::mem::take(&mut first) {
                    context.term.line("")?;
                }
                context.term.line(&rows(name, items, context))?;
            }
            Value::Array(items) if items.is_empty() => context.term.line(&format!("{name}: none"))?,
            other => {
                let name = context
                    .term
                    .paint(&format!("{:<12}", name.replace('_', " ")), Paint::Dim);
                context.term.line(&format!("{name} {}", flat(other)))?;
            }
        }
    }
    Ok(())
}

/// A list of equal objects as a table.
fn rows(name: &str, items: &[Value], context: &Context) -> String {
    let columns: Vec<String> = items
        .first()
        .and_then(Value::as_object)
        .map(|first| first.keys().cloned().collect())
        .unwrap_or_default();
    let header: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            if index == 0 {
                column.to_uppercase()
            } else {
                column.replace('_', " ").to_uppercase()
            }
        })
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = show::table(&context.term, &header);
    let now = Timestamp::now();
    for item in items {
        table.add_row(columns.iter().map(|column| {
            match item.get(column) {
                Some(Value::Number(number)) => show::number(number),
                Some(Value::String(text)) if column.ends_with("_at") => Cell::new(
                    text.parse::<Timestamp>()
                        .map_or_else(|_| text.clone(), |at| text::ago(at, now)),
                ),
                Some(Value::Null) | None => Cell::new("-"),
                Some(other) => Cell::new(flat(other)),
            }
        }));
    }
    format!(
        "{}\n{}",
        context.term.paint(name, Paint::Bold),
        show::lines(&table, "  ")
    )
}

fn flat(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let parts = fields.iter().map(|(key, value)| match value {
                Value::Object(_) => format!("{} ({})", key.replace('_', " "), flat(value)),
                other => format!("{} {}", flat(other), key.replace('_', " ")),
            });
            parts.collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(flat).collect::<Vec<_>>().join(", "),
        Value::Null => "-".to_owned(),
        other => text::of(other),
    }
}

async fn workers(as_json: bool, client: &Client, context: &Context) -> Result {
    let answer: Value = client.get(&["v1", "fleet", "workers"]).send().await?;
    if as_json {
        context.term.json(&answer)?;
        return Ok(());
    }
    let items = answer
        .get("items")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if items.is_empty() {
        context
            .term
            .note("no worker is there: start `flowfleet-worker`, or `flowfleet up`");
        return Ok(());
    }
    let now = Timestamp::now();
    let ago = |at: Option<Timestamp>| Cell::new(show::or_dash(at.map(|at| text::ago(at, now))));
    let header = [
        "WORKER",
        "HOST",
        "STATE",
        "SLOTS",
        "LIFECYCLE",
        "QUEUES",
        "CAN",
        "VERSION",
        "STARTED",
        "SEEN",
    ];
    let mut table = show::table(&context.term, &header);
    for item in items {
        let worker: Worker = serde_json::from_value(item)
            .map_err(|error| Failure::reach(format!("the server's answer is not understood: {error}")))?;
        table.add_row(vec![
            Cell::new(&worker.id),
            Cell::new(&worker.host),
            Cell::new(&worker.state),
            show::number(format!("{}/{}", worker.busy, worker.slots)),
            Cell::new(&worker.lifecycle),
            Cell::new(worker.queues.join(",")),
            Cell::new(worker.capabilities.join(",")),
            Cell::new(&worker.version),
            ago(worker.started_at),
            ago(worker.seen_at),
        ]);
    }
    context.term.line(&show::lines(&table, ""))?;
    Ok(())
}
