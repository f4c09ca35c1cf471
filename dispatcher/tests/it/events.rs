//! Event streams: replay, follow, resume, holes.

use std::time::Duration;

use eventsource_stream::Eventsource;
use flowfleet_core::event::{EventKind, NewEvent};
use flowfleet_core::port::{Fenced, Live};
use flowfleet_core::run::Progress;
use flowfleet_core::{Lease, RunEvent, RunId};
use futures::{Stream, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Server;

#[derive(Debug, Clone, PartialEq)]
struct Seen {
    id: Option<u64>,
    kind: String,
    data: Value,
}

async fn stream(server: &Server, run: RunId, after: Option<u64>) -> impl Stream<Item = Seen> + Unpin + use<> {
    let mut request = server.request(Method::GET, &format!("/v1/runs/{run}/events"));
    if let Some(after) = after {
        request = request.header("Last-Event-ID", after.to_string());
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let events = response.bytes_stream().eventsource().map(|event| {
        let event = event.unwrap();
        let id = event.id.parse().ok().filter(|_| event.event != "node.token");
        Seen {
            id,
            kind: event.event,
            data: serde_json::from_str(&event.data).unwrap(),
        }
    });
    Box::pin(events)
}

async fn next(stream: &mut (impl Stream<Item = Seen> + Unpin)) -> Option<Seen> {
    tokio::time::timeout(Duration::from_secs(15), stream.next())
        .await
        .expect("an event in time")
}

async fn rest(mut stream: impl Stream<Item = Seen> + Unpin) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(event) = next(&mut stream).await {
        seen.push(event);
    }
    seen
}

fn kinds(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|event| event.kind.as_str()).collect()
}

/// Appends node events as a worker does; the caller decides whether the bus hears of them.
async fn progress(server: &Server, lease: Lease, nodes: &[&str]) -> Vec<RunEvent> {
    let events = nodes.iter().map(|node| NewEvent {
        kind: EventKind::NodeFinished,
        at: jiff::Timestamp::now(),
        data: json!({"node": node}).into(),
    });
    let read = server.store.histories_of(&[lease.run]).await.unwrap();
    let progress = Progress {
        lease,
        after_seq: read.runs[0].last_seq,
        nodes: Vec::new(),
        events: events.collect(),
    };
    match server.store.checkpoint(&[progress]).await.unwrap().pop().unwrap() {
        Fenced::Applied { events } => events,
        Fenced::Stale => panic!("the lease was lost"),
    }
}

#[tokio::test]
async fn a_stream_replays_follows_and_ends() {
    let server = Server::with_flow().await;
    let run = server.run().await;
    let mut events = stream(&server, run, None).await;
    assert_eq!(next(&mut events).await.unwrap().kind, "run.queued");
    let claimed = server.claim(run).await;
    let stored = progress(&server, claimed.lease, &["a"]).await;
    server
        .bus
        .publish(vec![Live::Events { events: stored }])
        .await
        .unwrap();
    let token = Live::Token {
        run,
        node: "a".to_owned(),
        text: "Hel".to_owned(),
    };
    server.bus.publish(vec![token]).await.unwrap();
    server.finish(&claimed, json!("x")).await;
    let seen = rest(events).await;
    let stored: Vec<_> = seen
        .iter()
        .filter(|event| event.kind != "node.token")
        .cloned()
        .collect();
    // The start was never announced: the hole was filled from the store.
    assert_eq!(kinds(&stored), ["run.started", "node.finished", "run.succeeded"]);
    assert_eq!(
        stored.iter().filter_map(|event| event.id).collect::<Vec<_>>(),
        [2, 3, 4]
    );
    let token = seen
        .iter()
        .find(|event| event.kind == "node.token")
        .expect("the token was live");
    assert_eq!(
        (token.id, token.data["data"]["text"].as_str()),
        (None, Some("Hel"))
    );
    assert_eq!(stored[1].data["data"]["node"], "a");
    assert_eq!(stored[1].data["seq"], 3);
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event_seen() {
    let server = Server::with_flow().await;
    let run = server.run().await;
    let claimed = server.claim(run).await;
    progress(&server, claimed.lease, &["a", "b", "c"]).await;
    let mut first = stream(&server, run, None).await;
    for _ in 0..3 {
        next(&mut first).await.unwrap();
    }
    drop(first);
    let mut resumed = stream(&server, run, Some(3)).await;
    assert_eq!(next(&mut resumed).await.unwrap().id, Some(4));
    server.finish(&claimed, json!("x")).await;
    assert_eq!(kinds(&rest(resumed).await), ["node.finished", "run.succeeded"]);
    let again = rest(stream(&server, run, Some(5)).await).await;
    assert_eq!(kinds(&again), ["run.succeeded"]);
    let path = format!("/v1/runs/{run}/events");
    let ask = async |id: &str| {
        server
            .request(Method::GET, &path)
            .header("Last-Event-ID", id)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(
        ask("6").await.status(),
        StatusCode::NO_CONTENT,
        "nothing more to tell"
    );
    assert_eq!(ask("7").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(ask("x").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let all = rest(stream(&server, run, None).await).await;
    assert_eq!(
        all.iter().filter_map(|event| event.id).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
}

#[tokio::test]
async fn what_the_bus_lost_or_repeats_changes_nothing() {
    let server = Server::with_flow().await;
    let run = server.run().await;
    let mut events = stream(&server, run, None).await;
    next(&mut events).await.unwrap();
    let claimed = server.claim(run).await;
    let lost = progress(&server, claimed.lease, &["a", "b"]).await;
    let heard = progress(&server, claimed.lease, &["c"]).await;
    server
        .bus
        .publish(vec![Live::Events {
            events: heard.clone(),
        }])
        .await
        .unwrap();
    for expected in 2..=5 {
        assert_eq!(next(&mut events).await.unwrap().id, Some(expected));
    }
    // Late and repeated messages.
    server
        .bus
        .publish(vec![
            Live::Events { events: lost },
            Live::Events { events: heard },
        ])
        .await
        .unwrap();
    server.bus.publish(vec![Live::Lagged]).await.unwrap_or_default();
    // Never announced: found by looking.
    progress(&server, claimed.lease, &["d"]).await;
    assert_eq!(next(&mut events).await.unwrap().id, Some(6));
    server.finish(&claimed, json!("x")).await;
    assert_eq!(kinds(&rest(events).await), ["run.succeeded"]);
}

#[tokio::test]
async fn cancelling_a_waiting_run_ends_its_stream() {
    let server = Server::with_flow().await;
    let run = server.run().await;
    let mut events = stream(&server, run, None).await;
    next(&mut events).await.unwrap();
    server.post(&format!("/v1/runs/{run}/cancel"), &Value::Null).await;
    assert_eq!(kinds(&rest(events).await), ["run.cancelled"]);
}

#[tokio::test]
async fn streams_are_bounded() {
    let mut parts = crate::harness::Parts::new().await;
    parts.config.limits.listeners = 1;
    let server = parts.start().await;
    server.put_flow("hello").await;
    let run = server.run().await;
    let mut open = stream(&server, run, None).await;
    next(&mut open).await.unwrap();
    let (status, problem) = server.get(&format!("/v1/runs/{run}/events")).await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (503, Some("overloaded"))
    );
    assert_eq!(
        server.get(&format!("/v1/runs/{run}?wait_s=1")).await.0.as_u16(),
        503
    );
    drop(open);
    crate::harness::until("a place", async || {
        server.get(&format!("/v1/runs/{run}?wait_s=0")).await.0 == StatusCode::OK
    })
    .await;
}
