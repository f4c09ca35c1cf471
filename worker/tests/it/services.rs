//! The same worker on PostgreSQL, RabbitMQ and Redis.

use std::process::Command;
use std::sync::atomic::Ordering;

use flowfleet_core::RunState;
use flowfleet_core::event::EventKind;
use flowfleet_core::port::RunStore as _;
use flowfleet_mock_model as mock;

use crate::flows::{answer, chain};
use crate::rig::{Backends, DEADLINE, Rig};

/// What one test has on the services, removed with it.
pub(crate) struct Services {
    server: String,
    database: String,
    pool: String,
}

impl Services {
    pub(crate) fn create() -> Self {
        let server = variable(
            "FLOWFLEET_TEST_POSTGRES",
            "postgres://postgres@127.0.0.1:5432/postgres",
        );
        let services = Self {
            server,
            database: format!("ff_worker_{}", unique()),
            pool: format!("it-{}", unique()),
        };
        services.sql(&format!("CREATE DATABASE {}", services.database));
        services
    }

    pub(crate) async fn rig(&self, model: mock::Config) -> Rig {
        let redis = variable("FLOWFLEET_TEST_REDIS", "redis://127.0.0.1:6379");
        let backends = Backends {
            store: Some(format!(
                "{}/{}",
                self.server.rsplit_once('/').unwrap().0,
                self.database
            )),
            queue: variable("FLOWFLEET_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/%2f"),
            bus: format!("{redis}?prefix=ff-worker-{}", unique()),
            pool: self.pool.clone(),
        };
        Rig::on(model, backends).await
    }

    fn sql(&self, statement: &str) {
        let output = Command::new("psql")
            .args([&self.server, "-XAtqc", statement])
            .output()
            .expect("psql runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.sql(&format!("DROP DATABASE {} WITH (FORCE)", self.database));
        for priority in ["high", "normal", "low"] {
            let queue = format!("flowfleet.{}.{priority}", self.pool);
            // Elsewhere than on the broker's host an empty queue is left behind.
            let _ = Command::new("rabbitmqctl")
                .args(["-q", "delete_queue", &queue])
                .output();
        }
    }
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn unique() -> String {
    flowfleet_core::RunId::generate().to_string().replace('-', "")
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_on_real_services() {
    let services = Services::create();
    let rig = services
        .rig(mock::Config {
            latency_ms: 10,
            ..mock::Config::default()
        })
        .await;
    let first = rig.worker(|config| config.slots = 16).await;
    let _second = rig.worker(|config| config.slots = 16).await;
    let flow = rig.flow(&chain(2)).await;
    let runs: Vec<_> = (0..150).map(|n| rig.run(&flow, &format!("run {n}"))).collect();
    let ids = rig.submit(&runs).await;
    rig.event(ids[20], EventKind::NodeFinished, 1).await;
    // One of them leaves in the middle.
    first.shutdown.drain();
    first.ended(DEADLINE).await;
    for (n, id) in ids.into_iter().enumerate() {
        let view = rig.state(id, RunState::Succeeded).await;
        assert_eq!(rig.output(&view).await, answer(2, &format!("run {n}")));
        assert_eq!(view.attempt, 1);
    }
    assert!(rig.store.most_running.load(Ordering::SeqCst) <= 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_travels_over_redis() {
    let services = Services::create();
    let rig = services
        .rig(mock::Config {
            latency_ms: 60_000,
            ..mock::Config::default()
        })
        .await;
    let _worker = rig.worker(|_| {}).await;
    let flow = rig.flow(&chain(1)).await;
    let id = rig.submit_one(rig.run(&flow, "x")).await;
    rig.event(id, EventKind::NodeStarted, 2).await;
    let began = std::time::Instant::now();
    rig.store.cancel(&rig.tenant, id).await.unwrap();
    rig.bus.cancel(id).await.unwrap();
    rig.state(id, RunState::Cancelled).await;
    assert!(began.elapsed().as_secs_f64() < 1.0, "{:?}", began.elapsed());
}
