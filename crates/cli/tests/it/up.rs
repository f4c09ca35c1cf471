//! The embedded fleet: submitted to, watched, stopped, killed.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::program::{Ended, Server, call, flowfleet, items, until};

#[test]
fn a_run_from_submission_to_replay() {
    let dir = tempfile::tempdir().unwrap();
    let model = Server::mock_model(&[]);
    let up = Server::up(dir.path(), &model.url);
    up.push("hello-prompt");
    up.push("ask-model");
    let flows = items(&up.call(&["flows", "list", "--json"]).expect(0));
    assert_eq!(flows.len(), 2);
    let table = up.call(&["flows", "list"]).expect(0).out;
    assert!(
        table.contains("hello-prompt") && table.contains("native"),
        "{table}"
    );
    let shown = up
        .call(&["flows", "show", "hello-prompt@1", "--document"])
        .expect(0)
        .json();
    assert_eq!(shown["name"], "hello-prompt");

    let waited = up
        .call(&[
            "submit",
            "hello-prompt",
            "--input",
            "Ada",
            "--wait",
            "--label",
            "team=a",
        ])
        .expect(0);
    assert_eq!(waited.out, "Hello, Ada! This flow ran on Flowfleet.\n");
    let run = up
        .call(&["submit", "ask-model", "--input", "Why?", "--wait", "--json"])
        .expect(0)
        .json();
    assert_eq!(run["output"], "echo: Why?");
    assert_eq!(run["state"], "succeeded");
    let id = run["id"].as_str().unwrap();

    let listed = items(
        &up.call(&["runs", "list", "--label", "team=a", "--json"])
            .expect(0),
    );
    assert_eq!(listed.len(), 1);
    let table = up.call(&["runs", "list", "--state", "succeeded"]).expect(0).out;
    assert!(table.contains(id) && table.contains("ask-model@1"), "{table}");
    assert_eq!(
        up.call(&["runs", "show", id, "--output"]).expect(0).out,
        "echo: Why?\n"
    );
    let shown = up.call(&["runs", "show", id]).expect(0).out;
    assert!(
        shown.contains("attempt") && shown.contains("succeeded"),
        "{shown}"
    );

    let events = up.call(&["runs", "events", id, "--json"]).expect(0).out;
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids: Vec<u64> = events.iter().filter_map(|event| event["id"].as_u64()).collect();
    assert_eq!(
        ids,
        (1..=ids.len() as u64).collect::<Vec<_>>(),
        "sequences have no holes"
    );
    assert_eq!(events.last().unwrap()["event"], "run.succeeded");
    let rest = up
        .call(&["runs", "events", id, "--after", &(ids.len() - 1).to_string()])
        .expect(0)
        .out;
    assert_eq!(rest.lines().count(), 1, "{rest}");

    let replayed = up.call(&["runs", "replay", id]).expect(0).out;
    assert_ne!(replayed.trim(), id);
    until("the replay has ended", || {
        up.state(replayed.trim()) == "succeeded"
    });
    let explained = up.call(&["runs", "explain", id]).expect(0).out;
    assert!(!explained.trim().is_empty());

    let status = up.call(&["fleet", "status", "--json"]).expect(0).json();
    assert!(status.is_object());
    until("the worker is present", || {
        items(&up.call(&["fleet", "workers", "--json"]).expect(0)).len() == 1
    });
    assert_eq!(up.terminate(), 0);
}

#[test]
fn following_shows_nodes_and_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let model = Server::mock_model(&["--latency-ms", "300", "--tokens-per-s", "40"]);
    let up = Server::up(dir.path(), &model.url);
    up.push("ask-model");
    let followed = up
        .call(&["submit", "ask-model", "--input", "one two three", "--follow"])
        .expect(0);
    for said in [
        "run.queued",
        "run.started",
        "node.finished",
        "node.token",
        "run.succeeded",
    ] {
        assert!(followed.err.contains(said), "{said}: {}", followed.err);
    }
    assert_eq!(followed.out, "echo: one two three\n");
    let args = ["submit", "ask-model", "--input", "four", "--follow", "--json"];
    let events = up.call(&args).expect(0).out;
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "run.succeeded");
}

#[test]
fn runs_are_cancelled_by_id_and_by_filter() {
    let dir = tempfile::tempdir().unwrap();
    let model = Server::mock_model(&["--latency-ms", "120000"]);
    let up = Server::up(dir.path(), &model.url);
    up.push("ask-model");
    let id = up
        .call(&["submit", "ask-model", "--input", "x"])
        .expect(0)
        .out
        .trim()
        .to_owned();
    until("it runs", || up.state(&id) == "running");
    up.call(&["runs", "cancel", &id]).expect(0);
    until("it is cancelled", || up.state(&id) == "cancelled");
    up.call(&["runs", "cancel", &id]);

    let later = [
        "submit",
        "ask-model",
        "--input",
        "x",
        "--delay",
        "1h",
        "--label",
        "batch=later",
    ];
    let first = up.call(&later).expect(0).out.trim().to_owned();
    up.call(&later).expect(0);
    assert_eq!(up.state(&first), "scheduled");
    up.call(&["runs", "cancel", "--label", "batch=later", "--dry-run"])
        .expect(0);
    assert_eq!(up.state(&first), "scheduled");
    up.call(&["runs", "cancel", "--label", "batch=later"]).expect(0);
    until("both are cancelled", || {
        items(&up.call(&[
            "runs",
            "list",
            "--state",
            "cancelled",
            "--label",
            "batch=later",
            "--json",
        ]))
        .len()
            == 2
    });
}

