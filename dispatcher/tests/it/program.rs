//! The program itself: flags, what it refuses and with which exit code, metrics of its backends, signals.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_flowfleet-dispatcher");

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn output(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM)
        .args(args)
        .env("RUST_BACKTRACE", "1")
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn help_and_print_config() {
    let (code, help) = output(&["--help"], &[]);
    assert!(code == Some(0) && help.contains("Examples:"), "{help}");
    let environment = [
        ("FLOWFLEET_STORE_URL", "postgres://u:hunter2@db/x"),
        ("FLOWFLEET_UPKEEP_LEAD_S", "12"),
    ];
    let (code, printed) = output(&["--print-config", "--listen", "127.0.0.1:9"], &environment);
    assert_eq!(code, Some(0), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
    for line in [
        "listen = \"127.0.0.1:9\"",
        "store_url = \"postgres://u:***@db/x\"",
        "lead_s = 12.0",
        "batch_runs = 10000",
    ] {
        assert!(printed.lines().any(|found| found == line), "{line}: {printed}");
    }
}

#[tokio::test]
async fn refusals_are_one_line_and_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let data = format!("sqlite:{}", dir.path().join("flowfleet.db").display());
    let store = flowfleet_store::open(&data, flowfleet_store::Options::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let blobs = format!("file:{}", dir.path().join("blobs").display());
    let here = [("FLOWFLEET_STORE_URL", &*data), ("FLOWFLEET_BLOB_URL", &*blobs)];
    let with = |more: (&'static str, &'static str)| [here[0], here[1], more];
    for (args, env, code, said) in [
        (&["--config", "/no/such.toml"][..], &[][..], 2, "/no/such.toml"),
        (&["--listen", "nowhere"], &[], 2, "flag --listen: listen: "),
        (&[], &[("FLOWFLEET_DRAIN_S", "0")], 2, "drain_s must be"),
        (
            &[],
            &[("FLOWFLEET_STORE_URL", "aws-secret:prod/db#url")],
            2,
            "not available in this build; use FLOWFLEET_STORE_URL_FILE or FLOWFLEET_STORE_URL",
        ),
        (&[], &with(("FLOWFLEET_LOG", "a=b=c")), 2, "log filter"),
        (&[], &[("FLOWFLEET_STORE_URL", "mysql://x")], 3, "mysql"),
        (&[], &with(("FLOWFLEET_QUEUE_URL", "redis://x")), 3, "queue_url: "),
        (
            &["--listen", "192.0.2.1:7700"],
            &here,
            3,
            "the store has no API key",
        ),
    ] {
        let (found, text) = output(args, env);
        assert_eq!(found, Some(code), "{args:?} {env:?}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("error: ") && last.contains(said),
            "{args:?} {env:?}: {text}"
        );
        assert!(!text.to_lowercase().contains("backtrace"), "{text}");
    }
}

/// The adapters make their gauges while they open: they must find the exporter installed.
#[tokio::test]
async fn shows_its_connections_and_ends_on_sigterm() {
    let variable = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("flowfleet.db").display());
    let store = flowfleet_store::open(&database, flowfleet_store::Options::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let redis = variable("FLOWFLEET_TEST_REDIS", "redis://127.0.0.1:6379");
    let child = Command::new(PROGRAM)
        .args(["--listen", "127.0.0.1:0"])
        .env("FLOWFLEET_LOG_FORMAT", "json")
        .env("FLOWFLEET_STORE_URL", &database)
        .env("FLOWFLEET_BLOB_URL", format!("file:{}", dir.path().display()))
        .env(
            "FLOWFLEET_QUEUE_URL",
            variable("FLOWFLEET_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/%2f"),
        )
        .env(
            "FLOWFLEET_BUS_URL",
            format!("{redis}?prefix=ff-dispatcher-{}", uuid::Uuid::now_v7().simple()),
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let (sender, mut logged) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .for_each(|line| drop(sender.send(line)));
    });
    let listening = async {
        loop {
            let line = logged.recv().await.expect("the program goes on");
            let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
            if line["message"] == "listening" {
                return line["addr"].as_str().unwrap().to_owned();
            }
        }
    };
    let address = tokio::time::timeout(Duration::from_secs(15), listening)
        .await
        .unwrap();
    until("the connections", async || {
        let text = reqwest::get(format!("http://{address}/metrics"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let shown = |line: &str| text.lines().any(|found| found == line);
        shown("flowfleet_broker_connected 1")
            && text
                .lines()
                .any(|line| line.starts_with("flowfleet_bus_connected{") && line.ends_with(" 1"))
            && shown("# HELP flowfleet_broker_connected 1 while connected to the broker")
    })
    .await;

    let pid = child.0.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(kill.success());
    let mut status = None;
    until("the end", async || {
        status = child.0.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}
