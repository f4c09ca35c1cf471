//! From what the engine reports to what is written: events, and checkpoints of finished nodes (invariant I5).

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flowfleet_core::event::{EventData, EventKind, NewEvent};
use flowfleet_core::lease::Lease;
use flowfleet_core::run::NodeCheckpoint;
use flowfleet_core::{PortError, RunId};
use flowfleet_engine::{NodeInfo, NodeOutput, Progress, Usage, Value};
use flowfleet_runtime::backoff::Backoff;
use flowfleet_runtime::payload;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::Notify;

use crate::Inner;
use crate::live::Live;

/// Characters of a node's text that its event shows.
const PREVIEW: usize = 200;

/// Characters of an error's text.
const MESSAGE: usize = 4_000;

/// How long a checkpoint that goes with a release may take to reach the blob store.
const LAST_SEAL: Duration = Duration::from_secs(3);

/// What the engine is given to report to.
pub(crate) type Reporter = Arc<dyn Fn(Progress) + Send + Sync>;

type Report = (Timestamp, Progress);

/// From the engine to the attempt that drives it, within one task. It needs no bound: a node reports a few times, and
/// a plan has a bounded number of nodes; tokens go another way. A channel would allocate room for 32 reports at once.
#[derive(Debug, Default)]
struct Waiting {
    reports: Mutex<VecDeque<Report>>,
    more: Notify,
}

impl Waiting {
    fn push(&self, report: Report) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.push_back(report);
        drop(reports);
        self.more.notify_one();
    }

    fn pop(&self) -> Option<Report> {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.pop_front()
    }
}

/// Reports of one attempt that are not written yet, and what they add up to.
#[derive(Debug)]
pub(crate) struct Reports {
    lease: Lease,
    waiting: Arc<Waiting>,
    /// Taken, but not noted yet: kept here so that stopping in the middle loses nothing.
    in_hand: Option<Report>,
    /// Of every finished node, also of those that earlier attempts finished.
    pub(crate) usage: Usage,
    pub(crate) nodes_reused: u32,
    /// Nodes are not resumed one by one, so none is kept.
    whole_flow: bool,
}

impl Reports {
    pub(crate) fn new(lease: Lease, live: Arc<Live>) -> (Self, Reporter) {
        let waiting = Arc::new(Waiting::default());
        let reports = Self {
            lease,
            waiting: Arc::clone(&waiting),
            in_hand: None,
            usage: Usage::default(),
            nodes_reused: 0,
            whole_flow: false,
        };
        (reports, reporter(lease.run, live, waiting))
    }

    /// The flow runs as one unit: an attempt after this one begins at the start.
    pub(crate) fn whole_flow(&mut self) {
        self.whole_flow = true;
    }

    /// Earlier attempts finished these nodes.
    pub(crate) fn resumed(&mut self, nodes: &BTreeMap<String, NodeOutput>) {
        for output in nodes.values() {
            self.usage += output.usage;
        }
    }

    /// Waits for the next report and takes it in hand. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        while self.in_hand.is_none() {
            match self.waiting.pop() {
                Some(report) => self.take(report),
                None => self.waiting.more.notified().await,
            }
        }
    }

    fn take(&mut self, report: Report) {
        if let Progress::NodeFinished { output, reused, .. } = &report.1 {
            if *reused {
                self.nodes_reused += 1;
            } else {
                self.usage += output.usage;
            }
        }
        self.in_hand = Some(report);
    }

    /// Writes down the report in hand. Waits while the journal is full or the blob store is away; stopping in the
    /// middle leaves the report in hand.
    pub(crate) async fn note(&mut self, inner: &Inner) {
        if let Some((at, progress)) = &self.in_hand
            && let Some(event) = event(*at, progress, self.whole_flow)
        {
            let node = match finished(progress).filter(|_| !self.whole_flow) {
                Some((node, output)) => {
                    let sealed =
                        until_there("checkpoint", || seal(inner, self.lease.run, node, output)).await;
                    kept(node, sealed)
                }
                None => None,
            };
            inner.journal.note(self.lease, node, event).await;
        }
        self.in_hand = None;
    }

    /// Everything reported and not noted, to be written with the end of the attempt; checkpoints only if `keep`.
    pub(crate) async fn rest(&mut self, inner: &Inner, keep: bool) -> (Vec<NodeCheckpoint>, Vec<NewEvent>) {
        let (mut nodes, mut events) = (Vec::new(), Vec::new());
        loop {
            if self.in_hand.is_none()
                && let Some(report) = self.waiting.pop()
            {
                self.take(report);
            }
            let Some((at, progress)) = self.in_hand.take() else {
                return (nodes, events);
            };
            events.extend(event(at, &progress, self.whole_flow));
            if keep
                && !self.whole_flow
                && let Some((node, output)) = finished(&progress)
            {
                let sealing = seal(inner, self.lease.run, node, output);
                match tokio::time::timeout(LAST_SEAL, sealing).await {
                    Ok(sealed) => nodes.extend(kept(node, sealed)),
                    Err(_) => tracing::warn!(node, "no checkpoint: the blob store does not answer"),
                }
            }
        }
    }
}

