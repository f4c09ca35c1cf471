//! `doctor --deep` on stores that are whole and on stores that were damaged on purpose.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::port::{Claim, Store};
use flowfleet_core::run::{Ending, Finish, NewRun, NodeCheckpoint, Progress, RunSettings, Usage};
use flowfleet_core::{EventKind, FlowVersion, Lease, NewEvent, Payload, Priority, RunId, WorkerId};
use serde_json::{Value, json};

use crate::program::{Ended, call};

fn sql(program: &mut Command) {
    let output = program.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn server() -> String {
    std::env::var("FLOWFLEET_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

fn psql(url: &str, statement: &str) {
    sql(Command::new("psql").args([url, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement]));
}

/// A database of this test, dropped with it.
struct Database {
    url: String,
    name: Option<String>,
    _dir: tempfile::TempDir,
}

impl Database {
    fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite:{}", dir.path().join("flowfleet.db").display()),
            name: None,
            _dir: dir,
        }
    }

    fn postgres() -> Self {
        let name = format!("ff_deep_{}", uuid::Uuid::now_v7().simple());
        psql(&server(), &format!("CREATE DATABASE {name}"));
        let mut url = url::Url::parse(&server()).unwrap();
        url.set_path(&name);
        Self {
            url: url.to_string(),
            name: Some(name),
            _dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Changes it behind the store's back.
    fn tamper(&self, statements: &str) {
        let script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
        match self.url.strip_prefix("sqlite:") {
            Some(path) => sql(Command::new("python3").args(["-c", script, path, statements])),
            None => psql(&self.url, statements),
        }
    }

    fn doctor(&self, more: &[&str]) -> Ended {
        call(&[&["doctor", "--deep", "--store", self.url.as_str()], more].concat())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            psql(&server(), &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

fn new_run() -> NewRun {
    NewRun {
        id: RunId::generate(),
        tenant: "default".parse().unwrap(),
        flow: FlowVersion {
            name: "hello".parse().unwrap(),
            version: 1,
            digest: "d".to_owned(),
        },
        queue: "default".parse().unwrap(),
        needs: Default::default(),
        priority: Priority::Normal,
        input: Payload::Inline(json!({"input": "hi"})),
        settings: RunSettings::default(),
        session_id: None,
        labels: Default::default(),
        run_at: None,
        reckoned_at: None,
        expires_at: None,
        idempotency: None,
        trace: None,
        replay_of: None,
    }
}

/// A fleet's hand: stores runs and plays their worker.
struct Fleet {
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Runtime,
}

impl Fleet {
    fn on(database: &Database) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = runtime.block_on(async {
            let store = flowfleet_store::open(&database.url, flowfleet_store::Options::default())
                .await
                .unwrap();
            store.migrate().await.unwrap();
            store
        });
        Self { store, runtime }
    }

    fn queued(&self) -> RunId {
        let run = new_run();
        self.runtime.block_on(async {
            let outbox = self
                .store
                .submit(std::slice::from_ref(&run))
                .await
                .unwrap()
                .outbox
                .unwrap();
            self.store.outbox_done(&[outbox.id]).await.unwrap();
        });
        run.id
    }

    /// Running, its node `a` done.
    fn running(&self) -> (RunId, Lease) {
        let run = self.queued();
        let event = |kind| NewEvent {
            kind,
            at: jiff::Timestamp::now(),
            data: json!({"node": "a"}).into(),
        };
        self.runtime.block_on(async {
            let ttl = Duration::from_secs(600);
            let claims = self
                .store
                .claim(WorkerId::generate(), &Default::default(), &[run], ttl)
                .await
                .unwrap();
            let [Claim::Claimed(claimed)] = &claims[..] else {
                panic!("not claimed")
            };
            let node = NodeCheckpoint {
                node: "a".to_owned(),
                output: Payload::Inline(json!(1)),
            };
            let done = Progress {
                lease: claimed.lease,
                after_seq: claimed.last_seq,
                nodes: vec![node],
                events: vec![event(EventKind::NodeStarted), event(EventKind::NodeFinished)],
            };
            self.store.checkpoint(&[done]).await.unwrap();
            (run, claimed.lease)
        })
    }

    fn ended(&self) -> RunId {
        let (run, lease) = self.running();
        let finish = Finish {
            lease,
            after_seq: 0,
            ending: Ending::Succeeded,
            events: Vec::new(),
            output: Payload::null(),
            outputs: Payload::null(),
            error: None,
            usage: Usage::default(),
            nodes_reused: 0,
        };
        self.runtime.block_on(self.store.finish(&[finish])).unwrap();
        run
    }
}

/// One more event of a run.
fn event(run: RunId, kind: &str) -> String {
    let text = json!([{"k": kind, "t": 0, "d": {"node": "a"}}]);
    format!(
        "INSERT INTO run_events SELECT id, last_seq + 1, 1, '{text}' FROM runs WHERE id = '{run}';
         UPDATE runs SET last_seq = last_seq + 1 WHERE id = '{run}';"
    )
}

/// Damages the store in every way, and says which run must be named for what.
fn damage(database: &Database, fleet: &Fleet) -> Vec<(&'static str, RunId)> {
    let postgres = database.name.is_some();
    let day = if postgres {
        "interval '1 day'"
    } else {
        "86400000000"
    };
    let (twice, two_epochs, again) = (fleet.ended(), fleet.running().0, fleet.running().0);
    let (hole, lapsed, unleased) = (fleet.ended(), fleet.running().0, fleet.queued());
    let (uncounted, kept, gone, odd) = (fleet.running().0, fleet.ended(), fleet.ended(), fleet.ended());
    let statements = [
        event(twice, "run.failed"),
        event(two_epochs, "node.finished"),
        event(again, "node.started"),
        format!("DELETE FROM run_events WHERE run_id = '{hole}' AND first_seq = 3;"),
        format!("UPDATE runs SET lease_until = created_at - {day} WHERE id = '{lapsed}';"),
        event(unleased, "node.failed"),
        format!("UPDATE runs SET epoch = epoch + 1 WHERE id = '{uncounted}';"),
        format!("INSERT INTO checkpoints VALUES ('{kept}', 'a', 'null');"),
        format!("DELETE FROM runs WHERE id = '{gone}';"),
        format!("UPDATE run_data SET settings = 'odd' WHERE run_id = '{odd}';"),
    ];
    database.tamper(&statements.concat());
    vec![
        ("ended_once", twice),
        ("output_once", two_epochs),
        ("node_not_rerun", again),
        ("sequence_whole", hole),
        ("not_stuck", lapsed),
        ("legal_steps", unleased),
        ("attempts_add_up", uncounted),
        ("nothing_orphaned", kept),
        ("nothing_orphaned", gone),
        ("readable", odd),
    ]
}

fn every_damage_is_named(database: &Database) {
    let fleet = Fleet::on(database);
    fleet.queued();
    fleet.running();
    fleet.ended();
    let whole = database.doctor(&["--json"]).expect(0).json();
    assert_eq!(
        (&whole["ok"], &whole["violations"], &whole["runs"]),
        (&json!(true), &json!(0), &json!(3))
    );

    let expected = damage(database, &fleet);
    let broken = database.doctor(&["--json", "--since", "all"]).expect(1).json();
    assert_eq!((&broken["ok"], &broken["runs"]), (&json!(false), &json!(12)));
    let found = broken["found"].as_array().unwrap();
    for (invariant, run) in &expected {
        let told = |v: &&Value| v["invariant"] == *invariant && v["run"] == run.to_string();
        let violation = found
            .iter()
            .find(told)
            .unwrap_or_else(|| panic!("{invariant} {run}: {broken:#}"));
        assert!(!violation["detail"].as_str().unwrap().is_empty());
        assert!(!violation["advice"].as_str().unwrap().is_empty());
        assert!(broken["invariants"][invariant].as_u64().unwrap() > 0);
    }
    assert_eq!(broken["violations"], found.len());
    for violation in found {
        let run = violation["run"].as_str().unwrap();
        assert!(
            expected.iter().any(|(_, r)| r.to_string() == run),
            "{violation} is no damage"
        );
    }

    let shown = database.doctor(&[]).expect(1);
    for (invariant, _) in &expected {
        assert!(shown.out.contains(&format!("fail  {invariant}")), "{}", shown.out);
    }
    assert!(
        shown.out.contains("try:") && shown.out.contains("more"),
        "{}",
        shown.out
    );
    assert!(
        shown.err.contains("12 runs") && shown.err.contains("violations"),
        "{}",
        shown.err
    );

    // Nothing of it was submitted later than now.
    let later = database
        .doctor(&["--json", "--since", "2100-01-01T00:00:00Z"])
        .expect(0)
        .json();
    assert_eq!((&later["runs"], &later["violations"]), (&json!(0), &json!(0)));
}

#[test]
fn every_damage_of_a_sqlite_store_is_named() {
    every_damage_is_named(&Database::sqlite());
}

#[test]
fn every_damage_of_a_postgresql_store_is_named() {
    every_damage_is_named(&Database::postgres());
}

#[test]
fn messages_that_nobody_sent_are_stuck_once_they_are_old() {
    let database = Database::sqlite();
    let fleet = Fleet::on(&database);
    fleet.runtime.block_on(fleet.store.submit(&[new_run()])).unwrap();
    assert_eq!(database.doctor(&["--json"]).expect(0).json()["violations"], 0);
    let found = database.doctor(&["--json", "--slack", "0"]).expect(1).json();
    assert_eq!(found["invariants"]["not_stuck"], 1);
    assert!(
        found["found"][0]["detail"].as_str().unwrap().contains("outbox"),
        "{found:#}"
    );
}

#[test]
fn many_pages_are_walked_to_their_end() {
    let database = Database::sqlite();
    let fleet = Fleet::on(&database);
    let runs: Vec<NewRun> = (0..600).map(|_| new_run()).collect();
    fleet.runtime.block_on(fleet.store.submit(&runs)).unwrap();
    database.tamper(&format!(
        "UPDATE runs SET epoch = 1 WHERE id = '{}'",
        runs[599].id
    ));
    let found = database.doctor(&["--json"]).expect(1).json();
    assert_eq!(
        (&found["runs"], &found["violations"]),
        (&json!(600), &json!(2)),
        "{found:#}"
    );
}

#[test]
fn a_store_that_cannot_be_read_exits_with_3_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("none.db").display());
    let ended = call(&["doctor", "--deep", "--store", &url]).expect(3);
    assert!(ended.err.contains("there is no"), "{}", ended.err);
    assert!(!dir.path().join("none.db").exists(), "looking makes no store");
    std::fs::write(dir.path().join("none.db"), "").unwrap();
    let ended = call(&["doctor", "--deep", "--store", &url]).expect(3);
    assert!(ended.err.contains("flowfleet migrate"), "{}", ended.err);
    call(&["doctor", "--since", "1h"]).expect(2);
    let ended = call(&["doctor", "--deep", "--since", "yesterday"]).expect(2);
    assert!(ended.err.contains("or all"), "{}", ended.err);
}
