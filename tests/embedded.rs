//! `flowfleet up`: a whole fleet in one process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::process::{Process, binary, free_address, until};

/// No single answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running one, and a client for it.
#[derive(Debug)]
pub struct Embedded {
    pub url: String,
    pub client: reqwest::Client,
    pub process: Process,
}

impl Embedded {
    /// With its data in `data` and its model calls to `model`.
    pub async fn start(data: &Path, model: &str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let url = format!("http://{address}");
        let child = Command::new(binary("flowfleet"))
            .args(["up", "--listen", &address, "--data"])
            .arg(data)
            .env("OPENAI_BASE_URL", model)
            .env("OPENAI_API_KEY", "test-key")
            .env(
                "FLOWFLEET_LOG",
                std::env::var("FLOWFLEET_LOG").unwrap_or_else(|_| "warn".to_owned()),
            )
            .stdout(Stdio::null())
            .spawn()?;
        let embedded = Self {
            process: Process {
                child,
                name: "flowfleet up",
                admin: url.clone(),
            },
            client: reqwest::Client::builder().timeout(PATIENCE).build()?,
            url,
        };
        until("`flowfleet up` is ready", Duration::from_secs(60), async || {
            let answer = embedded
                .client
                .get(format!("{}/health/ready", embedded.url))
                .send()
                .await;
            Ok(answer
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(()))
        })
        .await?;
        Ok(embedded)
    }

    pub async fn put_flow(&self, name: &str, flow: &Value) -> anyhow::Result<()> {
        let put = self.client.put(format!("{}/v1/flows/{name}", self.url));
        put.json(flow).send().await?.error_for_status()?;
        Ok(())
    }

    /// What it answers to a submission, refusals too.
    pub async fn submit(&self, flow: &str, input: &str) -> anyhow::Result<(StatusCode, Value)> {
        let run = json!({"flow": flow, "input": input});
        let submit = self.client.post(format!("{}/v1/runs", self.url));
        let answer = submit.json(&run).send().await?;
        Ok((answer.status(), answer.json().await?))
    }

    pub async fn get(&self, run: &str) -> anyhow::Result<Value> {
        let get = self.client.get(format!("{}/v1/runs/{run}", self.url));
        Ok(get.send().await?.error_for_status()?.json().await?)
    }

    /// The run once it has ended.
    pub async fn wait(&self, run: &str, within: Duration) -> anyhow::Result<Value> {
        until(&format!("run {run} ends"), within, async || {
            let run = self.get(run).await?;
            Ok(run["finished_at"].is_string().then_some(run))
        })
        .await
    }
}
