//! A thousand event streams on running runs: memory and CPU of the dispatcher, and how late events arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cost::Bed;
use crate::Bench;
use crate::fleet::Setup;
use crate::parts::engine::{Answers, Model};
use crate::report::{Cell, Column, Part, Table, Unit, quantile};

const LISTENERS_A_RUN: usize = 10;
const TOKENS_PER_SECOND: u32 = 2;
/// So many words are so many tokens: with the rate, how long a run lasts.
const WORDS: usize = 40;

const ASK: &str = include_str!("../../../../examples/flows/ask-model.json");

pub(super) async fn measure(bench: &Bench, part: &mut Part) -> anyhow::Result<()> {
    let runs = if bench.options.quick { 20 } else { 100 };
    let listeners = runs * LISTENERS_A_RUN;
    let model = Model::start(bench, &Answers::Slowly(TOKENS_PER_SECOND)).await?;
    let setup = Setup {
        purpose: "listeners",
        workers: 1,
        slots: bench.options.slots,
        env: model.env(),
    };
    let bed = Bed::start_with(bench, setup).await?;
    bed.fleet
        .put_flow("ask-model", &serde_json::from_str(ASK)?)
        .await?;
    let ids = submit(&bed, runs).await?;
    let before = bed.fleet.dispatcher.usage()?;
    let opened = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut streams = tokio::task::JoinSet::new();
    for id in ids.iter().flat_map(|id| std::iter::repeat_n(id, LISTENERS_A_RUN)) {
        let url = format!("{}/v1/runs/{id}/events", bed.fleet.dispatcher.url);
        streams.spawn(listen(bed.fleet.client.clone(), url, Arc::clone(&opened)));
    }
    while opened.load(Ordering::Relaxed) < listeners {
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "not all event streams open within 60 s"
        );
        if let Some(Ok(Err(error))) = streams.try_join_next() {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let open_s = began.elapsed().as_secs_f64();
    let (full, streaming) = (bed.fleet.dispatcher.usage()?, Instant::now());
    let (mut delays, mut events) = (Vec::new(), 0);
    while let Some(ended) = streams.join_next().await {
        let heard = ended??;
        delays.extend(heard.delays_ms);
        events += heard.events;
    }
    let seconds = streaming.elapsed().as_secs_f64();
    let used = bed.fleet.dispatcher.usage()?.cpu_s - full.cpu_s;
    let mut table = Table::new(
        format!("{listeners} event streams on {runs} runs"),
        vec![
            Column::new("opened in", Unit::Seconds),
            Column::new("dispatcher before", Unit::MiB),
            Column::new("dispatcher", Unit::MiB),
            Column::new("of a core", Unit::Percent),
            Column::new("delivered", Unit::PerSecond),
            Column::new("delay p50", Unit::Millis),
            Column::new("delay p95", Unit::Millis),
        ],
    );
    let mib = |bytes: u64| Cell::from(bytes as f64 / f64::from(1 << 20));
    let cells = vec![
        Cell::from(open_s),
        mib(before.memory_bytes),
        mib(full.memory_bytes.max(bed.fleet.dispatcher.usage()?.memory_bytes)),
        Cell::from(used * 100.0 / seconds),
        Cell::from(events as f64 / seconds),
        quantile(&delays, 0.5).into(),
        quantile(&delays, 0.95).into(),
    ];
    table.row("server-sent events", cells);
    part.tables.push(table);
    part.notes.push(
        "Event streams: the delay is from the time an event carries to its arrival, of events that happened after the \
         stream was open; the client shares the machine."
            .to_owned(),
    );
    bed.stop().await?;
    model.stop().await
}

async fn submit(bed: &Bed, runs: usize) -> anyhow::Result<Vec<String>> {
    let words = vec!["word"; WORDS].join(" ");
    let runs: Vec<Value> = (0..runs)
        .map(|number| json!({"flow": "ask-model", "input": format!("{number} {words}")}))
        .collect();
    let url = format!("{}/v1/runs/batch", bed.fleet.dispatcher.url);
    let answer = bed.fleet.client.post(url).json(&runs).send().await?;
    let body: Value = answer.error_for_status()?.json().await?;
    let ids = body["ids"].as_array().context("ids")?;
    Ok(ids
        .iter()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect())
}

#[derive(Default)]
struct Heard {
    events: usize,
    delays_ms: Vec<f64>,
}

/// Reads one stream to its end, which must be that of the run.
async fn listen(client: reqwest::Client, url: String, opened: Arc<AtomicUsize>) -> anyhow::Result<Heard> {
    let answer = client.get(&url).send().await?.error_for_status()?;
    ensure!(answer.status() == 200, "the run ended before its stream was open");
    opened.fetch_add(1, Ordering::Relaxed);
    let since = Timestamp::now();
    let mut heard = Heard::default();
    let mut rest = String::new();
    let mut chunks = answer.bytes_stream();
    let mut last = String::new();
    while let Some(chunk) = chunks.next().await {
        rest.push_str(std::str::from_utf8(&chunk?)?);
        let now = Timestamp::now();
        while let Some(end) = rest.find("\n\n") {
            let message: String = rest.drain(..end + 2).collect();
            let Some(data) = message.lines().find_map(|line| line.strip_prefix("data:")) else {
                continue;
            };
            let event: Value = serde_json::from_str(data.trim())?;
            heard.events += 1;
            event["event"].as_str().unwrap_or_default().clone_into(&mut last);
            // Tokens carry no time.
            let Some(at) = event["at"].as_str() else { continue };
            let at: Timestamp = at.parse()?;
            if at > since {
                heard.delays_ms.push(now.duration_since(at).as_secs_f64() * 1e3);
            }
        }
    }
    ensure!(last == "run.succeeded", "a stream ended with {last:?}");
    Ok(heard)
}
