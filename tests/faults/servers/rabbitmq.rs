//! A RabbitMQ node of our own, spoken to through `rabbitmqctl` and its management interface.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Daemon, output, program};
use crate::process::{free_address, until};

/// A node and its virtual machine, unless it is killed.
#[derive(Debug)]
pub struct RabbitMq {
    home: tempfile::TempDir,
    node: String,
    port: String,
    distribution: String,
    management: String,
    log: PathBuf,
    client: reqwest::Client,
    server: Option<Daemon>,
}

impl RabbitMq {
    pub async fn start(logs: &Path) -> anyhow::Result<Self> {
        let port = || -> anyhow::Result<String> {
            let address = free_address()?;
            Ok(address.split_once(':').context("a port")?.1.to_owned())
        };
        let (amqp, management) = (port()?, free_address()?);
        let mut rabbitmq = Self {
            home: tempfile::Builder::new().prefix("ff-rabbitmq-").tempdir()?,
            node: format!("ff{amqp}@localhost"),
            port: amqp,
            distribution: port()?,
            management,
            log: logs.join("rabbitmq.log"),
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(20))
                .build()?,
            server: None,
        };
        let home = rabbitmq.home.path();
        let (ip, port) = rabbitmq.management.split_once(':').context("a port")?;
        std::fs::write(home.join("plugins"), "[rabbitmq_management].\n")?;
        std::fs::write(
            home.join("rabbitmq.conf"),
            format!("management.tcp.ip = {ip}\nmanagement.tcp.port = {port}\n"),
        )?;
        rabbitmq.resume().await?;
        Ok(rabbitmq)
    }

    /// A program of the broker. The wrappers in PATH would change the user and forget the environment.
    fn command(&self, name: &str) -> anyhow::Result<Command> {
        let folders = [PathBuf::from("/usr/lib/rabbitmq/bin")];
        let mut command = Command::new(program(name, &folders, "rabbitmq-server")?);
        let home = self.home.path();
        for (name, file) in [
            ("HOME", ""),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_CONF_ENV_FILE", "no-such-file"),
        ] {
            command.env(name, home.join(file));
        }
        command
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", &self.port)
            .env("RABBITMQ_DIST_PORT", &self.distribution)
            .env("RABBITMQ_LOGS", "-")
            // Schedulers that spin would take the processor from everybody else.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none");
        Ok(command)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self, address: &str) -> String {
        format!("amqp://guest:guest@{address}/%2f")
    }

    /// Starts the virtual machine and waits until the broker accepts connections.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        self.server = Some(Daemon::spawn(self.command("rabbitmq-server")?, &self.log)?);
        self.up().await
    }

    async fn up(&self) -> anyhow::Result<()> {
        until("RabbitMQ answers", Duration::from_secs(120), async || {
            let there = self.api(Method::GET, "overview", None).await.is_ok();
            let accepts = tokio::net::TcpStream::connect(self.address()).await.is_ok();
            Ok((there && accepts).then_some(()))
        })
        .await
    }

    /// SIGKILL for the virtual machine.
    pub fn kill(&mut self) {
        self.server = None;
    }

    async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command("rabbitmqctl")?;
        command.args(["-q", "-n", &self.node]).args(arguments);
        output(command.into()).await
    }

    pub async fn stop_app(&self) -> anyhow::Result<()> {
        self.ctl(&["stop_app"]).await.map(drop)
    }

    pub async fn start_app(&self) -> anyhow::Result<()> {
        self.ctl(&["start_app"]).await?;
        self.up().await
    }

    pub async fn close_connections(&self) -> anyhow::Result<()> {
        self.ctl(&["close_all_connections", "closed by the fault suite"])
            .await
            .map(drop)
    }

    async fn api(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<StatusCode> {
        let url = format!("http://{}/api/{path}", self.management);
        let mut request = self
            .client
            .request(method, url)
            .basic_auth("guest", Some("guest"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        // A queue that another fault has deleted is gone already.
        ensure!(
            status.is_success() || status == StatusCode::NOT_FOUND,
            "{path}: {status} {text}"
        );
        Ok(status)
    }

    pub async fn purge(&self, queue: &str) -> anyhow::Result<()> {
        self.api(Method::DELETE, &format!("queues/%2f/{queue}/contents"), None)
            .await
            .map(drop)
    }

    pub async fn delete(&self, queue: &str) -> anyhow::Result<()> {
        self.api(Method::DELETE, &format!("queues/%2f/{queue}"), None)
            .await
            .map(drop)
    }

    /// Any bytes as a message.
    pub async fn publish(&self, queue: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let message = json!({
            "properties": {},
            "routing_key": queue,
            "payload": base64::engine::general_purpose::STANDARD.encode(bytes),
            "payload_encoding": "base64",
        });
        self.api(Method::POST, "exchanges/%2f/amq.default/publish", Some(message))
            .await
            .map(drop)
    }
}
