//! What must hold of a run that has ended. Pure: from what its client was told, what the API says, and what the
//! models were asked.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::load::Entry;

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// An accepted run is in the store, once, under its key.
    Accepted,
    /// An answer of the API made no sense.
    Answer,
    /// A run ends exactly once, as its last event says, and as its client may expect.
    EndsOnce,
    /// Events are numbered from 1 without a hole or a step back, and stay what they are.
    Sequence,
    /// A node whose end was committed does not run again.
    NodeOnce,
    /// Attempts, their reasons and their count agree with the events.
    Attempts,
    /// The output is that of the flow.
    Output,
    /// Tokens are counted once, and models asked no oftener than attempts explain.
    Paid,
    /// Nothing waits longer than lease and backoff once everybody is there.
    Stuck,
    /// No process ends by itself, panics, or stays when asked to go.
    Process,
    /// Nothing is left behind: outbox rows, checkpoints of ended runs.
    Remains,
    /// `flowfleet doctor --deep` agrees.
    Doctor,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub run: Option<String>,
    pub detail: String,
}

impl Violation {
    pub fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self {
            rule,
            run: None,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", self.rule)?;
        if let Some(run) = &self.run {
            write!(f, "run {run}: ")?;
        }
        f.write_str(&self.detail)
    }
}

/// One stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub seq: u64,
    pub kind: String,
    pub node: Option<String>,
}

impl Event {
    fn is_final(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "run.succeeded" | "run.failed" | "run.cancelled" | "run.expired"
        )
    }
}

/// Everything about one run that has ended.
#[derive(Debug)]
pub struct History<'a> {
    pub entry: &'a Entry,
    pub run: &'a Value,
    pub events: &'a [Event],
    /// How often a model was asked this.
    pub asked: &'a HashMap<String, u64>,
}

/// What of a history breaks a rule.
pub fn check(history: &History<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    sequence(history, &mut found);
    end(history, &mut found);
    nodes(history, &mut found);
    attempts(history, &mut found);
    output(history, &mut found);
    paid(history, &mut found);
    found
        .into_iter()
        .map(|(rule, detail)| Violation {
            rule,
            run: Some(history.entry.id.clone()),
            detail,
        })
        .collect()
}

type Found = Vec<(Rule, String)>;

fn state<'a>(history: &History<'a>) -> &'a str {
    history.run["state"].as_str().unwrap_or_default()
}

fn sequence(history: &History<'_>, found: &mut Found) {
    let numbers: Vec<u64> = history.events.iter().map(|event| event.seq).collect();
    let whole: Vec<u64> = (1..=numbers.len() as u64).collect();
    if numbers != whole {
        found.push((Rule::Sequence, format!("events are numbered {numbers:?}")));
    }
    let last = history.run["last_event"].as_u64();
    if last != Some(numbers.len() as u64) {
        found.push((
            Rule::Sequence,
            format!("{} events, the run says {last:?}", numbers.len()),
        ));
    }
}

fn end(history: &History<'_>, found: &mut Found) {
    let state = state(history);
    let ends: Vec<&Event> = history.events.iter().filter(|event| event.is_final()).collect();
    let last = history.events.last().map(|event| event.kind.as_str());
    if ends.len() != 1 || last != Some(&format!("run.{state}")) {
        let kinds: Vec<&str> = history.events.iter().map(|event| event.kind.as_str()).collect();
        found.push((
            Rule::EndsOnce,
            format!("is {state}, but its events are {kinds:?}"),
        ));
    }
    if !history.entry.may_end(state) {
        let told = (history.entry.work, history.entry.cancel);
        let error = &history.run["error"];
        found.push((Rule::EndsOnce, format!("{told:?} ended as {state}: {error}")));
    }
}

/// A node that finished neither starts nor finishes again, in whatever attempt.
fn nodes(history: &History<'_>, found: &mut Found) {
    let mut finished = HashMap::new();
    for event in history.events {
        let Some(node) = &event.node else { continue };
        if let Some(before) = finished.get(node) {
            let (kind, seq) = (&event.kind, event.seq);
            found.push((
                Rule::NodeOnce,
                format!("{kind} of {node} at {seq}, which had finished at {before}"),
            ));
        } else if event.kind == "node.finished" {
            finished.insert(node.clone(), event.seq);
        }
    }
}

