//! Flows that run in Python, from queue to result: events, attempts, refusals. The host itself has its own tests.

use std::path::PathBuf;
use std::time::Duration;

use flowfleet_core::RunState;
use flowfleet_core::event::EventKind;
use flowfleet_core::history::check;
use flowfleet_core::port::{HistoryStore as _, RunStore as _};
use flowfleet_core::run::{EndedBecause, RunErrorKind};
use flowfleet_mock_model as mock;
use flowfleet_python::{Host, Settings, State};
use serde_json::{Value, json};

use crate::rig::{DEADLINE, Rig, settings};

/// lfx, as `tests/lfx.sh` installs it, or as named.
fn lfx() -> PathBuf {
    let cache = || {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
        base.join("flowfleet/bench/lfx-1.13.0")
    };
    std::env::var_os("FLOWFLEET_TEST_LFX").map_or_else(cache, PathBuf::from)
}

/// One component, whose method has this body and returns text.
fn flow(body: &str) -> Value {
    let body = body.replace('\n', "\n      ");
    let code = format!(
        "from lfx.custom import Component
from lfx.io import Output
from lfx.schema.message import Message
import asyncio, os

class Own(Component):
  display_name = 'Own'
  inputs = []
  outputs = [Output(name='out', display_name='Out', method='work')]
  async def work(self) -> Message:
      {body}
      return Message(text=str(text))
"
    );
    json!({"name": "own", "data": {"edges": [], "nodes": [{"id": "TextOutput-own", "type": "genericNode",
        "position": {"x": 0, "y": 0}, "data": {"id": "TextOutput-own", "type": "Own", "node": {
            "display_name": "Own", "base_classes": ["Message"],
            "template": {"_type": "Component", "code": {"type": "code", "value": code, "show": true, "name": "code"}},
            "outputs": [{"name": "out", "display_name": "Out", "method": "work", "types": ["Message"],
                "selected": "Message", "value": "__UNDEFINED__", "cache": true}]}}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn python_flows_are_runs_like_others() {
    let mut rig = Rig::new(mock::Config::default()).await;
    without_a_host_the_need_is_named(&rig).await;
    let host = Host::start(Settings {
        enabled: true,
        venv: lfx(),
        cancel_grace_s: 0.5,
        ..Settings::default()
    })
    .unwrap();
    let State::Ready(_) = tokio::time::timeout(DEADLINE * 2, host.started()).await.unwrap() else {
        panic!("tests/lfx.sh installs what this needs: {:?}", host.state());
    };
    rig.python = Some(host);
    let worker = rig.worker(|_| {}).await;
    let _upkeep = rig.upkeep();
    a_run_has_events_and_a_result(&rig).await;
    another_attempt_begins_at_the_start(&rig).await;
    a_crash_says_why(&rig).await;
    a_cancel_ends_it(&rig).await;
    drop(worker);
}

async fn without_a_host_the_need_is_named(rig: &Rig) {
    let worker = rig.worker(|_| {}).await;
    let version = rig.flow(&flow("text = 1")).await;
    let id = rig.submit_one(rig.run(&version, "x")).await;
    let view = rig.state(id, RunState::Failed).await;
    let error = view.error.unwrap();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (RunErrorKind::Request, "flow_unsupported")
    );
    worker.shutdown.drain();
    worker.ended(DEADLINE).await;
}

async fn a_run_has_events_and_a_result(rig: &Rig) {
    let version = rig.flow(&flow("text = 'made in Python'")).await;
    let id = rig.submit_one(rig.run(&version, "x")).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(rig.output(&view).await, "made in Python");
    use EventKind::{NodeFinished, NodeStarted, RunQueued, RunStarted, RunSucceeded};
    let events = rig.events(id).await;
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [RunQueued, RunStarted, NodeStarted, NodeFinished, RunSucceeded]
    );
    let finished = events[3].data.value();
    assert_eq!(
        (&finished["node"], &finished["preview"]),
        (&json!("TextOutput-own"), &json!("made in Python"))
    );
}

async fn another_attempt_begins_at_the_start(rig: &Rig) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tried");
    let body = format!(
        "path = '{}'\nif not os.path.exists(path):\n  open(path, 'w').close()\n  error = RuntimeError('busy')\n  error.status_code = 503\n  raise error\ntext = 'second'",
        path.display()
    );
    let version = rig.flow(&flow(&body)).await;
    let mut run = rig.run(&version, "x");
    run.settings = settings(2, 60.0);
    let id = rig.submit_one(run).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(rig.output(&view).await, "second");
    let ends: Vec<_> = view
        .attempts
        .iter()
        .map(|attempt| attempt.ended_because.unwrap())
        .collect();
    assert_eq!(ends, [EndedBecause::Failed, EndedBecause::Succeeded]);
    assert!(view.attempts.iter().all(|attempt| attempt.nodes_reused == 0));
    // A node that ran twice is nothing that cannot have happened here.
    let histories = rig.store.histories(None, 1_000).await.unwrap();
    for history in &histories.runs {
        assert_eq!(
            check(history, histories.now, Duration::from_secs(60)),
            [],
            "{history:?}"
        );
    }
}

async fn a_crash_says_why(rig: &Rig) {
    let version = rig.flow(&flow("os._exit(3)")).await;
    let id = rig.submit_one(rig.run(&version, "x")).await;
    let error = rig.state(id, RunState::Failed).await.error.unwrap();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (RunErrorKind::Node, "python_crashed")
    );
    assert!(error.message.contains("exit code 3"), "{}", error.message);
}

async fn a_cancel_ends_it(rig: &Rig) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("begun");
    let version = rig
        .flow(&flow(&format!(
            "open('{}', 'w').close()\nwhile True: pass",
            path.display()
        )))
        .await;
    let id = rig.submit_one(rig.run(&version, "x")).await;
    rig.event(id, EventKind::NodeStarted, 1).await;
    rig.store.cancel(&rig.tenant, id).await.unwrap();
    rig.bus.cancel(id).await.unwrap();
    rig.state(id, RunState::Cancelled).await;
}
