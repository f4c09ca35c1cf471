//! The first command of the README.

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
