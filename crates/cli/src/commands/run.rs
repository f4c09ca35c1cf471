//! `flowfleet run`: one flow in this process, without a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use flowfleet_core::RunId;
use flowfleet_engine::{
    CompileLimits, EngineKind, InMemory, InputType, Memory, NodeInfo, OutputType, Plan, Progress, Request,
    RunError, Services, Value as NodeValue,
};
use flowfleet_python::{Host, Work};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Context, read_file, read_json};
use crate::failure::{Code, Failure, Result};
use crate::local_files::LocalFiles;
use crate::term::{Paint, Term};
use crate::text::{self, parse_pair};

const EXAMPLES: &str = "\
Examples:
  flowfleet run hello-prompt.json --input 'Ada'
  flowfleet run ask.json --input 'What is a lease?' --var OPENAI_API_KEY=sk-...
  echo 'What is a lease?' | flowfleet run ask.json --input -
  flowfleet run ask.json --input hi --tweaks '{\"LanguageModelComponent-1\": {\"temperature\": 0}}' --session s1
  flowfleet run ask.json --input hi --json | jq .usage
  flowfleet python install && flowfleet run --python own-components.json --input hi

Files that nodes name are looked for in the flow's folder.
Models are found as Langflow finds them: OPENAI_API_KEY and OPENAI_BASE_URL in the environment, or --var. Without one,
`flowfleet mock-model` stands in. Nodes and streamed text go to stderr, the output to stdout.";

/// Options of `run`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A Langflow export; - reads stdin
    #[arg(value_name = "FLOW.json")]
    flow: String,
    /// The input, as text; - reads stdin
    #[arg(long, short, value_name = "TEXT")]
    input: Option<String>,
    /// Values for fields of components: JSON, or @FILE
    #[arg(long, value_name = "JSON")]
    tweaks: Option<String>,
    /// A variable or credential; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = parse_pair)]
    variables: Vec<(String, String)>,
    /// The chat session it belongs to
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Which inputs take --input: chat, text or any
    #[arg(long, default_value = "chat", value_parser = parse_word::<InputType>)]
    input_type: InputType,
    /// Which outputs are shown: chat, text, any or debug (every node)
    #[arg(long, default_value = "chat", value_parser = parse_word::<OutputType>)]
    output_type: OutputType,
    /// Run it in Python if it has components that the native engine does not know
    #[arg(long)]
    python: bool,
    /// Stop after this long
    #[arg(long, value_name = "TIME", value_parser = text::parse_duration, default_value = "1h")]
    timeout: Duration,
    /// No nodes and no streamed text
    #[arg(long, short)]
    quiet: bool,
    /// The whole outcome as JSON
    #[arg(long)]
    json: bool,
}

/// A lower-case word of an enum, as the API spells it.
fn parse_word<T: serde::de::DeserializeOwned>(word: &str) -> std::result::Result<T, String> {
    serde_json::from_value(word.into()).map_err(|_| format!("{word:?} is not known"))
}

