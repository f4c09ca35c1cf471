//! Many runs: posted in chunks that may be repeated, counted as they finish.

use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Args;
use super::lines::{Line, Lines};
use super::watch::{Tally, Watch};
use crate::client::{ApiError, Client};
use crate::commands::Context;
use crate::failure::{Code, Failure, Result};
use crate::progress::Progress;
use crate::term::Paint;
use crate::text;

/// Runs in one request, the server's limit.
const CHUNK_RUNS: usize = 10_000;
/// Bytes in one request, below the server's limit.
const CHUNK_BYTES: usize = 32 << 20;
/// Runs read at once when results are written.
const READERS: usize = 16;

/// One posted chunk.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// The value of its label `batch_chunk`.
    pub name: String,
    pub ids: Vec<String>,
    /// How many of them were there before.
    pub existing: u64,
}

pub(super) async fn run(file: &str, args: &Args, client: &Client, context: &Context) -> Result {
    let defaults = defaults(args).await?;
    let key = args.options.idempotency_key.clone();
    let key = key.unwrap_or_else(|| format!("b{}", uuid::Uuid::now_v7().simple()));
    // A file is read twice: a mistake in its last line is found before its first is submitted.
    let total = if file == "-" {
        0
    } else {
        tokio::task::block_in_place(|| count(file, &defaults))?
    };
    if total == 0 && file != "-" {
        return Err(Failure::usage(format!("{file} has no runs")));
    }

    // Later the server is waited for; at first its absence is an answer.
    client
        .get(&["v1", "flows"])
        .query("limit", "1")
        .send::<Value>()
        .await?;

    let started = Instant::now();
    let log = Duration::from_secs(5);
    let mut progress = Progress::new(context.term, "submitted", total, log, "");
    let mut lines = Lines::open(file)?;
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut submitted = 0;
    loop {
        let name = chunks.len().to_string();
        let (body, numbers) = tokio::task::block_in_place(|| next_chunk(&mut lines, &defaults, &key, &name))?;
        if numbers.is_empty() {
            break;
        }
        let posted = post(client, body)
            .await
            .map_err(|error| refused(error, &numbers, submitted, &key))?;
        submitted += posted.ids.len() as u64;
        chunks.push(Chunk {
            name,
            ids: posted.ids,
            existing: posted.existing,
        });
        progress.update(submitted, &text::rate(submitted, started.elapsed().as_secs_f64()));
    }
    let submitting = started.elapsed().as_secs_f64();
    progress.finish(submitted, "");
    if submitted == 0 {
        return Err(Failure::usage(format!("{file} has no runs")));
    }
    let mut summary = json!({"batch": key, "submitted": submitted, "submit_s": submitting});
    context.term.note(&format!(
        "{} {} submitted in {} ({}), batch {key}",
        context.term.paint_err("✓", Paint::Good),
        text::plural(usize::try_from(submitted).unwrap_or(usize::MAX), "run"),
        text::seconds(submitting),
        text::rate(submitted, submitting),
    ));
    if !args.then.wait {
        if args.then.json {
            summary["ids"] = chunks
                .iter()
                .flat_map(|chunk| &chunk.ids)
                .cloned()
                .collect::<Vec<_>>()
                .into();
            context.term.json(&summary)?;
        } else {
            for id in chunks.iter().flat_map(|chunk| &chunk.ids) {
                context.term.line(id)?;
            }
            context
                .term
                .note(&format!("look at them: flowfleet runs list --label batch={key}"));
        }
        return Ok(());
    }
    let tally = wait(client, &key, &chunks, args.then.wait_timeout, context).await?;
    let finishing = started.elapsed().as_secs_f64();
    if let Some(path) = &args.then.results {
        write_results(client, &chunks, path, context).await?;
    }
    summary["finished_s"] = finishing.into();
    summary["finished"] = tally.to_json();
    if args.then.json {
        context.term.json(&summary)?;
    } else {
        let rate = text::rate(tally.finished(), finishing);
        context.term.line(&format!(
            "{} in {} ({rate})",
            tally.words(),
            text::seconds(finishing)
        ))?;
    }
    if tally.all_succeeded() {
        return Ok(());
    }
    context.term.note(&format!(
        "look at them: flowfleet runs list --state failed --label batch={key}"
    ));
    Err(Failure::said(Code::RunFailed))
}

