//! Flows through Langflow's lfx and through this engine, to compare what they print.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use flowfleet_engine::EngineKind;
use serde_json::{Value as Json, json};

use crate::draw::Draw;
use crate::run::{Runner, plan};

/// The interpreter that `tests/lfx.sh` installs.
pub(crate) fn python() -> PathBuf {
    let cache = || {
        let home = std::env::var("HOME").unwrap();
        std::env::var("XDG_CACHE_HOME").map_or_else(|_| PathBuf::from(home).join(".cache"), PathBuf::from)
    };
    let named = std::env::var_os("FLOWFLEET_TEST_LFX").map(PathBuf::from);
    let found = named.unwrap_or_else(|| cache().join("flowfleet/bench/lfx-1.13.0"));
    match found.is_dir() {
        true => found.join("bin/python"),
        false => found,
    }
}

/// What lfx makes of flows and inputs, one after the other.
pub(crate) fn theirs(cases: &[(&Draw, &str)], environment: &[(&str, &str)]) -> Vec<Json> {
    let question: Vec<Json> = cases
        .iter()
        .map(|(draw, input)| json!({"flow": draw.document, "input": input}))
        .collect();
    let mut child = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/providers.py"))
        .envs(environment.iter().copied())
        .env("DO_NOT_TRACK", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run tests/lfx.sh");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(&question).unwrap()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "lfx: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) async fn ours(draw: &Draw, runner: &Runner) -> Json {
    let plan = plan(draw);
    assert_eq!(
        plan.engine(),
        EngineKind::Native,
        "{:?}\n{}",
        plan.unsupported(),
        draw.document
    );
    match runner.run(&plan).await.result {
        Ok(outcome) => json!({"outputs": outcome.outputs}),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// A number of the environment, or the usual one.
pub(crate) fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// Numbers that look like chance, the same for one seed. Those of a generator of Marsaglia's.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// `FLOWFLEET_TEST_SEED` gives other cases than the usual ones.
    pub(crate) fn new() -> Self {
        Self(u64::wrapping_mul(number("FLOWFLEET_TEST_SEED", 1), 0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(crate) fn some<T: Clone>(&mut self, of: &[T], most: usize) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| self.one(of).clone()).collect()
    }
}

/// Which cases differ: in what they print, or in whether they fail. The words of errors are our own.
pub(crate) fn differences(cases: &[(&Draw, &str)], ours: &[Json], theirs: &[Json]) -> Vec<String> {
    assert_eq!((cases.len(), cases.len()), (ours.len(), theirs.len()));
    let failed = |ended: &Json| ended.get("error").is_some();
    cases
        .iter()
        .zip(ours.iter().zip(theirs))
        .filter(|(_, (ours, theirs))| ours != theirs && !(failed(ours) && failed(theirs)))
        .map(|((draw, input), (ours, theirs))| {
            let settings = draw.settings();
            format!("{settings} on {input}\n  ours: {ours}\n  lfx:  {theirs}")
        })
        .collect()
}