pub(crate) async fn run(args: Args, context: &Context) -> Result {
    let term = context.term;
    let document = read_file(&args.flow).await?;
    let plan = Arc::new(compile(&args.flow, &document)?);
    let python = python(&args, &plan)?;
    for warning in plan.warnings() {
        term.note(&format!("{} {warning}", term.paint_err("warning:", Paint::Warn)));
    }
    let request = request(&args).await?;
    plan.check(&request)
        .map_err(|error| refused(&RunError::Request(error)))?;

    let (sender, receiver) = mpsc::unbounded_channel();
    let quiet = args.quiet;
    let on_progress = Arc::new(move |progress: Progress| {
        if !quiet {
            // The printer only goes away with the process.
            let _ = sender.send(progress);
        }
    });
    let printer = tokio::spawn(print(receiver, term));
    let cancel = CancellationToken::new();
    let started = Instant::now();
    let id = RunId::generate().to_string();
    let memory: Option<Arc<dyn Memory>> = plan
        .converses(args.session.is_some())
        .then(|| Arc::new(InMemory::default()) as Arc<dyn Memory>);
    let services = Services {
        memory,
        files: LocalFiles::beside(&args.flow),
        ..Services::from_env().map_err(|error| Failure::usage(error.to_string()))?
    };
    let outcome = {
        let work = Work {
            plan: &plan,
            document: &document,
            request: &request,
            run_id: &id,
            realm: "",
            services: &services,
        };
        let stop = cancel.clone();
        let execution = async {
            match &python {
                Some(host) => host.execute(work, on_progress, stop).await,
                None => {
                    let nothing = BTreeMap::new();
                    flowfleet_engine::execute(&plan, &request, nothing, &id, &services, on_progress, stop)
                        .await
                }
            }
        };
        tokio::pin!(execution);
        let mut stopped = None;
        loop {
            tokio::select! {
                outcome = &mut execution => break stopped.map_or(outcome, Err),
                () = tokio::time::sleep_until((started + args.timeout).into()), if stopped.is_none() => {
                    stopped = Some(RunError::Cancelled);
                    term.note(&format!("stopped after {}", text::seconds(args.timeout.as_secs_f64())));
                    cancel.cancel();
                }
                _ = tokio::signal::ctrl_c(), if stopped.is_none() => {
                    stopped = Some(RunError::Cancelled);
                    cancel.cancel();
                }
            }
        }
    };
    // All progress has been sent: the execution held the sender. Let its lines come before ours.
    if !printer.is_finished() {
        let _ = tokio::time::timeout(Duration::from_secs(5), printer).await;
    }
    let outcome = outcome.map_err(|error| refused(&error))?;
    if args.json {
        term.json(&serde_json::to_value(&outcome).unwrap_or_default())?;
        return Ok(());
    }
    term.line(&text::of(&outcome.output))?;
    if !args.quiet {
        let tokens = match (outcome.usage.input_tokens, outcome.usage.output_tokens) {
            (0, 0) => String::new(),
            (input, output) => format!(", {input} tokens in, {output} out"),
        };
        let nodes = text::plural(outcome.nodes_run as usize, "node");
        let took = text::seconds(started.elapsed().as_secs_f64());
        term.note(&format!(
            "{} {nodes} in {took}{tokens}",
            term.paint_err("✓", Paint::Good)
        ));
    }
    Ok(())
}

/// The plan of a document, or everything that is wrong with it.
fn compile(file: &str, document: &[u8]) -> Result<Plan> {
    let plan = flowfleet_engine::compile(document, &CompileLimits::default()).map_err(|error| {
        let failure = Failure::usage(format!("{file} is not a flow that can run"));
        error.problems.iter().take(20).fold(failure, |failure, problem| {
            let node = problem
                .node
                .as_deref()
                .map(|node| format!("{node}: "))
                .unwrap_or_default();
            failure.detail(format!("{node}{} (at {})", problem.detail, problem.pointer))
        })
    })?;
    Ok(plan)
}

/// The Python host, if the flow needs it and may have it.
fn python(args: &Args, plan: &Plan) -> Result<Option<Host>> {
    if plan.engine() == EngineKind::Native {
        return Ok(None);
    }
    let settings = super::python::settings(args.python)?;
    if settings.enabled {
        super::python::start(&settings).map(Some)
    } else {
        Err(refused(&RunError::Unsupported(plan.unsupported().to_vec())))
    }
}

