//! The Python host in this process: its processes are children of this one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use flowfleet_engine::{CompileLimits, Plan, Request, Services, compile};
use flowfleet_python::{NoMemory, Settings, State, Work};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Server;
use crate::usage::{self, Usage};

pub(super) struct Host {
    host: flowfleet_python::Host,
    parent: u32,
    document: Vec<u8>,
    plan: Plan,
    services: Services,
}

impl Host {
    pub(super) async fn start(
        python: &Path,
        flow: &Value,
        base_url: &str,
        processes: u32,
    ) -> anyhow::Result<Self> {
        let host = flowfleet_python::Host::start(Settings {
            enabled: true,
            venv: python.to_owned(),
            children: processes,
            environment: vec!["LANGFLOW_SSRF_PROTECTION_ENABLED=false".to_owned()],
            ..Settings::default()
        })?;
        match host.started().await {
            State::Ready(_) => {}
            other => bail!("the Python host does not start: {other:?}"),
        }
        // The one before it may still be ending.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let is_parent = |pid: &u32| {
            usage::parent(*pid) == Some(std::process::id())
                && usage::command_line(*pid).is_some_and(|line| line.contains("flowfleet_host"))
        };
        let parent = usage::pids()
            .filter(is_parent)
            .max()
            .context("no Python process")?;
        let document = serde_json::to_vec(flow)?;
        let plan = compile(&document, &CompileLimits::default())?;
        let base_url = base_url.to_owned();
        let services = Services {
            environment: Arc::new(move |name: &str| match name {
                "OPENAI_BASE_URL" => Some(base_url.clone()),
                "OPENAI_API_KEY" => Some("none".to_owned()),
                _ => None,
            }),
            ..Services::from_env()?
        };
        Ok(Self {
            host,
            parent,
            document,
            plan,
            services,
        })
    }
}

#[async_trait]
impl Server for Host {
    async fn run(&self, number: usize) -> anyhow::Result<String> {
        let request = Request {
            input: format!("hello {number}").into(),
            session_id: Some(format!("bench-{number}")),
            ..Request::default()
        };
        let run_id = format!("bench-{number}");
        let work = Work {
            plan: &self.plan,
            document: &self.document,
            request: &request,
            run_id: &run_id,
            realm: "",
            services: &self.services,
            memory: &NoMemory,
        };
        let execution = self
            .host
            .execute(work, Arc::new(|_| {}), CancellationToken::new());
        let outcome = execution.await?;
        Ok(outcome.output.as_str().unwrap_or_default().to_owned())
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        usage::tree(self.parent)
    }
}
