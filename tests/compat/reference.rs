//! The flows through lfx, in one process, one after the other.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flowfleet_mock_model::Handle;
use serde_json::{Value as Json, json};

use crate::cases::Case;

/// How a flow ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// By component; an error's text.
    pub(crate) outputs: Result<Json, String>,
    /// Bodies of the requests that the model got.
    pub(crate) asked: Vec<Json>,
    pub(crate) cpu_ms: f64,
}

fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache"),
        PathBuf::from,
    );
    let named = std::env::var_os("FLOWFLEET_TEST_LFX").map(PathBuf::from);
    let found = named.unwrap_or_else(|| cache.join("flowfleet/bench/lfx-1.13.0"));
    if found.is_dir() {
        found.join("bin/python")
    } else {
        found
    }
}

pub(crate) fn run(cases: &[Case], models: &[Handle], pages: SocketAddr, folder: &Path) -> Vec<Ended> {
    let question: Vec<Json> = cases
        .iter()
        .zip(models)
        .map(|(case, model)| {
            // lfx takes 127.0.0.1 for something to replace.
            let base = format!("http://127.1:{}/v1", model.addr().port());
            json!({"flow": case.flow, "input": case.input, "base_url": base})
        })
        .collect();
    let mut child = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/compat/reference.py"))
        .arg(format!("http://{pages}"))
        .current_dir(folder)
        .env("LANGFLOW_SSRF_PROTECTION_ENABLED", "false")
        .env("LANGFLOW_RESTRICT_LOCAL_FILE_ACCESS", "false")
        .env("LANGFLOW_USER_AGENT", "Langflow")
        .env("OPENAI_API_KEY", "sk-test")
        .env("DO_NOT_TRACK", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run tests/lfx.sh");
    let mut stdin = child.stdin.take().unwrap();
    let body = serde_json::to_vec(&question).unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&body).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "lfx: {}", output.status);
    // lfx tells files by their whole paths.
    let within = format!("{}/", folder.display());
    let answers = String::from_utf8(output.stdout).unwrap().replace(&within, "");
    let answers: Vec<Json> = serde_json::from_str(&answers).unwrap();
    assert_eq!(answers.len(), cases.len());
    answers
        .into_iter()
        .zip(models)
        .map(|(mut answer, model)| Ended {
            outputs: match answer["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok(answer["outputs"].take()),
            },
            asked: model
                .bodies()
                .into_iter()
                .map(|body| serde_json::from_str(&body.to_string().replace(&within, "")).unwrap())
                .collect(),
            cpu_ms: answer["cpu_ms"].as_f64().unwrap_or_default(),
        })
        .collect()
}