async fn request(args: &Args) -> Result<Request> {
    let input = match args.input.as_deref() {
        None => Value::Null,
        Some("-") if args.flow == "-" => return Err(Failure::usage("stdin is either the flow or the input")),
        Some("-") => {
            let text = String::from_utf8(read_file("-").await?)
                .map_err(|_| Failure::usage("the input on stdin is not UTF-8 text"))?;
            text.trim_end_matches('\n').into()
        }
        Some(text) => text.into(),
    };
    let tweaks = match &args.tweaks {
        Some(tweaks) => read_json("--tweaks", tweaks).await?,
        None => Value::Null,
    };
    Ok(Request {
        input,
        tweaks,
        input_type: args.input_type,
        output_type: args.output_type,
        session_id: args.session.clone(),
        variables: args.variables.iter().cloned().collect(),
        ..Request::default()
    })
}

/// A run that ended badly, with what to do.
fn refused(error: &RunError) -> Failure {
    match error {
        RunError::Unsupported(nodes) => nodes.iter().take(20).fold(
            Failure::usage("this flow needs the Python engine")
                .advise("`flowfleet python install` once, then --python"),
            |failure, node| failure.detail(format!("{} ({}): {}", node.display_name, node.node, node.reason)),
        ),
        RunError::Request(error) => {
            let failure = Failure::usage("the flow does not accept this request");
            let failure = error.problems.iter().take(20).fold(failure, |failure, problem| {
                let node = problem
                    .node
                    .as_deref()
                    .map(|node| format!("{node}: "))
                    .unwrap_or_default();
                failure.detail(format!("{node}{}", problem.detail))
            });
            if error.code == "VARIABLE_MISSING" {
                failure.advise("--var NAME=VALUE, or set it in the environment")
            } else {
                failure
            }
        }
        RunError::Cancelled => Failure {
            code: Code::RunFailed,
            ..Failure::run("stopped before its end")
        },
        error => Failure::run(format!("{error} [{}]", error.code())),
    }
}

/// Writes nodes and streamed text as they come.
async fn print(mut receiver: mpsc::UnboundedReceiver<Progress>, term: Term) {
    let mut streaming: Option<Arc<NodeInfo>> = None;
    while let Some(progress) = receiver.recv().await {
        if let Progress::Token { node, text } = progress {
            if streaming.as_ref() != Some(&node) {
                let line_end = if streaming.is_some() { "\n" } else { "" };
                term.note_raw(&format!(
                    "{line_end}  {} {} » ",
                    term.paint_err("…", Paint::Dim),
                    node.id
                ));
                streaming = Some(node);
            }
            term.note_raw(&term.paint_err(&text.replace(['\r', '\n'], " "), Paint::Accent));
            continue;
        }
        if streaming.take().is_some() {
            term.note("");
        }
        match progress {
            Progress::NodeFinished {
                node,
                output,
                elapsed,
                ..
            } => {
                let name = format!("{} ({})", node.display_name, node.id);
                let took = text::seconds(elapsed.as_secs_f64());
                let shown = output
                    .values
                    .values()
                    .map(preview)
                    .find(|text| !text.is_empty())
                    .unwrap_or_default();
                let mark = term.paint_err("✓", Paint::Good);
                term.note(&format!(
                    "  {mark} {name:<44} {took:>8}  {}",
                    term.paint_err(&shown, Paint::Dim)
                ));
            }
            Progress::NodeFailed { node, error } => {
                let mark = term.paint_err("✗", Paint::Error);
                term.note(&format!(
                    "  {mark} {} ({})  {}",
                    node.display_name, node.id, error.message
                ));
            }
            Progress::NodeSkipped { node } => {
                let line = format!(
                    "  - {} ({})  skipped: not on the branch taken",
                    node.display_name, node.id
                );
                term.note(&term.paint_err(&line, Paint::Dim));
            }
            Progress::NodeStarted { .. } | Progress::Token { .. } => {}
        }
    }
}

fn preview(value: &NodeValue) -> String {
    let text = match value {
        NodeValue::Message(message) => message.text.clone(),
        NodeValue::Data(fields) => Value::Object(fields.clone()).to_string(),
        NodeValue::Table(rows) => text::plural(rows.len(), "row"),
        NodeValue::Json(value) => text::of(value),
    };
    text::preview(&text, 60)
}
