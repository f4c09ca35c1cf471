//! Batches from NDJSON and CSV files.

use std::process::Stdio;

use serde_json::Value;

use crate::program::{Ended, Server, flowfleet};

#[test]
fn batches_from_ndjson_csv_and_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let up = Server::up(&dir.path().join("data"), "http://127.0.0.1:1/v1");
    up.push("hello-prompt");

    let ndjson = dir.path().join("runs.ndjson");
    std::fs::write(
        &ndjson,
        "\"Ada\"\n\n{\"input\": \"Grace\", \"labels\": {\"kind\": \"line\"}}\n",
    )
    .unwrap();
    let results = dir.path().join("results.ndjson");
    let ended = up
        .call(&[
            "submit",
            "hello-prompt",
            "--batch",
            ndjson.to_str().unwrap(),
            "--wait",
            "--json",
            "--label",
            "kind=all",
            "--results",
            results.to_str().unwrap(),
        ])
        .expect(0);
    let summary = ended.json();
    assert_eq!(summary["submitted"], 2);
    assert_eq!(summary["finished"]["succeeded"], 2);
    let written = std::fs::read_to_string(&results).unwrap();
    let outputs: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(outputs[0]["output"], "Hello, Ada! This flow ran on Flowfleet.");
    assert_eq!(outputs[1]["output"], "Hello, Grace! This flow ran on Flowfleet.");
    let listed = up
        .call(&["runs", "list", "--label", "kind=line", "--json"])
        .expect(0)
        .json();
    assert_eq!(
        listed["items"].as_array().unwrap().len(),
        1,
        "a line's label wins"
    );

    let csv = dir.path().join("runs.csv");
    std::fs::write(
        &csv,
        "flow,input,label.kind,priority\nhello-prompt,\"a, b\",csv,low\nhello-prompt,c,csv,\n",
    )
    .unwrap();
    let ended = up
        .call(&["submit", "--batch", csv.to_str().unwrap(), "--wait"])
        .expect(0);
    assert!(ended.out.contains("2 succeeded"), "{ended:#?}");
    let listed = up
        .call(&["runs", "list", "--label", "kind=csv", "--json"])
        .expect(0)
        .json();
    let priorities: Vec<&str> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["priority"].as_str().unwrap())
        .collect();
    assert!(
        priorities.contains(&"low") && priorities.contains(&"normal"),
        "{priorities:?}"
    );

    let input = std::fs::File::open(&ndjson).unwrap();
    let piped = flowfleet()
        .env("FLOWFLEET_URL", &up.url)
        .args(["submit", "hello-prompt", "--batch", "-"])
        .stdin(Stdio::from(input))
        .output()
        .unwrap();
    let piped = Ended::from(piped).expect(0);
    assert_eq!(piped.out.lines().count(), 2, "ids: {piped:#?}");
}

#[test]
fn a_bad_line_is_named_and_nothing_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let up = Server::up(&dir.path().join("data"), "http://127.0.0.1:1/v1");
    up.push("hello-prompt");
    let file = dir.path().join("runs.ndjson");
    for (line, said) in [
        ("{\"input\": \"x\", \"colour\": 1}", "colour"),
        ("{\"input\": \"x\", \"queue\": \"a b\"}", "queue"),
    ] {
        std::fs::write(&file, format!("\"a\"\n\n\"b\"\n{line}\n")).unwrap();
        let ended = up
            .call(&["submit", "hello-prompt", "--batch", file.to_str().unwrap()])
            .expect(2);
        assert!(
            ended.err.contains("line 4") && ended.err.contains(said),
            "{line}: {}",
            ended.err
        );
    }
    std::fs::write(&file, "\"a\"\n{oops\n").unwrap();
    let ended = up
        .call(&["submit", "hello-prompt", "--batch", file.to_str().unwrap()])
        .expect(2);
    assert!(ended.err.contains("line 2"), "{}", ended.err);
    let listed = up.call(&["runs", "list", "--json"]).expect(0).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 0);
}

#[test]
fn more_than_one_request_and_a_failing_run() {
    let dir = tempfile::tempdir().unwrap();
    let up = Server::up(&dir.path().join("data"), "http://127.0.0.1:1/v1");
    up.push("hello-prompt");
    up.push("ask-model");
    let file = dir.path().join("runs.ndjson");
    let lines: String = (0..10_050)
        .map(|n| format!("{{\"input\": \"{n}\", \"delay_s\": 3600}}\n"))
        .collect();
    std::fs::write(&file, lines).unwrap();
    let args = [
        "submit",
        "hello-prompt",
        "--batch",
        file.to_str().unwrap(),
        "--idempotency-key",
        "k",
        "--json",
    ];
    let summary = up.call(&args).expect(0).json();
    assert_eq!(summary["submitted"], 10_050);
    let again = up.call(&args).expect(0).json();
    assert_eq!(summary["ids"], again["ids"], "repeating a batch repeats nothing");

    std::fs::write(
        &file,
        "{\"input\": \"x\", \"flow\": \"ask-model\", \"max_attempts\": 1}\n\"y\"\n",
    )
    .unwrap();
    let ended = up
        .call(&[
            "submit",
            "hello-prompt",
            "--batch",
            file.to_str().unwrap(),
            "--wait",
        ])
        .expect(1);
    assert!(ended.out.contains("1 succeeded, 1 failed"), "{ended:#?}");
}
