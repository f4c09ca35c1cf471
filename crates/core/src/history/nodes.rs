//! What happened to the nodes of a run, and which of their outputs were kept.
//!
//! Events of nodes do not name their epoch, and need not: each claim raises the epoch by one and writes one
//! `run.started`, in the order of the run's sequence, so the epoch of an event is the number of these before it.
//!
//! Events that name the engine `python` are of a flow that runs as one unit: its nodes have no checkpoints, and run
//! again in a loop and in another attempt.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Invariant, RunHistory};
use crate::event::EventKind;

/// Under which epochs a node started, finished and failed last.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    started: Option<u64>,
    finished: Option<u64>,
    failed: Option<u64>,
}

pub(super) fn check(history: &RunHistory, found: &mut Vec<(Invariant, String)>) {
    let (mut epoch, mut nodes) = (0, BTreeMap::<String, Seen>::new());
    for event in &history.events {
        let step = match event.kind {
            EventKind::RunStarted => {
                epoch += 1;
                continue;
            }
            EventKind::NodeStarted => started,
            EventKind::NodeFinished => finished,
            EventKind::NodeFailed => failed,
            _ => continue,
        };
        if event.data.get("engine") == Some(Value::String("python".to_owned())) {
            continue;
        }
        if let Some(Value::String(node)) = event.data.get("node") {
            step(&node, epoch, nodes.entry(node.clone()).or_default(), found);
        } else {
            found.push((
                Invariant::Readable,
                format!("event {} is {} and names no node", event.seq, event.kind.as_str()),
            ));
        }
    }
    let done = nodes
        .iter()
        .filter(|(_, seen)| seen.finished.is_some())
        .map(|(node, _)| node.as_str());
    checkpoints(history, &done.collect(), found);
}

fn started(node: &str, epoch: u64, seen: &mut Seen, found: &mut Vec<(Invariant, String)>) {
    if let Some(before) = seen.finished {
        found.push((
            Invariant::NodeNotRerun,
            format!("node {node:?} finished under epoch {before} and was started again under epoch {epoch}"),
        ));
    } else if seen.started == Some(epoch) {
        found.push((
            Invariant::NodeNotRerun,
            format!("node {node:?} was started twice under epoch {epoch}"),
        ));
    }
    seen.started = Some(epoch);
}

fn finished(node: &str, epoch: u64, seen: &mut Seen, found: &mut Vec<(Invariant, String)>) {
    if let Some(before) = seen.finished {
        let detail = if before == epoch {
            format!("node {node:?} finished twice under epoch {epoch}, and both outputs were kept")
        } else {
            format!(
                "node {node:?} finished under epoch {before} and under epoch {epoch}, and both outputs were kept"
            )
        };
        found.push((Invariant::OutputOnce, detail));
    } else if seen.started != Some(epoch) {
        found.push((
            Invariant::OutputOnce,
            format!("node {node:?} finished under epoch {epoch} without having started under it: the output is another's"),
        ));
    }
    seen.finished = Some(epoch);
}

/// A node that fails ends its attempt: a second event of it was written twice.
fn failed(node: &str, epoch: u64, seen: &mut Seen, found: &mut Vec<(Invariant, String)>) {
    if seen.failed == Some(epoch) {
        found.push((
            Invariant::NodeNotRerun,
            format!("node {node:?} failed twice under epoch {epoch}"),
        ));
    }
    seen.failed = Some(epoch);
}

/// A live run has a checkpoint of each finished node and no other; an ended run has none.
fn checkpoints(history: &RunHistory, done: &BTreeSet<&str>, found: &mut Vec<(Invariant, String)>) {
    let kept: BTreeSet<&str> = history.checkpoints.iter().map(String::as_str).collect();
    if history.state.is_final() {
        if !kept.is_empty() {
            found.push((
                Invariant::NothingOrphaned,
                format!(
                    "the run has {}, and {} of its checkpoints are left",
                    history.state.as_str(),
                    kept.len()
                ),
            ));
        }
        return;
    }
    for node in done.difference(&kept) {
        found.push((
            Invariant::NodeNotRerun,
            format!("node {node:?} finished but has no checkpoint: the next attempt will run it again"),
        ));
    }
    for node in kept.difference(done) {
        found.push((
            Invariant::OutputOnce,
            format!("node {node:?} has a checkpoint although no event says that it finished"),
        ));
    }
}
