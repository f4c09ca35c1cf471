//! The demo's flows and its runs: most in one batch, some one by one, as users would.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::Voice;
use crate::client::{ApiError, Client, Flow};
use crate::commands::flows;
use crate::commands::submit::{Chunk, Tally, Watch, post};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::text;

/// The example flows of the repository.
const FLOWS: [(&str, &str); 3] = [
    (
        "hello-prompt",
        include_str!("../../../../../examples/flows/hello-prompt.json"),
    ),
    (
        "ask-model",
        include_str!("../../../../../examples/flows/ask-model.json"),
    ),
    (
        "route-and-ask",
        include_str!("../../../../../examples/flows/route-and-ask.json"),
    ),
];

const NAMES: [&str; 6] = ["Ada", "Grace", "Edsger", "Barbara", "Leslie", "Radia"];
const QUESTIONS: [&str; 6] = [
    "What is a spot instance?",
    "Why do queues need acknowledgements?",
    "What is a fencing token?",
    "When should a retry back off?",
    "What does exactly once really mean?",
    "How long should a lease be?",
];
const TICKETS: [&str; 6] = [
    "urgent: the shop is down",
    "How do I change my address?",
    "urgent: payments fail since noon",
    "Can I have an invoice for March?",
    "urgent: customers see old prices",
    "Thanks, the last update is great",
];

/// Single submissions in flight.
const CLIENTS: usize = 16;
/// Runs in one batch request.
const BATCH: u32 = 10_000;

/// What was submitted.
#[derive(Debug)]
pub(super) struct Load {
    /// The label all runs carry.
    pub batch: String,
    pub ids: Vec<String>,
    pub submit: Duration,
    /// From the first submission to the last end.
    pub all: Duration,
    pub tally: Tally,
}

