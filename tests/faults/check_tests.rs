//! A history that is fine, and one change of it for every rule.

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::faults::load::{Cancel, Work};

const FINE: &str = "run.queued run.started node.started:Model-1 node.finished:Model-1 node.started:Model-2 \
    run.interrupted run.queued run.started node.started:Model-2 run.retrying run.queued run.started \
    node.started:Model-2 node.finished:Model-2 run.succeeded";

struct Case {
    entry: Entry,
    run: Value,
    events: Vec<Event>,
    asked: HashMap<String, u64>,
}

fn events(text: &str) -> Vec<Event> {
    let event = |(seq, word): (u64, &str)| {
        let (kind, node) = word
            .split_once(':')
            .map_or((word, None), |(kind, node)| (kind, Some(node)));
        Event {
            seq,
            kind: kind.to_owned(),
            node: node.map(str::to_owned),
        }
    };
    (1..).zip(text.split_whitespace()).map(event).collect()
}

fn fine() -> Case {
    let attempt = |attempt, because| json!({"attempt": attempt, "ended_because": because});
    Case {
        entry: Entry {
            key: "k".to_owned(),
            work: Work::Slow,
            id: "id".to_owned(),
            accepted: Instant::now(),
            cancel: Cancel::No,
        },
        run: json!({
            "state": "succeeded", "output": "echo: echo: k", "interruptions": 1, "last_event": 15,
            "usage": {"output_tokens": 5},
            "attempts": [attempt(1, "worker_lost"), attempt(1, "failed"), attempt(2, "succeeded")],
        }),
        events: events(FINE),
        asked: HashMap::from([("k".to_owned(), 1), ("echo: k".to_owned(), 3)]),
    }
}

fn broken(change: impl FnOnce(&mut Case)) -> Vec<Rule> {
    let mut case = fine();
    change(&mut case);
    let history = History {
        entry: &case.entry,
        run: &case.run,
        events: &case.events,
        asked: &case.asked,
    };
    let mut rules: Vec<Rule> = check(&history)
        .into_iter()
        .map(|violation| violation.rule)
        .collect();
    rules.dedup();
    rules
}

#[test]
fn a_fine_history_breaks_nothing() {
    assert_eq!(broken(|_| {}), []);
}

#[test]
fn cancellations_and_interruptions_add_up() {
    let cancelled = |text: &'static str, interruptions: u64| {
        broken(|c| {
            c.entry.work = Work::Cancelled;
            c.entry.cancel = Cancel::Done;
            c.events = events(text);
            let last = c.events.len();
            c.asked = HashMap::new();
            c.run = json!({
                "state": "cancelled", "interruptions": interruptions, "last_event": last,
                "usage": {"output_tokens": 0}, "attempts": [{"attempt": 1, "ended_because": "worker_lost"}],
            });
        })
    };
    let waiting = "run.queued run.started run.interrupted run.queued run.cancelled";
    let running = "run.queued run.started run.cancelled";
    assert_eq!(cancelled(waiting, 1), []);
    assert_eq!(cancelled(running, 1), []);
    assert_eq!(cancelled(running, 0), [Rule::Attempts]);
    assert_eq!(
        cancelled("run.queued run.started run.interrupted run.cancelled", 1),
        [Rule::Attempts]
    );
}

#[test]
fn every_change_of_it_breaks_its_rule() {
    type Change = fn(&mut Case);
    let changes: [(&str, Change, Rule); 18] = [
        ("a hole", |c| c.events[7].seq = 9, Rule::Sequence),
        ("a step back", |c| c.events.swap(3, 4), Rule::Sequence),
        (
            "an event more than counted",
            |c| c.run["last_event"] = json!(14),
            Rule::Sequence,
        ),
        (
            "two ends",
            |c| c.events[9].kind = "run.failed".into(),
            Rule::EndsOnce,
        ),
        (
            "another end",
            |c| c.run["state"] = json!("failed"),
            Rule::EndsOnce,
        ),
        (
            "cancelled and yet done",
            |c| c.entry.cancel = Cancel::Done,
            Rule::EndsOnce,
        ),
        (
            "a node twice",
            |c| c.events[8].node = Some("Model-1".into()),
            Rule::NodeOnce,
        ),
        (
            "a node ends twice",
            |c| c.events[13].node = Some("Model-1".into()),
            Rule::NodeOnce,
        ),
        (
            "a start too many",
            |c| c.events[10].kind = "run.started".into(),
            Rule::Attempts,
        ),
        (
            "interruptions",
            |c| c.run["interruptions"] = json!(2),
            Rule::Attempts,
        ),
        (
            "silent interruption",
            |c| c.events[5].kind = "run.odd".into(),
            Rule::Attempts,
        ),
        (
            "a loss that counts",
            |c| c.run["attempts"][1]["attempt"] = json!(2),
            Rule::Attempts,
        ),
        (
            "success twice",
            |c| c.run["attempts"][0]["ended_because"] = json!("succeeded"),
            Rule::Attempts,
        ),
        (
            "success nowhere",
            |c| c.run["attempts"][2]["ended_because"] = json!("failed"),
            Rule::Attempts,
        ),
        ("output", |c| c.run["output"] = json!("echo: k"), Rule::Output),
        ("paid twice", |c| _ = c.asked.insert("k".into(), 2), Rule::Paid),
        ("never asked", |c| _ = c.asked.remove("k"), Rule::Paid),
        (
            "tokens",
            |c| c.run["usage"]["output_tokens"] = json!(7),
            Rule::Paid,
        ),
    ];
    for (what, change, rule) in changes {
        assert!(broken(change).contains(&rule), "{what}: {:?}", broken(change));
    }
}

#[test]
fn ends_table() {
    let ends = |work, cancel| {
        let entry = Entry {
            work,
            cancel,
            ..fine().entry
        };
        ["succeeded", "failed", "cancelled", "expired"]
            .into_iter()
            .filter(|state| entry.may_end(state))
            .collect::<Vec<_>>()
    };
    assert_eq!(ends(Work::Hello, Cancel::No), ["succeeded"]);
    assert_eq!(ends(Work::Expiring, Cancel::No), ["succeeded", "expired"]);
    assert_eq!(ends(Work::Flaky, Cancel::No), ["succeeded", "failed"]);
    assert_eq!(ends(Work::Cancelled, Cancel::Asked), ["succeeded", "cancelled"]);
    assert_eq!(ends(Work::Cancelled, Cancel::Done), ["cancelled"]);
}