fn reporter(run: RunId, live: Arc<Live>, waiting: Arc<Waiting>) -> Reporter {
    Arc::new(move |progress| match progress {
        Progress::Token { node, text } => live.token(run, &node.id, &text),
        progress => waiting.push((Timestamp::now(), progress)),
    })
}

/// The node and output of a report that is worth a checkpoint.
fn finished(progress: &Progress) -> Option<(&str, &NodeOutput)> {
    match progress {
        Progress::NodeFinished {
            node,
            output,
            reused: false,
            ..
        } => Some((&node.id, output)),
        _ => None,
    }
}

async fn seal(
    inner: &Inner,
    run: RunId,
    node: &str,
    output: &NodeOutput,
) -> Result<NodeCheckpoint, PortError> {
    let value =
        serde_json::to_value(output).map_err(|error| PortError::bug("checkpoint", error.to_string()))?;
    let output = payload::seal(&*inner.deps.blob, run, &format!("node-{node}"), value).await?;
    Ok(NodeCheckpoint {
        node: node.to_owned(),
        output,
    })
}

fn kept(node: &str, sealed: Result<NodeCheckpoint, PortError>) -> Option<NodeCheckpoint> {
    match sealed {
        Ok(checkpoint) => Some(checkpoint),
        Err(error) => {
            tracing::warn!(%error, node, "no checkpoint: a later attempt executes this node again");
            None
        }
    }
}

/// Calls until the backend answers; other errors than its absence are answered.
pub(crate) async fn until_there<T, F>(what: &str, mut call: impl FnMut() -> F) -> Result<T, PortError>
where
    F: Future<Output = Result<T, PortError>>,
{
    let mut backoff = Backoff::default();
    loop {
        match call().await {
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, what, "trying again");
                backoff.wait().await;
            }
            decided => return decided,
        }
    }
}

/// The event of a report; `in_python` if its node may run again, in a loop or in another attempt. Reused nodes are no new work and branches not taken are no work: neither is announced.
fn event(at: Timestamp, progress: &Progress, in_python: bool) -> Option<NewEvent> {
    let (kind, data) = match progress {
        Progress::NodeStarted { node } => (EventKind::NodeStarted, EventData::of(&named(node, in_python))),
        Progress::NodeFinished {
            node,
            output,
            reused: false,
            elapsed,
        } => {
            let preview = preview(output);
            let finished = Finished {
                node: named(node, in_python),
                elapsed_s: (elapsed.as_secs_f64() * 1e6).round() / 1e6,
                preview: &preview,
            };
            (EventKind::NodeFinished, EventData::of(&finished))
        }
        Progress::NodeFailed { node, error } => {
            let message = clean(&error.message, MESSAGE);
            let failed = Failed {
                node: named(node, in_python),
                code: error.code,
                message: &message,
            };
            (EventKind::NodeFailed, EventData::of(&failed))
        }
        Progress::Token { .. }
        | Progress::NodeSkipped { .. }
        | Progress::NodeFinished { reused: true, .. } => {
            return None;
        }
    };
    // Text and finite numbers can always be written.
    let data = data.unwrap_or_default();
    Some(NewEvent { kind, at, data })
}

#[derive(Serialize)]
struct Named<'a> {
    node: &'a str,
    display_name: &'a str,
    component: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'static str>,
}

#[derive(Serialize)]
struct Finished<'a> {
    #[serde(flatten)]
    node: Named<'a>,
    elapsed_s: f64,
    preview: &'a str,
}

#[derive(Serialize)]
struct Failed<'a> {
    #[serde(flatten)]
    node: Named<'a>,
    code: &'a str,
    message: &'a str,
}

