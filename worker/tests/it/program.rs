//! The program itself: flags, log line, health, signals.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::rig::{DEADLINE, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_flowfleet-worker");

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
    let secret = [
        ("FLOWFLEET_STORE_URL", "postgres://u:hunter2@db/x"),
        ("FLOWFLEET_LEASE_S", "12"),
    ];
    let (code, printed) = output(&["--print-config", "--slots", "9"], &secret);
    assert!(
        code == Some(0) && printed.contains("slots = 9") && printed.contains("lease_s = 12"),
        "{printed}"
    );
    assert!(
        printed.contains("postgres://u:***@db/x") && !printed.contains("hunter2"),
        "{printed}"
    );
}

#[test]
fn refusals_say_what_to_do() {
    for (args, env, code, said) in [
        (
            &["--slots", "0"][..],
            &[][..],
            2,
            "slots must be between 1 and 10000",
        ),
        (&["--config", "/no/such.toml"], &[], 2, "/no/such.toml"),
        (&[], &[("FLOWFLEET_SLOTS", "many")], 2, "FLOWFLEET_SLOTS: slots"),
        (
            &["--store-url", "aws-secret:prod/db#url"],
            &[],
            2,
            "not available in this build",
        ),
        (&["--log", "a=b=c"], &[], 2, "log filter"),
        (&["--store-url", "mysql://x"], &[], 3, "mysql"),
    ] {
        let (found, text) = output(args, env);
        assert_eq!(found, Some(code), "{args:?}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("error: ") && last.contains(said),
            "{args:?}: {text}"
        );
        assert!(!text.to_lowercase().contains("backtrace"), "{text}");
    }
}

#[tokio::test]
async fn starts_says_where_it_listens_and_drains_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("fleet.db").display());
    let store = flowfleet_store::open(&database, flowfleet_store::Options::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let redis = std::env::var("FLOWFLEET_TEST_REDIS");
    let bus = format!(
        "{}?prefix=ff-worker-{}",
        redis.as_deref().unwrap_or("redis://127.0.0.1:6379"),
        flowfleet_core::RunId::generate()
    );
    let child = Command::new(PROGRAM)
        .args([
            "--store-url",
            &database,
            "--admin-listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ])
        .args(["--bus-url", &bus])
        .args(["--blob-url", &format!("file:{}", dir.path().display())])
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
    let address = tokio::time::timeout(DEADLINE, listening).await.unwrap();
    let get = |path: &'static str| reqwest::get(format!("http://{address}{path}"));
    until("the worker is ready", || async {
        let answer = get("/health/ready").await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let metrics = until("metrics are there", || async {
        let text = get("/metrics").await.ok()?.text().await.ok()?;
        // Made while the bus opens: the exporter must have been installed before.
        let connected = text
            .lines()
            .any(|line| line.starts_with("flowfleet_bus_connected{") && line.ends_with(" 1"));
        (connected && text.contains("flowfleet_worker_boot_seconds_bucket")).then_some(text)
    })
    .await;
    assert!(
        metrics.contains("flowfleet_build_info{service=\"worker\""),
        "{metrics}"
    );
    assert!(
        metrics.contains("flowfleet_slots{lifecycle=\"local\",state=\"free\"} 64"),
        "{metrics}"
    );

    let pid = child.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let status = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(status.await.unwrap().success());
}
