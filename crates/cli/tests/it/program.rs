//! Running the program: to its end, or as a server that ends with the test.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The program with a clean environment.
pub(crate) fn flowfleet() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowfleet"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("FLOWFLEET_") || name.starts_with("OPENAI_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Fails with everything it said unless it ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs it to its end.
pub(crate) fn call(args: &[&str]) -> Ended {
    flowfleet().args(args).output().unwrap().into()
}

/// The items of a listing.
pub(crate) fn items(ended: &Ended) -> Vec<Value> {
    ended.json()["items"].as_array().unwrap().clone()
}

/// An example flow of the repository.
pub(crate) fn example(name: &str) -> String {
    format!("{}/../../examples/flows/{name}.json", env!("CARGO_MANIFEST_DIR"))
}

/// A server process, killed with the test.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    /// Starts it and reads its first line, which is JSON with `key`.
    pub(crate) fn start(command: &mut Command, key: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let url = said[key]
            .as_str()
            .unwrap_or_else(|| panic!("no {key}: {line}"))
            .to_owned();
        Self { child, url }
    }

    /// The embedded fleet on a data directory.
    pub(crate) fn up(data: &Path, model: &str) -> Self {
        let mut command = flowfleet();
        command
            .args([
                "up",
                "--listen",
                "127.0.0.1:0",
                "--json",
                "--slots",
                "4",
                "--data",
            ])
            .arg(data);
        command
            .env("OPENAI_BASE_URL", model)
            .env("OPENAI_API_KEY", "test");
        Self::start(&mut command, "url")
    }

    /// The mock model with some options.
    pub(crate) fn mock_model(options: &[&str]) -> Self {
        let mut command = flowfleet();
        command
            .args(["mock-model", "--listen", "127.0.0.1:0", "--json"])
            .args(options);
        Self::start(&mut command, "base_url")
    }

    /// Calls the program as a client of this server.
    pub(crate) fn call(&self, args: &[&str]) -> Ended {
        flowfleet()
            .env("FLOWFLEET_URL", &self.url)
            .args(args)
            .output()
            .unwrap()
            .into()
    }

    pub(crate) fn push(&self, flow: &str) {
        self.call(&["flows", "push", &example(flow)]).expect(0);
    }

    /// The state of a run.
    pub(crate) fn state(&self, id: &str) -> String {
        let run = self.call(&["runs", "show", id, "--json"]).expect(0).json();
        run["state"].as_str().unwrap().to_owned()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn terminate(mut self) -> i32 {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "it did not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !check() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