/// What every line is given unless it says otherwise.
async fn defaults(args: &Args) -> Result<Map<String, Value>> {
    let mut defaults = args.options.to_fields().await?;
    if let Some(flow) = &args.flow {
        defaults.insert("flow".to_owned(), flow.to_string().into());
    }
    Ok(defaults)
}

/// Reads the whole file once; answers how many runs it has.
fn count(file: &str, defaults: &Map<String, Value>) -> Result<u64> {
    let mut lines = Lines::open(file)?;
    let mut count = 0;
    while let Some(line) = lines.next()? {
        if !defaults.contains_key("flow") && !line.run.contains_key("flow") {
            return Err(Failure::usage(format!("{file}, line {}: no flow", line.number))
                .advise("name one for all lines: flowfleet submit FLOW --batch FILE"));
        }
        count += 1;
    }
    Ok(count)
}

/// The body of the next request, and the line numbers in it.
fn next_chunk(
    lines: &mut Lines,
    defaults: &Map<String, Value>,
    key: &str,
    chunk: &str,
) -> Result<(Bytes, Vec<u64>)> {
    let (mut body, mut numbers) = (Vec::new(), Vec::new());
    while numbers.len() < CHUNK_RUNS && body.len() < CHUNK_BYTES {
        let Some(line) = lines.next()? else { break };
        numbers.push(line.number);
        let run = complete(line, defaults, key, chunk);
        // Writing JSON to memory cannot fail.
        let _ = serde_json::to_writer(&mut body, &run);
        body.push(b'\n');
    }
    Ok((body.into(), numbers))
}

/// A line with the defaults under it, its labels and its idempotency key.
fn complete(line: Line, defaults: &Map<String, Value>, key: &str, chunk: &str) -> Map<String, Value> {
    let Line { number, mut run } = line;
    for (name, value) in defaults {
        match (run.get_mut(name), value) {
            // Labels and variables add up; everything else of the line stands for itself.
            (Some(Value::Object(own)), Value::Object(shared)) if name != "tweaks" => {
                for (key, value) in shared {
                    own.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            (Some(_), _) => {}
            (None, value) => {
                run.insert(name.clone(), value.clone());
            }
        }
    }
    run.entry("idempotency_key")
        .or_insert_with(|| format!("{key}:{number}").into());
    let labels = run.entry("labels").or_insert_with(|| Map::new().into());
    if let Value::Object(labels) = labels {
        labels.insert("batch".to_owned(), key.into());
        labels.insert("batch_chunk".to_owned(), chunk.into());
    }
    run
}

/// The answer to a batch.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Posted {
    pub ids: Vec<String>,
    #[serde(default)]
    pub existing: u64,
}

/// Posts NDJSON whose lines carry idempotency keys: repeated until it is answered.
pub(crate) async fn post(client: &Client, body: Bytes) -> std::result::Result<Posted, ApiError> {
    let call = client
        .call(Method::POST, &["v1", "runs", "batch"])
        .body(body, "application/x-ndjson");
    call.repeatable()
        .tries(8)
        .patient()
        .timeout(Duration::from_secs(300))
        .send()
        .await
}

/// A refusal in the line numbers of the file, and how to go on.
fn refused(error: ApiError, numbers: &[u64], submitted: u64, key: &str) -> Failure {
    let error = match error {
        ApiError::Refused {
            status,
            code,
            detail,
            mut faults,
            retry_after,
        } => {
            for fault in &mut faults {
                let in_chunk = fault
                    .line
                    .and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
                fault.line = in_chunk
                    .and_then(|index| numbers.get(index).copied())
                    .or(fault.line);
            }
            ApiError::Refused {
                status,
                code,
                detail,
                faults,
                retry_after,
            }
        }
        other => other,
    };
    let mut failure = Failure::from(error);
    let first = numbers.first().copied().unwrap_or(1);
    failure.message = format!(
        "the part of the batch that begins with line {first} was not taken: {}",
        failure.message
    );
    if submitted > 0 {
        failure.advice = Some(format!(
            "{} before it are submitted; repeat the command with --idempotency-key {key} to add the rest only",
            text::plural(usize::try_from(submitted).unwrap_or(usize::MAX), "run")
        ));
    }
    failure
}

async fn wait(
    client: &Client,
    key: &str,
    chunks: &[Chunk],
    timeout: Option<Duration>,
    context: &Context,
) -> Result<Tally> {
    let mut watch = Watch::new(client.clone(), key.to_owned(), chunks);
    let mut progress = Progress::new(
        context.term,
        "finished",
        watch.total(),
        Duration::from_secs(5),
        "",
    );
    let started = Instant::now();
    loop {
        let asked = Instant::now();
        let tally = watch.poll().await?;
        let rate = text::rate(tally.finished(), started.elapsed().as_secs_f64());
        progress.update(tally.finished(), &tally.bar_words(&rate));
        if watch.is_done() {
            progress.finish(tally.finished(), "");
            return Ok(tally);
        }
        if timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
            drop(progress);
            return Err(Failure::reach(format!(
                "{} of {} have finished; the rest goes on without us",
                text::count(tally.finished()),
                text::count(watch.total())
            ))
            .advise(format!("flowfleet runs list --label batch={key}")));
        }
        // Asking costs the server something: ask less often where it takes longer.
        tokio::time::sleep((asked.elapsed() * 3).clamp(Duration::from_millis(250), Duration::from_secs(10)))
            .await;
    }
}

