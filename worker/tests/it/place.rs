//! Workers on stubs of EC2's instance metadata and of an agent of ECS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use flowfleet_core::RunState;
use flowfleet_core::event::EventKind;
use flowfleet_core::port::NoticeKind;
use flowfleet_core::run::EndedBecause;
use flowfleet_mock_model as mock;
use flowfleet_worker::Lifecycle;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::flows::{answer, chain};
use crate::rig::{DEADLINE, Rig, until};
use crate::steering::presence;

/// What a stub serves, and what it was asked.
#[derive(Debug, Clone, Default)]
struct Stub(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    pages: BTreeMap<String, String>,
    /// Answers before the first honest one.
    busy: u32,
    tokens: u32,
    /// Of the newest token.
    uses: u32,
    puts: Vec<(Timestamp, Value)>,
}

impl Stub {
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answered).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn put(&self, path: &str, page: impl Into<String>) {
        self.0.lock().unwrap().pages.insert(path.to_owned(), page.into());
    }

    fn puts(&self) -> Vec<(Timestamp, Value)> {
        self.0.lock().unwrap().puts.clone()
    }
}

/// Tokens of version 2 are good for ten questions here, so that they are renewed.
async fn answered(
    State(stub): State<Stub>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut inner = stub.0.lock().unwrap();
    let path = uri.path().to_owned();
    if method == Method::PUT && path == "/latest/api/token" {
        assert!(headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds"));
        inner.tokens += 1;
        inner.uses = 0;
        return format!("token-{}", inner.tokens).into_response();
    }
    if method == Method::PUT {
        let wish = serde_json::from_str(&body).unwrap();
        inner.puts.push((Timestamp::now(), wish));
        return "{}".into_response();
    }
    if inner.busy > 0 {
        inner.busy -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if path.starts_with("/latest/") {
        inner.uses += 1;
        let token = headers
            .get("x-aws-ec2-metadata-token")
            .map(|token| token.to_str().unwrap());
        if inner.uses > 10 || token != Some(format!("token-{}", inner.tokens).as_str()) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
    }
    match inner.pages.get(&path) {
        Some(page) => page.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn instance() -> Stub {
    let stub = Stub::default();
    let meta = |path: &str| format!("/latest/meta-data/{path}");
    stub.put(&meta("instance-id"), "i-0123");
    stub.put(&meta("instance-type"), "c7g.large");
    stub.put(&meta("placement/availability-zone"), "eu-west-1b");
    stub.put(&meta("instance-life-cycle"), "spot");
    stub.put(&meta("autoscaling/target-lifecycle-state"), "InService");
    let launched = Timestamp::now() - Duration::from_secs(40);
    stub.put(
        "/latest/dynamic/instance-identity/document",
        json!({ "pendingTime": launched, "instanceId": "i-0123" }).to_string(),
    );
    stub
}

const ACTION: &str = "/latest/meta-data/spot/instance-action";

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_in_the_middle_of_a_long_node_loses_no_finished_one() {
    let rig = Rig::new(mock::Config {
        latency_ms: 6_000,
        ..mock::Config::default()
    })
    .await;
    let stub = instance();
    let url = stub.serve().await;
    let worker = rig
        .worker(|config| {
            config.lifecycle = Lifecycle::Auto;
            config.place.metadata_url = Some(url);
            config.place.poll_s = 0.1;
            config.place.notice_s = 1.0;
            config.place.pool = Some("spot-a".to_owned());
            config.place.usd_per_hour = Some(0.03);
        })
        .await;
    let shown = until("it is present", async || presence(&rig, worker.id).await).await;
    assert_eq!(shown.lifecycle, "spot");
    let place = shown.place;
    assert_eq!(place.provider_id.as_deref(), Some("i-0123"));
    assert_eq!(place.instance_type.as_deref(), Some("c7g.large"));
    assert_eq!(place.zone.as_deref(), Some("eu-west-1b"));
    assert_eq!(
        (place.pool.as_deref(), place.usd_per_hour),
        (Some("spot-a"), Some(0.03))
    );
    assert!(
        shown
            .started_at
            .duration_since(place.launched_at.unwrap())
            .as_secs()
            >= 39
    );
    assert!(place.notice.is_none() && place.first_claim_at.is_none());

    let flow = rig.flow(&chain(2)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    // The first of two model calls is over, the second has begun.
    until("the second model is asked", async || {
        rig.mock.counts().contains_key(&answer(1, "x")).then_some(())
    })
    .await;
    // A service that asks for less, and a recommendation, change nothing.
    stub.0.lock().unwrap().busy = 2;
    let said = json!({ "noticeTime": Timestamp::now() });
    stub.put(
        "/latest/meta-data/events/recommendations/rebalance",
        said.to_string(),
    );
    let warned = until("the recommendation is shown", async || {
        presence(&rig, worker.id)
            .await
            .filter(|shown| shown.place.notice.is_some())
    })
    .await;
    assert_eq!(warned.place.notice.unwrap().kind, NoticeKind::Rebalance);
    assert!(warned.place.first_claim_at.is_some());
    let soon = Timestamp::now() + Duration::from_secs(120);
    stub.put(ACTION, json!({ "action": "terminate", "time": soon }).to_string());
    worker.ended(DEADLINE).await;

    let view = rig.get(id).await;
    assert_eq!((view.state, view.interruptions), (RunState::Queued, 1));
    assert_eq!(view.attempts[0].ended_because, Some(EndedBecause::SpotNotice));
    let _second = rig.worker(|_| {}).await;
    let view = rig.state(id, RunState::Succeeded).await;
    assert_eq!(rig.output(&view).await, answer(2, "x"));
    let counts = rig.mock.counts();
    assert_eq!((counts["x"], counts[&answer(1, "x")]), (1, 2), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_protected_before_it_claims_and_ends_when_idle() {
    let rig = Rig::new(mock::Config::default()).await;
    let stub = Stub::default();
    let task = json!({
        "TaskARN": "arn:aws:ecs:eu-west-1:1:task/fleet/abc", "LaunchType": "FARGATE",
        "CapacityProviderName": "FARGATE_SPOT", "AvailabilityZone": "eu-west-1a",
        "PullStartedAt": Timestamp::now() - Duration::from_secs(20),
    });
    stub.put("/v4/task", task.to_string());
    let url = stub.serve().await;
    let environment = BTreeMap::from([
        ("ECS_CONTAINER_METADATA_URI_V4".to_owned(), format!("{url}/v4")),
        ("ECS_AGENT_URI".to_owned(), format!("{url}/api")),
        ("OPENAI_BASE_URL".to_owned(), rig.mock.base_url()),
        ("OPENAI_API_KEY".to_owned(), "test-key".to_owned()),
    ]);
    let worker = rig
        .worker_in(
            Arc::new(move |name: &str| environment.get(name).cloned()),
            |config| {
                config.lifecycle = Lifecycle::Auto;
                config.idle_exit_s = 6.0;
            },
        )
        .await;
    let shown = until("it is present", async || presence(&rig, worker.id).await).await;
    assert_eq!(shown.lifecycle, "fargate");
    assert_eq!(
        shown.place.provider_id.as_deref(),
        Some("arn:aws:ecs:eu-west-1:1:task/fleet/abc")
    );
    assert_eq!(shown.place.pool.as_deref(), Some("FARGATE_SPOT"));
    assert!(stub.puts().is_empty(), "an idle task may be stopped");

    let flow = rig.flow(&chain(1)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    rig.state(id, RunState::Succeeded).await;
    let (protected, wish) = stub.puts()[0].clone();
    assert_eq!(wish, json!({ "ProtectionEnabled": true, "ExpiresInMinutes": 60 }));
    assert!(protected <= rig.event(id, EventKind::RunStarted, 1).await.at);

    worker.ended(DEADLINE).await;
    let puts: Vec<_> = stub.puts().into_iter().map(|(_, wish)| wish).collect();
    assert_eq!(puts.len(), 2, "{puts:?}");
    assert_eq!(puts[1], json!({ "ProtectionEnabled": false }));
    assert!(rig.bus.workers().await.unwrap().is_empty());
}