pub(super) async fn push_flows(client: &Client, voice: Voice) -> Result<Vec<String>> {
    voice.title("Uploading the example flows")?;
    let mut names = Vec::new();
    for (name, document) in FLOWS {
        let parsed = name.parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let (_, answer) = flows::put(client, &parsed, document.as_bytes().to_vec()).await?;
        let flow: Flow = serde_json::from_value(answer)
            .map_err(|error| Failure::reach(format!("the server's answer is not understood: {error}")))?;
        let about = serde_json::from_str::<Value>(document).unwrap_or_default();
        let about = about
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let about = about
            .split(": ")
            .next()
            .and_then(|s| s.split(". ").next())
            .unwrap_or_default()
            .to_owned();
        let words = format!(
            "version {}, {}, {}",
            flow.version,
            text::plural(usize::try_from(flow.nodes).unwrap_or(0), "node"),
            text::preview(&about, 60)
        );
        voice.done(name, &words)?;
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The `n`th run: flows and inputs in turn, the same in every demo.
fn body(n: u32, flows: &[String]) -> Value {
    let index = n as usize;
    let flow = &flows[index % flows.len()];
    let turn = index / flows.len() % NAMES.len();
    let input = match flow.as_str() {
        "hello-prompt" => NAMES[turn],
        "ask-model" => QUESTIONS[turn],
        _ => TICKETS[turn],
    };
    json!({"flow": flow, "input": input})
}

pub(super) async fn submit(client: &Client, flows: &[String], runs: u32, voice: Voice) -> Result<Load> {
    let singles = (runs / 6).min(200);
    let batched = runs - singles;
    voice.title(&format!(
        "Submitting {} over HTTP",
        text::plural(runs as usize, "run")
    ))?;
    let batch = format!("demo-{}", uuid::Uuid::now_v7().simple());
    let run = |n: u32, chunk: &str| {
        let mut run = body(n, flows);
        run["labels"] = json!({"batch": batch, "batch_chunk": chunk});
        run["idempotency_key"] = format!("{batch}:{n}").into();
        run
    };

    let started = Instant::now();
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut first = 0;
    while first < batched {
        let name = chunks.len().to_string();
        let last = batched.min(first + BATCH);
        let lines: String = (first..last).map(|n| format!("{}\n", run(n, &name))).collect();
        let posted = post(client, lines.into()).await?;
        chunks.push(Chunk {
            name,
            ids: posted.ids,
            existing: posted.existing,
        });
        first = last;
    }
    let requests = text::plural(chunks.len(), "request");
    voice.done("in a batch", &rate_words(batched, started.elapsed(), &requests))?;

    // The rest goes in one by one while those run.
    let mut progress = Progress::new(
        voice.term,
        "finished",
        u64::from(runs),
        Duration::from_secs(1),
        "  ",
    )
    .since(started);
    let began = Instant::now();
    let one_by_one = async {
        let ids: Vec<String> = stream::iter(batched..runs)
            .map(|n| one(client, run(n, "singles")))
            .buffer_unordered(CLIENTS)
            .try_collect()
            .await?;
        Ok::<_, ApiError>((ids, began.elapsed(), started.elapsed()))
    };
    let mut watch = Watch::new(client.clone(), batch.clone(), &chunks);
    let batches = finished(&mut watch, Tally::default(), started, &mut progress);
    let ((ids, single_time, submit), tally) = futures::try_join!(one_by_one, batches)?;
    let last = Chunk {
        name: "singles".to_owned(),
        ids,
        existing: 0,
    };
    let mut watch = Watch::new(client.clone(), batch.clone(), std::slice::from_ref(&last));
    let tally = finished(&mut watch, tally, started, &mut progress).await?;
    chunks.push(last);
    let all = started.elapsed();
    progress.finish(tally.finished(), "");
    if singles > 0 {
        let requests = format!(
            "{}, {CLIENTS} at a time",
            text::plural(singles as usize, "request")
        );
        voice.done("one by one", &rate_words(singles, single_time, &requests))?;
    }
    voice.done(
        "finished",
        &format!("{} in {}", tally.words(), text::seconds(all.as_secs_f64())),
    )?;
    Ok(Load {
        batch,
        ids: chunks.into_iter().flat_map(|chunk| chunk.ids).collect(),
        submit,
        all,
        tally,
    })
}

/// Watches runs to their end, on top of those that have ended `before`.
async fn finished(
    watch: &mut Watch,
    before: Tally,
    started: Instant,
    progress: &mut Progress,
) -> std::result::Result<Tally, ApiError> {
    loop {
        let asked = Instant::now();
        let tally = before.plus(watch.poll().await?);
        let rate = text::rate(tally.finished(), started.elapsed().as_secs_f64());
        progress.update(tally.finished(), &tally.bar_words(&rate));
        if watch.is_done() {
            return Ok(tally);
        }
        tokio::time::sleep((asked.elapsed() * 2).clamp(Duration::from_millis(40), Duration::from_secs(2)))
            .await;
    }
}

fn rate_words(runs: u32, elapsed: Duration, requests: &str) -> String {
    let seconds = elapsed.as_secs_f64();
    let runs_word = text::plural(runs as usize, "run");
    format!(
        "{runs_word} in {requests}: {}, {}",
        text::seconds(seconds),
        text::rate(u64::from(runs), seconds)
    )
}

async fn one(client: &Client, mut run: Value) -> std::result::Result<String, ApiError> {
    let key = run["idempotency_key"].as_str().unwrap_or_default().to_owned();
    if let Some(run) = run.as_object_mut() {
        run.remove("idempotency_key");
    }
    let call = client
        .call(Method::POST, &["v1", "runs"])
        .json(&run)
        .idempotency_key(key)
        .tries(4);
    let answer: Value = call.send().await?;
    Ok(answer["id"].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_even_and_repeatable() {
        let flows: Vec<String> = FLOWS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let bodies: Vec<Value> = (0..18).map(|n| body(n, &flows)).collect();
        for flow in &flows {
            assert_eq!(
                bodies.iter().filter(|body| body["flow"] == flow.as_str()).count(),
                6
            );
        }
        let distinct: std::collections::BTreeSet<String> = bodies.iter().map(ToString::to_string).collect();
        assert_eq!(distinct.len(), 18);
        assert_eq!(body(5, &flows), body(5, &flows));
    }

    #[test]
    fn the_example_flows_run_natively() {
        for (name, document) in FLOWS {
            let limits = flowfleet_engine::CompileLimits::default();
            let plan = flowfleet_engine::compile(document.as_bytes(), &limits).unwrap();
            assert_eq!(plan.engine(), flowfleet_engine::EngineKind::Native, "{name}");
            assert!(plan.warnings().is_empty(), "{name}: {:?}", plan.warnings());
        }
    }
}
