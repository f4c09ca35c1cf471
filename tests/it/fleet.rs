//! A fleet of real processes: dispatchers and workers, a mock model, and an HTTP client for them.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use eventsource_stream::Eventsource;
use flowfleet_mock_model as mock;
pub(crate) use flowfleet_tests::process::{Process, binary, free_address, until};
use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::services::{self, Database};

/// Everything one test needs.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) url: String,
    pub(crate) pool: String,
    pub(crate) mock: mock::Handle,
    pub(crate) database: Database,
    pub(crate) dispatcher: Option<Process>,
    pub(crate) workers: Vec<Process>,
    pub(crate) client: reqwest::Client,
    data: tempfile::TempDir,
}

/// One server-sent event.
#[derive(Debug, Clone)]
pub(crate) struct SseEvent {
    pub(crate) id: Option<u64>,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

impl Fleet {
    /// A dispatcher and `workers` workers on PostgreSQL, RabbitMQ and Redis.
    pub(crate) async fn start(workers: usize, model: mock::Config) -> anyhow::Result<Self> {
        let database = Database::create()?;
        let mock = mock::spawn(model).await?;
        let mut fleet = Self {
            url: String::new(),
            pool: format!("it-{}", Uuid::now_v7().simple()),
            mock,
            database,
            dispatcher: None,
            workers: Vec::new(),
            client: reqwest::Client::new(),
            data: tempfile::tempdir()?,
        };
        let migrated = fleet.command("flowfleet").arg("migrate").output()?;
        ensure!(
            migrated.status.success(),
            "migrate: {}",
            String::from_utf8_lossy(&migrated.stderr)
        );
        fleet.start_dispatcher().await?;
        for _ in 0..workers {
            fleet.start_worker(&[]).await?;
        }
        Ok(fleet)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary(name));
        command
            .env("FLOWFLEET_STORE_URL", &self.database.url)
            .env("FLOWFLEET_QUEUE_URL", services::rabbitmq_url())
            .env("FLOWFLEET_BUS_URL", services::redis_url())
            .env(
                "FLOWFLEET_BLOB_URL",
                format!("file:{}", self.data.path().display()),
            )
            .env(
                "FLOWFLEET_LOG",
                std::env::var("FLOWFLEET_LOG").unwrap_or_else(|_| "warn".to_owned()),
            )
            .env("OPENAI_BASE_URL", self.mock.base_url())
            .env("OPENAI_API_KEY", "test-key");
        command
    }

    pub(crate) async fn start_dispatcher(&mut self) -> anyhow::Result<()> {
        let address = free_address()?;
        self.url = format!("http://{address}");
        let child = self
            .command("flowfleet-dispatcher")
            .env("FLOWFLEET_LISTEN", &address)
            .spawn()?;
        let process = Process {
            child,
            name: "dispatcher",
            admin: self.url.clone(),
        };
        self.ready(&process).await?;
        self.dispatcher = Some(process);
        Ok(())
    }

    /// A worker of this fleet's pool; `settings` are environment variables.
    pub(crate) async fn start_worker(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let address = free_address()?;
        let child = self
            .command("flowfleet-worker")
            .env("FLOWFLEET_ADMIN_LISTEN", &address)
            .env("FLOWFLEET_QUEUES", &self.pool)
            .env("FLOWFLEET_LEASE_S", "3")
            .envs(settings.iter().copied())
            .spawn()?;
        let process = Process {
            child,
            name: "worker",
            admin: format!("http://{address}"),
        };
        self.ready(&process).await?;
        self.workers.push(process);
        Ok(())
    }

    async fn ready(&self, process: &Process) -> anyhow::Result<()> {
        until(
            &format!("the {} is ready", process.name),
            Duration::from_secs(60),
            || async {
                let answer = self
                    .client
                    .get(format!("{}/health/ready", process.admin))
                    .send()
                    .await;
                Ok(answer.is_ok_and(|a| a.status().is_success()).then_some(()))
            },
        )
        .await
    }

    pub(crate) async fn put_flow(&self, name: &str, flow: &Value) -> anyhow::Result<Value> {
        let answer = self
            .client
            .put(format!("{}/v1/flows/{name}", self.url))
            .json(flow)
            .send()
            .await?;
        body(answer, &[StatusCode::OK, StatusCode::CREATED]).await
    }

    /// A run of this fleet's pool.
    pub(crate) fn run(&self, flow: &str, input: &str) -> Value {
        json!({"flow": flow, "input": input, "queue": self.pool})
    }