fn named(node: &NodeInfo, in_python: bool) -> Named<'_> {
    Named {
        node: &node.id,
        display_name: &node.display_name,
        component: &node.component,
        engine: in_python.then_some("python"),
    }
}

/// The beginning of what a node produced, as text.
fn preview(output: &NodeOutput) -> Cow<'_, str> {
    let text = match output.values.values().next() {
        None => return Cow::default(),
        Some(Value::Message(message)) => return clean(&message.text, PREVIEW),
        Some(Value::Json(Json::String(text))) => return clean(text, PREVIEW),
        Some(Value::Json(value)) => serde_json::to_string(value),
        Some(Value::Data(map)) => match map.get("text").and_then(Json::as_str) {
            Some(text) => return clean(text, PREVIEW),
            None => serde_json::to_string(map),
        },
        Some(Value::Table(rows)) => serde_json::to_string(&rows.iter().take(PREVIEW).collect::<Vec<_>>()),
    };
    Cow::Owned(clean(&text.unwrap_or_default(), PREVIEW).into_owned())
}

/// The first characters of a text, without NUL, which PostgreSQL does not store.
pub(crate) fn clean(text: &str, most: usize) -> Cow<'_, str> {
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    if text[..end].contains('\0') {
        return text.chars().filter(|c| *c != '\0').take(most).collect();
    }
    Cow::Borrowed(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowfleet_engine::{Message, NodeError};
    use serde_json::json;

    fn node() -> Arc<NodeInfo> {
        Arc::new(NodeInfo {
            id: "Prompt-1".into(),
            display_name: "Prompt".into(),
            component: "Prompt".into(),
        })
    }

    fn output(value: Value) -> NodeOutput {
        NodeOutput {
            values: BTreeMap::from([("out".to_owned(), value)]),
            ..NodeOutput::default()
        }
    }

    #[test]
    fn previews_table() {
        let message = |text: &str| {
            Value::Message(Message {
                text: text.to_owned(),
                ..Message::default()
            })
        };
        let map = |json: Json| json.as_object().cloned().unwrap();
        for (value, expected) in [
            (message("hello\0"), "hello"),
            (message("\0hi\0 there"), "hi there"),
            (Value::Json(json!("text")), "text"),
            (Value::Json(json!([1, 2])), "[1,2]"),
            (Value::Data(map(json!({ "text": "inner", "a": 1 }))), "inner"),
            (Value::Data(map(json!({ "a": 1 }))), "{\"a\":1}"),
            (Value::Table(vec![map(json!({ "a": 1 }))]), "[{\"a\":1}]"),
        ] {
            assert_eq!(preview(&output(value)), expected);
        }
        assert_eq!(preview(&NodeOutput::default()), "");
        assert_eq!(
            preview(&output(message(&"é".repeat(500)))).chars().count(),
            PREVIEW
        );
    }

    #[test]
    fn only_new_work_is_announced() {
        let at = Timestamp::UNIX_EPOCH;
        let finished = |reused| Progress::NodeFinished {
            node: node(),
            output: Arc::new(output(Value::Json(json!("x")))),
            reused,
            elapsed: Duration::from_millis(1500),
        };
        let said = event(at, &finished(false), false).unwrap();
        assert_eq!(said.kind, EventKind::NodeFinished);
        assert_eq!(
            said.data.text(),
            r#"{"node":"Prompt-1","display_name":"Prompt","component":"Prompt","elapsed_s":1.5,"preview":"x"}"#
        );
        assert_eq!(event(at, &finished(true), false), None);
        assert_eq!(event(at, &Progress::NodeSkipped { node: node() }, false), None);
        let error = NodeError {
            code: "model_timeout",
            message: "too slow".into(),
            retryable: true,
        };
        let failed = event(at, &Progress::NodeFailed { node: node(), error }, false).unwrap();
        assert_eq!(
            failed.data.text(),
            r#"{"node":"Prompt-1","display_name":"Prompt","component":"Prompt","code":"model_timeout","message":"too slow"}"#
        );
        for (in_python, expected) in [
            (
                false,
                r#"{"node":"Prompt-1","display_name":"Prompt","component":"Prompt"}"#,
            ),
            (
                true,
                r#"{"node":"Prompt-1","display_name":"Prompt","component":"Prompt","engine":"python"}"#,
            ),
        ] {
            let started = event(at, &Progress::NodeStarted { node: node() }, in_python).unwrap();
            assert_eq!(started.data.text(), expected);
        }
    }
}
