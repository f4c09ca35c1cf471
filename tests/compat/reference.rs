//! The flows through lfx, in one process, one after the other.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use flowfleet_mock_model::Handle;
use serde_json::{Value as Json, json};

use crate::case::{Case, Ended, Failed};
use crate::wheels;

/// A process of lfx.
#[derive(Debug)]
pub(crate) struct Lfx {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// lfx tells files by their whole paths.
    within: String,
}

impl Lfx {
    /// `kept` makes the classes of components once, not for each flow.
    pub(crate) fn start(pages: SocketAddr, folder: &Path, kept: bool) -> Self {
        let kept: &[&OsStr] = if kept { &["--keep-classes".as_ref()] } else { &[] };
        Self::with(pages, folder, kept)
    }

    /// One that finds what its Knowledge component asks of Langflow, and keeps what it knows in a folder.
    pub(crate) fn that_knows(pages: SocketAddr, folder: &Path, stores: &Path) -> Self {
        Self::with(pages, folder, &["--knowledge".as_ref(), stores.as_os_str()])
    }

    fn with(pages: SocketAddr, folder: &Path, arguments: &[&OsStr]) -> Self {
        let found = wheels::lfx();
        let python = if found.is_dir() {
            found.join("bin/python")
        } else {
            found
        };
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/compat/reference.py"))
            .arg(format!("http://{pages}"))
            .args(arguments)
            .current_dir(folder)
            .env("LANGFLOW_SSRF_PROTECTION_ENABLED", "false")
            .env("LANGFLOW_RESTRICT_LOCAL_FILE_ACCESS", "false")
            .env("LANGFLOW_USER_AGENT", "Langflow")
            .env("OPENAI_API_KEY", "sk-test")
            .env("DO_NOT_TRACK", "true")
            .env("LFX_LOG_LEVEL", "CRITICAL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run tests/lfx.sh");
        Self {
            questions: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            within: format!("{}/", folder.display()),
        }
    }

    pub(crate) fn run(&mut self, case: &Case, model: &Handle) -> Ended {
        let question = json!({
            "flow": case.flow,
            "input": case.input,
            "input_type": case.input_type,
            "tweaks": case.tweaks,
            "wanted": if case.nodes { "debug" } else { "chat" },
            // lfx takes 127.0.0.1 for something to replace.
            "base_url": format!("http://127.1:{}/v1", model.addr().port()),
        });
        let to = self.questions.as_mut().unwrap();
        to.write_all(format!("{question}\n").as_bytes()).unwrap();
        to.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "lfx ended with {}", case.name);
        let mut answer: Json = serde_json::from_str(&line.replace(&self.within, "")).unwrap();
        let names = |value: &Json| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
        Ended {
            outputs: match answer["error"].as_str() {
                Some(error) => Err(Failed {
                    nodes: names(&answer["failed"]),
                    text: error.to_owned(),
                }),
                None => Ok(answer["outputs"].take()),
            },
            nodes: serde_json::from_value(answer["nodes"].take()).unwrap_or_default(),
            order: names(&answer["order"]),
            asked: model
                .bodies()
                .into_iter()
                .map(|body| serde_json::from_str(&body.to_string().replace(&self.within, "")).unwrap())
                .collect(),
            cpu_ms: answer["cpu_ms"].as_f64().unwrap_or_default(),
        }
    }
}

impl Drop for Lfx {
    fn drop(&mut self) {
        // It ends with its questions.
        drop(self.questions.take());
        drop(self.child.wait());
    }
}
