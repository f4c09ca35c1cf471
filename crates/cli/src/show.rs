//! How runs, events and listings look.

use comfy_table::{Cell, CellAlignment, Color as CellColour, ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde_json::Value;

use crate::client::{Event, Run};
use crate::term::{Paint, Term, state_paint};
use crate::text;

/// A table without lines: reads well, and `awk` does too.
pub(crate) fn table(term: &Term, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if term.is_read() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table
            .force_no_tty()
            .set_content_arrangement(ContentArrangement::Disabled);
    }
    if term.colours() {
        table.enforce_styling();
    }
    table.set_header(header.iter().map(|name| Cell::new(name).fg(CellColour::DarkGrey)));
    table
}

/// A cell for a number.
pub(crate) fn number(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A cell for a state.
pub(crate) fn state_cell(state: &str) -> Cell {
    let colour = match state_paint(state) {
        Paint::Good => CellColour::Green,
        Paint::Warn => CellColour::Yellow,
        Paint::Error => CellColour::Red,
        Paint::Accent => CellColour::Cyan,
        Paint::Dim | Paint::Bold => CellColour::Reset,
    };
    Cell::new(state).fg(colour)
}

/// Lines of a table without its padding.
pub(crate) fn lines(table: &Table, indent: &str) -> String {
    let margin = table
        .lines()
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    let cut = table
        .lines()
        .map(|line| format!("{indent}{}", line.get(margin..).unwrap_or_default().trim_end()));
    cut.collect::<Vec<_>>().join("\n")
}

/// `-` where there is nothing.
pub(crate) fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}

/// Runs as a table.
pub(crate) fn runs(term: &Term, runs: &[Run]) -> String {
    let now = Timestamp::now();
    let mut table = table(
        term,
        &[
            "RUN", "FLOW", "STATE", "QUEUE", "TRY", "CREATED", "WAITED", "TOOK",
        ],
    );
    for run in runs {
        let queue = if run.priority == "normal" {
            run.queue.clone()
        } else {
            format!("{}/{}", run.queue, run.priority)
        };
        table.add_row(vec![
            Cell::new(&run.id),
            Cell::new(run.flow_ref()),
            state_cell(&run.state),
            Cell::new(queue),
            number(format!("{}/{}", run.attempt, run.max_attempts)),
            Cell::new(or_dash(run.created_at.map(|at| text::ago(at, now)))),
            number(or_dash(run.wait_s.map(text::seconds))),
            number(or_dash(run.duration_s.map(text::seconds))),
        ]);
    }
    lines(&table, "")
}

/// One run in full.
pub(crate) fn run(term: &Term, run: &Run) -> String {
    let now = Timestamp::now();
    let mut out = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            out.push(format!(
                "{} {value}",
                term.paint(&format!("{name:<9}"), Paint::Dim)
            ));
        }
    };
    row("run", run.id.clone());
    row("flow", run.flow_ref());
    let mut state = term.paint(&run.state, state_paint(&run.state));
    if let Some(due) = run.run_at.filter(|_| run.state == "scheduled") {
        state.push_str(&format!(", due {}", text::ago(due, now)));
    }
    row("state", state);
    row("queue", format!("{}/{}", run.queue, run.priority));
    row(
        "created",
        run.created_at
            .map(|at| format!("{at} ({})", text::ago(at, now)))
            .unwrap_or_default(),
    );
    let mut times = Vec::new();
    times.extend(run.wait_s.map(|s| format!("waited {}", text::seconds(s))));
    times.extend(run.duration_s.map(|s| format!("took {}", text::seconds(s))));
    row("time", times.join(", "));
    if run.usage.input_tokens + run.usage.output_tokens > 0 {
        row(
            "tokens",
            format!("{} in, {} out", run.usage.input_tokens, run.usage.output_tokens),
        );
    }
    let labels: Vec<_> = run
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    row("labels", labels.join(" "));
    row("replay of", run.replay_of.clone().unwrap_or_default());
    if run.interruptions > 0 {
        row("lost", text::plural(run.interruptions as usize, "interruption"));
    }
    for attempt in &run.attempts {
        let took = attempt.started_at.zip(attempt.ended_at).map(|(from, to)| {
            format!(
                " after {}",
                text::seconds(flowfleet_core::clock::seconds_between(from, to))
            )
        });
        let reused = if attempt.nodes_reused > 0 {
            format!(", {} reused", text::plural(attempt.nodes_reused as usize, "node"))
        } else {
            String::new()
        };
        let ended = attempt.ended_because.as_deref().unwrap_or("running");
        row(
            "attempt",
            format!(
                "{} on {}: {ended}{}{reused}",
                attempt.attempt,
                attempt.worker,
                took.unwrap_or_default()
            ),
        );
    }
    row("input", text::of(&run.input));
    row("output", text::of(&run.output));
    if let Some(error) = &run.error {
        row("error", term.paint(&fault(error), Paint::Error));
    }
    out.join("\n")
}

/// Why a run failed, on one line.
pub(crate) fn fault(error: &crate::client::RunFault) -> String {
    let node = error.node.as_deref().filter(|node| !error.message.contains(node));
    let node = node.map(|node| format!("{node}: ")).unwrap_or_default();
    format!("{node}{} [{}]", error.message, error.code)
}

/// Writes events as lines, streamed text as it comes.
#[derive(Debug)]
pub(crate) struct EventLines {
    term: Term,
    indent: &'static str,
    /// The node whose text is being streamed.
    streaming: Option<String>,
    first: Option<Timestamp>,
}

