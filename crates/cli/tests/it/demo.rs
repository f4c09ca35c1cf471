//! The first command of the README.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::program::{Ended, flowfleet};

#[test]
fn the_demo_shows_results_and_leaves_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let output = flowfleet()
        .current_dir(dir.path())
        .args(["demo", "--exit", "--runs", "60", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let ended = Ended::from(output).expect(0);
    for said in [
        "mock model",
        "hello-prompt",
        "route-and-ask",
        "60 succeeded",
        "Hello, Ada! This flow ran on Flowfleet.",
        "p95",
        "run.succeeded",
        "echo: Why do fleets need leases?",
    ] {
        assert!(ended.out.contains(said), "{said}: {}", ended.out);
    }
    assert!(!ended.out.contains('\x1b'), "colours only on a terminal");
    assert!(dir.path().join(".flowfleet/demo/flowfleet.db").exists());
}

#[test]
fn the_demo_stays_up_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let demo = || {
        let mut command = flowfleet();
        command
            .current_dir(dir.path())
            .args(["demo", "--runs", "6", "--listen", "127.0.0.1:0"]);
        command
    };
    let mut running = demo().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap());
    let next = lines.find(|line| line.contains("submit hello-prompt")).unwrap();
    let url = next.rsplit(' ').next().unwrap().to_owned();
    lines.find(|line| line.contains("Ctrl-C")).unwrap();

    let second = Ended::from(demo().arg("--exit").output().unwrap()).expect(3);
    assert!(second.err.contains("another flowfleet"), "{}", second.err);
    let submit = [
        "submit",
        "hello-prompt",
        "--input",
        "Grace",
        "--wait",
        "--url",
        &url,
    ];
    let submitted = Ended::from(flowfleet().args(submit).output().unwrap()).expect(0);
    assert_eq!(submitted.out, "Hello, Grace! This flow ran on Flowfleet.\n");

    let id = running.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(running.wait().unwrap().success());
}