    pub(crate) async fn submit(&self, run: &Value) -> anyhow::Result<String> {
        let answer = self
            .client
            .post(format!("{}/v1/runs", self.url))
            .json(run)
            .send()
            .await?;
        let body = body(answer, &[StatusCode::ACCEPTED]).await?;
        Ok(body["id"].as_str().context("an id")?.to_owned())
    }

    /// Submits a run and waits for its end.
    pub(crate) async fn complete(&self, run: &Value) -> anyhow::Result<Value> {
        let id = self.submit(run).await?;
        self.wait(&id, Duration::from_secs(60)).await
    }

    pub(crate) async fn get(&self, id: &str) -> anyhow::Result<Value> {
        let answer = self
            .client
            .get(format!("{}/v1/runs/{id}", self.url))
            .send()
            .await?;
        body(answer, &[StatusCode::OK]).await
    }

    /// Waits until a run has ended.
    pub(crate) async fn wait(&self, id: &str, within: Duration) -> anyhow::Result<Value> {
        until(&format!("run {id} ends"), within, || async {
            let answer = self
                .client
                .get(format!("{}/v1/runs/{id}?wait_s=5", self.url))
                .send()
                .await?;
            let run = body(answer, &[StatusCode::OK]).await?;
            Ok(is_final(&run).then_some(run))
        })
        .await
    }

    pub(crate) async fn submit_batch(&self, runs: &[Value]) -> anyhow::Result<Vec<String>> {
        let answer = self
            .client
            .post(format!("{}/v1/runs/batch", self.url))
            .json(&runs)
            .send()
            .await?;
        let body = body(answer, &[StatusCode::ACCEPTED]).await?;
        let ids = body["ids"].as_array().context("ids")?;
        Ok(ids
            .iter()
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect())
    }

    /// How many runs are in a state, by walking the listing to its end.
    pub(crate) async fn count(&self, state: &str) -> anyhow::Result<u64> {
        let (mut count, mut cursor) = (0, None::<String>);
        loop {
            let mut url = format!("{}/v1/runs?state={state}&limit=1000", self.url);
            if let Some(cursor) = &cursor {
                url.push_str("&cursor=");
                url.push_str(cursor);
            }
            let page = body(self.client.get(url).send().await?, &[StatusCode::OK]).await?;
            count += page["items"].as_array().context("items")?.len() as u64;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(count),
            }
        }
    }

    /// Waits until `wanted` runs have succeeded and no run is live.
    pub(crate) async fn all_succeed(&self, wanted: u64, within: Duration) -> anyhow::Result<()> {
        until(&format!("{wanted} runs have succeeded"), within, || async {
            let failed = self.count("failed").await?;
            ensure!(failed == 0, "{failed} runs failed");
            Ok((self.count("succeeded").await? == wanted).then_some(()))
        })
        .await
    }

    /// Follows the events of a run until `stop` says so or the stream ends.
    pub(crate) async fn events(
        &self,
        id: &str,
        after: Option<u64>,
        mut stop: impl FnMut(&SseEvent) -> bool,
    ) -> anyhow::Result<Vec<SseEvent>> {
        let mut request = self.client.get(format!("{}/v1/runs/{id}/events", self.url));
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after.to_string());
        }
        let answer = request.send().await?;
        ensure!(answer.status() == StatusCode::OK, "events: {}", answer.status());
        let mut stream = answer.bytes_stream().eventsource();
        let mut seen = Vec::new();
        let read = async {
            while let Some(event) = stream.next().await {
                let event = event?;
                let event = SseEvent {
                    id: event.id.parse().ok().filter(|_| event.event != "node.token"),
                    kind: event.event,
                    data: serde_json::from_str(&event.data).unwrap_or(Value::Null),
                };
                let done = stop(&event);
                seen.push(event);
                if done {
                    break;
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), read)
            .await
            .context("the stream went silent")??;
        Ok(seen)
    }

    /// The text of a process's metrics.
    pub(crate) async fn metrics(&self, process: &Process) -> anyhow::Result<String> {
        Ok(self
            .client
            .get(format!("{}/metrics", process.admin))
            .send()
            .await?
            .text()
            .await?)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.workers.clear();
        self.dispatcher = None;
        services::delete_queues(&self.pool);
    }
}

pub(crate) fn is_final(run: &Value) -> bool {
    matches!(
        run["state"].as_str(),
        Some("succeeded" | "failed" | "cancelled" | "expired")
    )
}

/// The JSON of an answer whose status is among those expected.
pub(crate) async fn body(answer: reqwest::Response, expected: &[StatusCode]) -> anyhow::Result<Value> {
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(expected.contains(&status), "{status}: {text}");
    Ok(serde_json::from_str(&text)?)
}
