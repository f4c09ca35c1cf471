//! The leader's check of histories, as metrics show it.

use std::time::Duration;

use flowfleet_core::run::Progress;
use flowfleet_core::{EventKind, NewEvent};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Parts, Server, quick, until};

async fn metrics(server: &Server) -> String {
    let answer = server.request(Method::GET, "/metrics").send().await.unwrap();
    answer.text().await.unwrap()
}

fn line(invariant: &str, runs: u32) -> String {
    format!("flowfleet_invariant_violations{{invariant=\"{invariant}\"}} {runs}\n")
}

#[tokio::test]
async fn a_violation_shows_in_the_metrics_while_the_fleet_works() {
    let mut parts = Parts::new().await;
    parts.config.upkeep = quick();
    let server = parts.start().await;
    server.put_flow("hello").await;
    until("zeroes", async || {
        metrics(&server).await.contains(&line("output_once", 0))
    })
    .await;
    let run = server.run().await;
    let claimed = server.claim_for(run, Duration::from_secs(600)).await;
    // A node that finishes under a lease under which it never started.
    let event = NewEvent {
        kind: EventKind::NodeFinished,
        at: jiff::Timestamp::now(),
        data: json!({"node": "a"}).into(),
    };
    let progress = Progress {
        lease: claimed.lease,
        after_seq: claimed.last_seq,
        nodes: Vec::new(),
        events: vec![event],
    };
    server.store.checkpoint(&[progress]).await.unwrap();
    until("the violation", async || {
        metrics(&server).await.contains(&line("output_once", 1))
    })
    .await;
    let text = metrics(&server).await;
    assert!(
        text.contains(&line("node_not_rerun", 1)),
        "it has no checkpoint: {text}"
    );
    for whole in [
        "ended_once",
        "sequence_whole",
        "not_stuck",
        "legal_steps",
        "attempts_add_up",
        "readable",
    ] {
        assert!(text.contains(&line(whole, 0)), "{whole}: {text}");
    }
}

#[tokio::test]
async fn checks_can_be_switched_off() {
    let mut parts = Parts::new().await;
    parts.config.upkeep = quick();
    parts.config.upkeep.audit_s = 0.0;
    let server = parts.start().await;
    until("a leader", async || {
        metrics(&server).await.contains("flowfleet_leader 1")
    })
    .await;
    until("the gauges of the leader", async || {
        let text = metrics(&server).await;
        text.contains("operation=\"backlog\"")
    })
    .await;
    assert!(!metrics(&server).await.contains("operation=\"unfinished\""));
}
