//! What came out of the demo, how long it took, and where to look next.

use comfy_table::Cell;
use reqwest::Method;
use serde_json::{Value, json};

use super::Voice;
use super::load::Load;
use crate::client::{Client, Run};
use crate::commands::{runs, up};
use crate::failure::{Failure, Result};
use crate::term::Paint;
use crate::{show, text};

/// Results shown.
const SHOWN: usize = 6;
/// Runs whose times are read: enough for quantiles.
const SAMPLED: usize = 10_000;

/// Shows results and timing; answers whether every run succeeded.
pub(super) async fn results(client: &Client, load: &Load, voice: Voice) -> Result<bool> {
    let term = voice.term;
    voice.title("Some results")?;
    let mut table = show::table(&term, &["FLOW", "INPUT", "OUTPUT", "TOOK"]);
    for id in load.ids.iter().take(SHOWN) {
        let run = runs::parse(&client.run(id, None).await?)?;
        let output = match &run.error {
            Some(error) => show::fault(error),
            None => text::of(&run.output),
        };
        table.add_row(vec![
            Cell::new(&run.flow),
            Cell::new(text::preview(&text::of(&run.input), 36)),
            Cell::new(text::preview(&output, 64)),
            show::number(show::or_dash(run.duration_s.map(text::seconds))),
        ]);
    }
    term.line(&show::lines(&table, "  "))?;

    let query = [("label", format!("batch:{}", load.batch))];
    let page = client.list(&["v1", "runs"], &query, SAMPLED).await?;
    let sample = page.items.iter().map(runs::parse).collect::<Result<Vec<Run>>>()?;
    voice.title("Timing")?;
    let total = load.ids.len() as u64;
    let (submit, all) = (load.submit.as_secs_f64(), load.all.as_secs_f64());
    let row = |name: &str, words: String| {
        voice.line(&format!(
            "{} {words}",
            term.paint(&format!("{name:<22}"), Paint::Dim)
        ))
    };
    row(
        "submitted",
        format!(
            "{} in {}, {}",
            text::plural(load.ids.len(), "run"),
            text::seconds(submit),
            text::rate(total, submit)
        ),
    )?;
    row(
        "submitted to finished",
        format!("{}, {}", text::seconds(all), text::rate(total, all)),
    )?;
    row(
        "waited for a slot",
        spread(sample.iter().filter_map(|run| run.wait_s)),
    )?;
    row("ran", spread(sample.iter().filter_map(|run| run.duration_s)))?;
    let tokens = |count: fn(&Run) -> u64| text::count(sample.iter().map(count).sum());
    let (input, output) = (
        tokens(|run| run.usage.input_tokens),
        tokens(|run| run.usage.output_tokens),
    );
    row("model tokens", format!("{input} in, {output} out"))?;

    if !load.tally.all_succeeded() {
        let failed = sample.iter().filter(|run| run.state != "succeeded");
        for run in failed.take(3) {
            let why = run.error.as_ref().map(show::fault).unwrap_or_default();
            voice.line(&format!(
                "{} {} {} {why}",
                term.paint("✗", Paint::Error),
                run.id,
                run.state
            ))?;
        }
    }
    Ok(load.tally.all_succeeded())
}

fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |q: f64| text::quantile(&values, q).map_or_else(|| "-".to_owned(), text::seconds);
    format!("p50 {}, p95 {}, longest {}", at(0.5), at(0.95), at(1.0))
}

/// One run, its events and streamed text as they come.
pub(super) async fn streamed(client: &Client, voice: Voice) -> Result {
    let term = voice.term;
    voice.title("One more, live")?;
    let input = "Why do fleets need leases?";
    voice.line(&term.paint(
        &format!("flowfleet submit ask-model --input '{input}' --follow"),
        Paint::Accent,
    ))?;
    let call = client
        .call(Method::POST, &["v1", "runs"])
        .json(&json!({"flow": "ask-model", "input": input}));
    let answer: Value = call
        .idempotency_key(uuid::Uuid::now_v7().to_string())
        .send()
        .await?;
    let id = answer.get("id").and_then(Value::as_str);
    let id = id.ok_or_else(|| Failure::reach("the server took the run but did not name it"))?;
    let mut events = client.events(id, None);
    let mut lines = show::EventLines::new(term, "  ");
    while let Some(event) = events.next().await? {
        lines.print(&event)?;
    }
    let run = runs::parse(&client.run(id, None).await?)?;
    voice.line(&text::preview(&text::of(&run.output), 100))
}

pub(super) fn next_steps(url: &str, exit: bool, voice: Voice) -> Result {
    let term = voice.term;
    let program = up::program();
    let server = up::server_flag(url);
    voice.title(if exit { "Next" } else { "It stays up: look around" })?;
    let row = |name: &str, words: &str| {
        voice.line(&format!(
            "{} {}",
            term.paint(&format!("{name:<22}"), Paint::Dim),
            term.paint(words, Paint::Accent)
        ))
    };
    if exit {
        row("the same, staying up", &format!("{program} demo"))?;
        row("a fleet of your own", &format!("{program} up"))?;
        return row(
            "your flow, no server",
            &format!("{program} run FLOW.json --input 'Hello'"),
        );
    }
    row("the API, in a browser", &format!("{url}/docs"))?;
    row("metrics", &format!("{url}/metrics"))?;
    row(
        "submit one",
        &format!("{program} submit hello-prompt --input 'Grace' --wait{server}"),
    )?;
    row(
        "watch one",
        &format!("{program} submit route-and-ask --input 'urgent: help' --follow{server}"),
    )?;
    row("see them all", &format!("{program} runs list{server}"))?;
    row(
        "your own flow",
        &format!("{program} flows push FLOW.json{server}"),
    )?;
    voice.line("")?;
    voice.line("Ctrl-C ends it.")
}
