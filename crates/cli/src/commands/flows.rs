//! `flowfleet flows`: store, list, show and remove flows.

use std::path::Path;

use clap::{Args as ClapArgs, Subcommand};
use comfy_table::Cell;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use flowfleet_core::{FlowName, FlowRef};

use super::Context;
use crate::client::{Client, Flow, Page};
use crate::failure::{Failure, Result};
use crate::term::Paint;
use crate::{show, text};

const EXAMPLES: &str = "\
Examples:
  flowfleet flows push support.json
  flowfleet flows list
  flowfleet flows show support@2
  flowfleet flows rm support";

/// Options of `flows`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Store Langflow exports; a file's name without .json names the flow
    Push(Push),
    /// The newest version of each flow
    List(List),
    /// One flow, or a version of it
    Show(Show),
    /// Remove a flow; runs that need it still end
    Rm(Rm),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet flows push support.json
  flowfleet flows push exports/*.json
  flowfleet flows push 'Customer Support (3).json' --name support
  curl -s https://example.com/flow.json | flowfleet flows push - --name support")]
struct Push {
    /// Langflow exports; - reads stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The flow's name, when one file is given
    #[arg(long)]
    name: Option<FlowName>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet flows list
  flowfleet flows list --json | jq -r '.items[].name'")]
struct List {
    /// How many at most
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet flows show support
  flowfleet flows show support@2 --json
  flowfleet flows show support --document > support.json")]
struct Show {
    /// name or name@version
    flow: FlowRef,
    /// The flow's document as it was stored
    #[arg(long)]
    document: bool,
    /// As JSON
    #[arg(long, conflicts_with = "document")]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  flowfleet flows rm support
  flowfleet flows rm old-1 old-2")]
struct Rm {
    /// Names
    #[arg(required = true, value_name = "FLOW")]
    flows: Vec<FlowName>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let client = context.client()?;
    match args.action {
        Action::Push(args) => push(&args, &client, context).await,
        Action::List(args) => list(&args, &client, context).await,
        Action::Show(args) => show_flow(&args, &client, context).await,
        Action::Rm(args) => rm(&args, &client, context).await,
    }
}

async fn push(args: &Push, client: &Client, context: &Context) -> Result {
    if args.name.is_some() && args.files.len() > 1 {
        return Err(Failure::usage(
            "--name names one flow, but several files are given",
        ));
    }
    let mut stored = Vec::new();
    for file in &args.files {
        let name = match &args.name {
            Some(name) => name.clone(),
            None => name_of(file)?,
        };
        let document = super::read_file(file).await?;
        let answer = put(client, &name, document).await.map_err(|failure| {
            let message = format!("{file}: {}", failure.message);
            Failure { message, ..failure }
        })?;
        if !args.json {
            let (created, answer) = &answer;
            context.term.line(&describe(answer, *created, context)?)?;
        }
        stored.push(answer.1);
    }
    if args.json {
        context
            .term
            .json(&json!({"items": stored, "next_cursor": null}))?;
    }
    Ok(())
}

/// Stores a flow; says whether a version was made, and what the server answered.
pub(crate) async fn put(client: &Client, name: &FlowName, document: Vec<u8>) -> Result<(bool, Value)> {
    let call = client.call(Method::PUT, &["v1", "flows", name.as_str()]);
    let (status, answer) = call
        .body(document.into(), "application/json")
        .tries(3)
        .send_with_status::<Value>()
        .await?;
    Ok((status.as_u16() == 201, answer))
}

/// One stored flow on one line, and its warnings.
pub(crate) fn describe(answer: &Value, created: bool, context: &Context) -> Result<String> {
    let flow: Flow = parse(answer)?;
    let mark = context.term.paint("✓", Paint::Good);
    let what = if created { "stored" } else { "unchanged" };
    let nodes = text::plural(usize::try_from(flow.nodes).unwrap_or(usize::MAX), "node");
    let mut line = format!(
        "{mark} {:<24} {what}, {nodes}, {}",
        format!("{}@{}", flow.name, flow.version),
        flow.engine
    );
    for node in &flow.unsupported {
        line.push_str(&format!(
            "\n  {} {node}",
            context.term.paint("needs python:", Paint::Warn)
        ));
    }
    for warning in &flow.warnings {
        let warning = warning.get("detail").unwrap_or(warning);
        line.push_str(&format!(
            "\n  {} {}",
            context.term.paint("warning:", Paint::Warn),
            text::of(warning)
        ));
    }
    Ok(line)
}

/// The name in a file's name.
fn name_of(file: &str) -> Result<FlowName> {
    let refused = |why: String| Failure::usage(why).advise("give the flow a name with --name");
    if file == "-" {
        return Err(refused("a flow from stdin needs a name".to_owned()));
    }
    let stem = Path::new(file)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    stem.parse().map_err(|_| {
        refused(format!(
            "the file name {stem:?} is not a flow name (a-z, A-Z, 0-9, '-', '_' and '.')"
        ))
    })
}

async fn list(args: &List, client: &Client, context: &Context) -> Result {
    let page = client.list(&["v1", "flows"], &[], args.limit).await?;
    if args.json {
        context.term.json(&json!(page))?;
        return Ok(());
    }
    let Page { items, .. } = page;
    if items.is_empty() {
        context
            .term
            .note("no flows yet: `flowfleet flows push FILE` stores one");
        return Ok(());
    }
    let now = Timestamp::now();
    let mut table = show::table(
        &context.term,
        &["FLOW", "VERSION", "NODES", "ENGINE", "STORED", "DIGEST"],
    );
    for item in &items {
        let flow: Flow = parse(item)?;
        table.add_row(vec![
            Cell::new(&flow.name),
            show::number(flow.version),
            show::number(flow.nodes),
            Cell::new(&flow.engine),
            Cell::new(show::or_dash(flow.created_at.map(|at| text::ago(at, now)))),
            Cell::new(flow.digest.get(..12).unwrap_or(&flow.digest)),
        ]);
    }
    context.term.line(&show::lines(&table, ""))?;
    Ok(())
}

async fn show_flow(args: &Show, client: &Client, context: &Context) -> Result {
    let name = args.flow.name.as_str();
    let mut record: Value = match args.flow.version {
        None => client.get(&["v1", "flows", name]).send().await?,
        Some(version) => {
            client
                .get(&["v1", "flows", name, "versions", &version.to_string()])
                .send()
                .await?
        }
    };
    if args.document {
        if record.get("document").is_none() {
            let version = parse(&record)?.version.to_string();
            record = client
                .get(&["v1", "flows", name, "versions", &version])
                .send()
                .await?;
        }
        let document = record
            .get("document")
            .ok_or_else(|| Failure::reach("the server sent no document"))?;
        context.term.line(&format!("{document:#}"))?;
        return Ok(());
    }
    if args.json {
        context.term.json(&record)?;
        return Ok(());
    }
    let flow = parse(&record)?;
    let term = &context.term;
    let row = |name: &str, value: String| -> Result {
        term.line(&format!(
            "{} {value}",
            term.paint(&format!("{name:<9}"), Paint::Dim)
        ))?;
        Ok(())
    };
    row("flow", format!("{}@{}", flow.name, flow.version))?;
    row("nodes", flow.nodes.to_string())?;
    row("engine", flow.engine)?;
    row("digest", flow.digest)?;
    row(
        "stored",
        flow.created_at.map(|at| at.to_string()).unwrap_or_default(),
    )?;
    Ok(())
}

async fn rm(args: &Rm, client: &Client, context: &Context) -> Result {
    for flow in &args.flows {
        client
            .call(Method::DELETE, &["v1", "flows", flow.as_str()])
            .send::<Value>()
            .await?;
        context.term.line(&format!("{flow} removed"))?;
    }
    Ok(())
}

fn parse(value: &Value) -> Result<Flow> {
    serde_json::from_value(value.clone())
        .map_err(|error| Failure::reach(format!("the server's answer is not understood: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        assert_eq!(name_of("a/b/hello-prompt.json").unwrap().as_str(), "hello-prompt");
        assert!(
            name_of("Basic Prompting.json")
                .unwrap_err()
                .advice
                .unwrap()
                .contains("--name")
        );
        assert!(name_of("-").is_err());
    }
}
