//! For tests: asks the real thing, by the interpreter of lfx that `tests/lfx.sh` installs.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where `tests/lfx.sh` installs it.
fn cached() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("flowfleet/bench/lfx-1.13.0")
}

/// Runs a program of Python, which reads JSON and writes JSON.
pub(crate) fn ask<Q: Serialize + ?Sized, A: DeserializeOwned>(program: &str, question: &Q) -> A {
    let mut python = std::env::var_os("FLOWFLEET_TEST_LFX").map_or_else(cached, PathBuf::from);
    if python.is_dir() {
        python.push("bin/python");
    }
    let mut child = Command::new(&python)
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/lfx.sh", python.display()));
    let mut stdin = child.stdin.take().unwrap();
    let body = serde_json::to_vec(question).unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&body).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}
