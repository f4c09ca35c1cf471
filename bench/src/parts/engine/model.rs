//! The mock model as a process of its own, so that its CPU and memory are apart.

use std::process::Command;

use crate::Bench;
use crate::fleet::{Process, free_address};
use crate::usage::Usage;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts) enum Answers {
    AtOnce,
    /// After so many milliseconds.
    After(u64),
    /// At once, and then so many tokens a second.
    Slowly(u32),
}

#[derive(Debug)]
pub(in crate::parts) struct Model(Process);

impl Model {
    pub(in crate::parts) async fn start(bench: &Bench, answers: &Answers) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(bench.binaries.path("flowfleet"));
        command.args(["mock-model", "--listen", &address]);
        match answers {
            Answers::AtOnce => {}
            Answers::After(ms) => {
                command.args(["--latency-ms", &ms.to_string()]);
            }
            Answers::Slowly(tokens) => {
                command.args(["--tokens-per-s", &tokens.to_string()]);
            }
        }
        let mut process = Process::start("mock model", &mut command, &address)?;
        process.ready(&reqwest::Client::new(), "/health").await?;
        Ok(Self(process))
    }

    /// What `OPENAI_BASE_URL` is set to.
    pub(in crate::parts) fn base_url(&self) -> String {
        format!("{}/v1", self.0.url)
    }

    /// lfx takes `127.0.0.1` for a mistake inside a container and replaces it: another name of the same address.
    pub(in crate::parts) fn base_url_for_lfx(&self) -> String {
        self.base_url().replace("127.0.0.1", "127.1")
    }

    /// The environment of a worker that is to use it.
    pub(in crate::parts) fn env(&self) -> Vec<(String, String)> {
        vec![
            ("OPENAI_BASE_URL".to_owned(), self.base_url()),
            ("OPENAI_API_KEY".to_owned(), "none".to_owned()),
        ]
    }

    pub(in crate::parts) fn usage(&self) -> anyhow::Result<Usage> {
        self.0.usage()
    }

    pub(in crate::parts) async fn stop(self) -> anyhow::Result<()> {
        self.0.stop().await
    }
}