impl EventLines {
    pub(crate) fn new(term: Term, indent: &'static str) -> Self {
        Self {
            term,
            indent,
            streaming: None,
            first: None,
        }
    }

    /// What to print for an event, line ends included.
    pub(crate) fn format(&mut self, event: &Event, paint: impl Fn(&str, Paint) -> String) -> String {
        if event.kind == "node.token" {
            let node = event.text("node").unwrap_or_default().to_owned();
            let piece = event.text("text").unwrap_or_default().replace(['\r', '\n'], " ");
            let piece = paint(&piece, Paint::Accent);
            if self.streaming.as_deref() == Some(&node) {
                return piece;
            }
            let break_line = if self.streaming.is_some() { "\n" } else { "" };
            let out = format!(
                "{break_line}{}{:>9}  {:<14} {node} » {piece}",
                self.indent, "", "node.token"
            );
            self.streaming = Some(node);
            return out;
        }
        let break_line = if self.streaming.take().is_some() { "\n" } else { "" };
        let clock = self.clock(event);
        let kind = paint(&format!("{:<14}", event.kind), kind_paint(&event.kind));
        let words = words(event);
        format!(
            "{break_line}{}{}  {}\n",
            self.indent,
            paint(&clock, Paint::Dim),
            format!("{kind} {words}").trim_end()
        )
    }

    /// Time since the first event.
    fn clock(&mut self, event: &Event) -> String {
        let at = event
            .data
            .get("at")
            .and_then(Value::as_str)
            .and_then(|at| at.parse::<Timestamp>().ok());
        let Some(at) = at else { return format!("{:>9}", "") };
        let first = *self.first.get_or_insert(at);
        format!(
            "{:>9}",
            format!(
                "+{}",
                text::seconds(flowfleet_core::clock::seconds_between(first, at))
            )
        )
    }

    /// Prints on stderr, beside a result.
    pub(crate) fn note(&mut self, event: &Event) {
        let term = self.term;
        let text = self.format(event, |text, paint| term.paint_err(text, paint));
        term.note_raw(&text);
    }

    /// Prints on stdout, as the result.
    pub(crate) fn print(&mut self, event: &Event) -> std::io::Result<()> {
        let term = self.term;
        let text = self.format(event, |text, paint| term.paint(text, paint));
        term.bytes(text.as_bytes())
    }
}

fn kind_paint(kind: &str) -> Paint {
    match kind {
        "run.succeeded" | "node.finished" => Paint::Good,
        "run.failed" | "node.failed" | "run.expired" => Paint::Error,
        "run.cancelled" | "run.retrying" | "run.interrupted" => Paint::Warn,
        _ => Paint::Accent,
    }
}

/// The data of an event in words.
fn words(event: &Event) -> String {
    let mut words = Vec::new();
    if let Some(node) = event.text("node") {
        match event.text("display_name").filter(|name| *name != node) {
            Some(name) => words.push(format!("{name} ({node})")),
            None => words.push(node.to_owned()),
        }
    }
    if event.kind == "run.started" {
        words.extend(event.field("attempt").map(|attempt| format!("attempt {attempt}")));
        words.extend(event.text("worker").map(|worker| format!("on {worker}")));
    }
    words.extend(
        event
            .field("elapsed_s")
            .and_then(Value::as_f64)
            .map(text::seconds),
    );
    if event.field("reused").and_then(Value::as_bool) == Some(true) {
        words.push("reused".to_owned());
    }
    words.extend(
        event
            .field("delay_s")
            .and_then(Value::as_f64)
            .map(|s| format!("again in {}", text::seconds(s))),
    );
    words.extend(event.text("reason").map(|reason| format!("because: {reason}")));
    let message = event
        .field("error")
        .and_then(|error| error.as_str().or_else(|| error.get("message")?.as_str()));
    words.extend(message.map(|message| text::preview(message, 300)));
    words.extend(
        event
            .text("preview")
            .filter(|text| !text.is_empty())
            .map(|p| format!("» {}", text::preview(p, 72))),
    );
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Color;
    use serde_json::json;

    fn event(kind: &str, data: Value) -> Event {
        Event {
            kind: kind.to_owned(),
            id: None,
            data,
        }
    }

    #[test]
    fn events_in_words() {
        let term = Term::new(Color::Never);
        let mut lines = EventLines::new(term, "");
        let plain = |text: &str, _: Paint| text.to_owned();
        let mut text = String::new();
        for event in [
            event(
                "run.started",
                json!({"at": "2026-01-01T00:00:00Z", "data": {"attempt": 1, "worker": "w"}}),
            ),
            event("node.token", json!({"data": {"node": "LM-1", "text": "Hel"}})),
            event("node.token", json!({"data": {"node": "LM-1", "text": "lo"}})),
            event(
                "node.finished",
                json!({"at": "2026-01-01T00:00:01Z",
                    "data": {"node": "LM-1", "display_name": "Model", "elapsed_s": 0.5, "preview": "Hello"}}),
            ),
        ] {
            text.push_str(&lines.format(&event, plain));
        }
        assert_eq!(
            text,
            "  +0.0 ms  run.started    attempt 1  on w
           node.token     LM-1 » Hello
  +1.00 s  node.finished  Model (LM-1)  500 ms  » Hello
"
        );
    }
}