fn attempts(history: &History<'_>, found: &mut Found) {
    let none = Vec::new();
    let attempts = history.run["attempts"].as_array().unwrap_or(&none);
    let because: Vec<&str> = attempts
        .iter()
        .map(|a| a["ended_because"].as_str().unwrap_or("nothing"))
        .collect();
    let count = |kind: &str| history.events.iter().filter(|event| event.kind == kind).count();
    let interrupted = |why: &&&str| {
        matches!(
            **why,
            "interrupted" | "worker_lost" | "spot_notice" | "handed_off"
        )
    };
    let mut wrong =
        |what: String| found.push((Rule::Attempts, format!("{what}; attempts ended as {because:?}")));
    if count("run.started") != attempts.len() {
        wrong(format!(
            "{} starts, {} attempts",
            count("run.started"),
            attempts.len()
        ));
    }
    // What interrupted a run whose cancellation was asked for cancelled it; others were cancelled while they waited.
    let interruptions = because.iter().filter(interrupted).count();
    let waited = matches!(
        history.events,
        [.., before, last] if before.kind == "run.queued" && last.kind == "run.cancelled"
    );
    let cancelled_so = usize::from(
        state(history) == "cancelled" && !waited && because.last().as_ref().is_some_and(interrupted),
    );
    if count("run.interrupted") + cancelled_so != interruptions
        || history.run["interruptions"].as_u64() != Some(interruptions as u64)
    {
        let said = &history.run["interruptions"];
        wrong(format!(
            "{said} interruptions, {} events of them",
            count("run.interrupted")
        ));
    }
    let mut failures = 0;
    for (attempt, why) in attempts.iter().zip(&because) {
        if attempt["attempt"].as_u64() != Some(failures + 1) {
            wrong(format!(
                "attempt {} after {failures} failures",
                attempt["attempt"]
            ));
        }
        failures += u64::from(matches!(*why, "failed" | "timed_out"));
    }
    let inner = because.len().saturating_sub(1);
    if because[..inner]
        .iter()
        .any(|why| matches!(*why, "succeeded" | "cancelled" | "nothing"))
    {
        wrong("an attempt followed one that ended the run".to_owned());
    }
    if state(history) == "succeeded" && because.last() != Some(&"succeeded") {
        wrong("succeeded in no attempt".to_owned());
    }
}

fn output(history: &History<'_>, found: &mut Found) {
    if state(history) != "succeeded" {
        return;
    }
    let expected = history.entry.text(history.entry.work.models());
    if history.run["output"] != expected {
        let short = |text: String| text.chars().take(200).collect::<String>();
        let output = short(history.run["output"].to_string());
        found.push((
            Rule::Output,
            format!("output {output}, expected {:?}", short(expected)),
        ));
    }
}

fn paid(history: &History<'_>, found: &mut Found) {
    let entry = history.entry;
    let starts = |upto: u64| {
        let started = |event: &&Event| event.kind == "run.started" && event.seq < upto;
        history.events.iter().filter(started).count() as u64
    };
    let mut finished = history.events.iter().filter(|event| {
        event.kind == "node.finished" && event.node.as_ref().is_some_and(|n| n.contains("Model"))
    });
    for model in 0..entry.work.models() {
        let asked = history.asked.get(&entry.text(model)).copied().unwrap_or(0);
        // Each attempt that began before the node had finished may have asked once, and none after it.
        let end = finished.next();
        let most = starts(end.map_or(u64::MAX, |event| event.seq));
        if asked > most {
            found.push((
                Rule::Paid,
                format!("model {model} was asked {asked} times in {most} attempts"),
            ));
        }
        if end.is_some() && asked == 0 {
            found.push((Rule::Paid, format!("model {model} finished and was never asked")));
        }
    }
    // Each echo has one word more than what it was asked.
    let tokens: u64 = (0..entry.work.models() as u64).map(|model| model + 2).sum();
    let counted = history.run["usage"]["output_tokens"].as_u64();
    if state(history) == "succeeded" && counted != Some(tokens) {
        found.push((
            Rule::Paid,
            format!("{counted:?} tokens counted, {tokens} were sent"),
        ));
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
