//! `lfx serve`, as released.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::Server;
use crate::fleet::{Process, free_address};
use crate::usage::{self, Usage};

const KEY: &str = "bench";

pub(super) struct Serve {
    process: Process,
    client: reqwest::Client,
    flow: String,
    _folder: tempfile::TempDir,
}

impl Serve {
    pub(super) async fn start(
        python: &Path,
        flow: &Value,
        base_url: &str,
        processes: u32,
    ) -> anyhow::Result<Self> {
        let mut flow = flow.clone();
        let id = "c1cb7b3c-2589-4754-ac61-8cf88df4a07e";
        flow["id"] = id.into();
        let folder = tempfile::tempdir()?;
        std::fs::write(
            folder.path().join(format!("{id}.json")),
            serde_json::to_vec(&flow)?,
        )?;
        let address = free_address()?;
        let (host, port) = address.rsplit_once(':').context("a port")?;
        let program = python.with_file_name("lfx");
        let mut command = Command::new(python);
        command
            .arg(&program)
            .args([
                "serve",
                "--host",
                host,
                "--port",
                port,
                "--workers",
                &processes.to_string(),
            ])
            .arg("--flow-dir")
            .arg(folder.path())
            .current_dir(folder.path())
            .env("LANGFLOW_API_KEY", KEY)
            .env("OPENAI_BASE_URL", base_url)
            .env("OPENAI_API_KEY", "none")
            .env("LANGFLOW_SSRF_PROTECTION_ENABLED", "false")
            .env("DO_NOT_TRACK", "true")
            .env("LANGFLOW_DO_NOT_TRACK", "true")
            .stderr(Stdio::null());
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()?;
        let mut process = Process::start("lfx serve", &mut command, &address)?;
        process.ready(&client, "/health").await?;
        Ok(Self {
            process,
            client,
            flow: id.to_owned(),
            _folder: folder,
        })
    }
}

#[async_trait]
impl Server for Serve {
    async fn run(&self, number: usize) -> anyhow::Result<String> {
        let body = json!({"flow_id": self.flow, "input_value": format!("hello {number}"), "mode": "sync",
            "session_id": format!("bench-{number}")});
        let call = self.client.post(format!("{}/api/v2/workflows", self.process.url));
        let answer = call.header("x-api-key", KEY).json(&body).send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        ensure!(status.is_success(), "lfx serve answered {status}: {answer}");
        Ok(answer["output"]["text"].as_str().unwrap_or_default().to_owned())
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        usage::tree(self.process.pid())
    }
}