async fn write_results(
    client: &Client,
    chunks: &[Chunk],
    path: &std::path::Path,
    context: &Context,
) -> Result {
    let failed = |error: std::io::Error| Failure::usage(format!("cannot write {}: {error}", path.display()));
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    let ids: Vec<&String> = chunks.iter().flat_map(|chunk| &chunk.ids).collect();
    let mut progress = Progress::new(
        context.term,
        "results",
        ids.len() as u64,
        Duration::from_secs(5),
        "",
    );
    let mut runs = stream::iter(ids)
        .map(|id| async move { client.run(id, None).await })
        .buffered(READERS);
    let mut written = 0;
    while let Some(run) = runs.next().await {
        let run = run?;
        let pick = |name: &str| run.get(name).cloned().unwrap_or(Value::Null);
        let line = json!({"id": pick("id"), "state": pick("state"), "input": pick("input"), "output": pick("output"),
            "error": pick("error")});
        writeln!(file, "{line}").map_err(failed)?;
        written += 1;
        progress.update(written, "");
    }
    file.flush().map_err(failed)?;
    progress.finish(written, "");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else {
            panic!("an object")
        };
        object
    }

    #[test]
    fn lines_win_over_defaults() {
        let defaults =
            object(json!({"flow": "f", "queue": "q", "labels": {"a": "1", "b": "1"}, "tweaks": {"x": {}}}));
        let run = object(json!({"input": "i", "queue": "own", "labels": {"b": "2"}, "tweaks": {"y": {}}}));
        let run = complete(Line { number: 7, run }, &defaults, "K", "0");
        assert_eq!(
            Value::from(run),
            json!({"input": "i", "queue": "own", "labels": {"b": "2", "a": "1", "batch": "K", "batch_chunk": "0"},
                "tweaks": {"y": {}}, "flow": "f", "idempotency_key": "K:7"})
        );
    }

    #[test]
    fn refusals_speak_of_lines_of_the_file() {
        let fault = crate::client::Fault {
            pointer: None,
            node: None,
            line: Some(2),
            detail: "bad".to_owned(),
        };
        let error = ApiError::Refused {
            status: reqwest::StatusCode::UNPROCESSABLE_ENTITY,
            code: "invalid".to_owned(),
            detail: "no".to_owned(),
            faults: vec![fault],
            retry_after: None,
        };
        let failure = refused(error, &[10_001, 10_005], 10_000, "K");
        assert!(failure.message.ends_with("no: line 10005: bad"), "{failure:?}");
        assert!(failure.advice.unwrap().contains("--idempotency-key K"));
    }
}
