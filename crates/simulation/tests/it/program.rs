//! The program: what it prints and how it exits.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_flowfleet-simulation"));
    program.args(args).output().expect("the program starts")
}

fn text(output: &Output) -> String {
    let bytes = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_number_of_histories_is_played_and_counted() {
    let played = run(&[
        "--seed",
        "1",
        "--histories",
        "200",
        "--threads",
        "1",
        "--coverage",
    ]);
    let said = text(&played);
    assert_eq!(played.status.code(), Some(0), "{said}");
    for line in [
        "from seed 1, 1 threads",
        "200 histories in",
        "fault: a worker crashes",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
}

#[test]
fn a_missing_rule_is_found_shrunk_and_replayed() {
    let found = run(&["--seed", "0", "--without", "NoScheduler"]);
    let said = text(&found);
    assert_eq!(found.status.code(), Some(1), "{said}");
    assert!(said.contains("broken: every run ends when faults end"), "{said}");
    let tape = said
        .split_once("--replay ")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .expect("a tape to replay");
    let again = run(&["--replay", tape, "--without", "NoScheduler"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    let innocent = run(&["--replay", tape]);
    assert_eq!(innocent.status.code(), Some(0), "{}", text(&innocent));
    assert!(text(&innocent).contains("no invariant is broken"));
}

#[test]
fn what_is_no_tape_rule_or_time_is_a_mistake_of_usage() {
    for args in [
        ["--replay", "0g"],
        ["--without", "Gravity"],
        ["--minutes", "0"],
        ["--seed", "x"],
    ] {
        let refused = run(&args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {}", text(&refused));
    }
}