#[test]
fn one_process_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let up = Server::up(dir.path(), "http://127.0.0.1:1/v1");
    let second = flowfleet()
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path())
        .output()
        .unwrap();
    let second = Ended::from(second).expect(3);
    assert!(
        second.err.contains("another flowfleet") && second.err.contains("--data"),
        "{}",
        second.err
    );
    let port = up.url.trim_start_matches("http://");
    let other = tempfile::tempdir().unwrap();
    let taken = flowfleet()
        .args(["up", "--listen", port, "--data"])
        .arg(other.path())
        .output()
        .unwrap();
    let taken = Ended::from(taken).expect(3);
    assert!(
        taken.err.contains("127.0.0.1:0"),
        "says how to take a free port: {}",
        taken.err
    );
    let open = flowfleet()
        .args(["up", "--listen", "0.0.0.0:0", "--data"])
        .arg(other.path())
        .output()
        .unwrap();
    let open = Ended::from(open).expect(3);
    assert!(open.err.contains("keys create"), "{}", open.err);
}

fn kill(id: &str, signal: &str) {
    assert!(
        Command::new("kill")
            .args([signal, id])
            .status()
            .unwrap()
            .success()
    );
}

fn lock_holder(data: &Path) -> String {
    std::fs::read_to_string(data.join("lock"))
        .unwrap()
        .trim_start_matches("process ")
        .to_owned()
}

#[test]
fn killed_with_runs_in_it_and_started_again_it_finishes_them() {
    let dir = tempfile::tempdir().unwrap();
    let model = Server::mock_model(&["--latency-ms", "400"]);
    let up = Server::up(dir.path(), &model.url);
    up.push("ask-model");
    let batch = dir.path().join("batch.ndjson");
    let lines: String = (0..40).map(|n| format!("\"question {n}\"\n")).collect();
    std::fs::write(&batch, lines).unwrap();
    up.call(&[
        "submit",
        "ask-model",
        "--batch",
        batch.to_str().unwrap(),
        "--idempotency-key",
        "k",
    ])
    .expect(0);
    until("some run and some wait", || {
        !items(
            &up.call(&["runs", "list", "--state", "running", "--json"])
                .expect(0),
        )
        .is_empty()
    });
    assert!(
        !items(
            &up.call(&["runs", "list", "--state", "queued", "--json"])
                .expect(0)
        )
        .is_empty()
    );
    kill(&lock_holder(dir.path()), "-KILL");
    up.kill();

    let up = Server::up(dir.path(), &model.url);
    let again = [
        "submit",
        "ask-model",
        "--batch",
        batch.to_str().unwrap(),
        "--idempotency-key",
        "k",
        "--wait",
        "--wait-timeout",
        "60s",
    ];
    let again = up.call(&again).expect(0);
    assert!(again.out.contains("40 succeeded"), "{again:#?}");
    let all = items(&up.call(&["runs", "list", "--limit", "1000", "--json"]).expect(0));
    assert_eq!(all.len(), 40, "the repeated batch repeated nothing");
}

#[test]
fn doctor_on_an_embedded_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data_text = data.to_str().unwrap();
    let nothing = call(&[
        "doctor",
        "--data",
        data_text,
        "--url",
        "http://127.0.0.1:1",
        "--json",
    ])
    .expect(3)
    .json();
    let status = |report: &Value, name: &str| {
        let checks = report["checks"].as_array().unwrap().clone();
        let check = checks.into_iter().find(|check| check["check"] == name).unwrap();
        check["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(nothing["ok"], false);
    assert_eq!(status(&nothing, "store"), "fail");
    assert_eq!(status(&nothing, "dispatcher"), "fail");
    assert_eq!(status(&nothing, "model"), "warn");

    let model = Server::mock_model(&[]);
    let up = Server::up(&data, &model.url);
    let doctor = || {
        let mut command = flowfleet();
        command.args(["doctor", "--data", data_text, "--url", &up.url]);
        command
            .env("OPENAI_BASE_URL", &model.url)
            .env("OPENAI_API_KEY", "k");
        command
    };
    until("all is well", || {
        let ended = Ended::from(doctor().arg("--json").output().unwrap());
        let report = ended.json();
        ended.code == 0
            && report["checks"]
                .as_array()
                .unwrap()
                .iter()
                .all(|check| check["status"] == "ok")
    });
    let shown = Ended::from(doctor().output().unwrap()).expect(0).out;
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("ok")).count(),
        7,
        "{shown}"
    );
}
