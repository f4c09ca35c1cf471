//! A server inside the process, for tests and demos.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::server::{Server, run};
use crate::stats::Stats;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Handle {
    addr: SocketAddr,
    server: Arc<Server>,
    shutdown: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

/// Starts a server on a free port of the loopback interface.
pub async fn spawn(config: Config) -> io::Result<Handle> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    let server = Arc::new(Server {
        config,
        stats: Stats::default(),
    });
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(Arc::clone(&server), listener, shutdown.clone()));
    Ok(Handle {
        addr,
        server,
        shutdown,
        task,
    })
}

impl Handle {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What `OPENAI_BASE_URL` is set to.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// What `ANTHROPIC_BASE_URL` and `OLLAMA_BASE_URL` are set to.
    pub fn root_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Chats asked for so far, failed ones included.
    pub fn requests(&self) -> u64 {
        self.server.stats.requests()
    }

    /// Requests that were not failed, by the last message of the user.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.server.stats.snapshot().counts
    }

    /// Answers that were sent to the end.
    pub fn answered(&self) -> u64 {
        self.server.stats.snapshot().answered
    }

    /// The bodies of the last requests, oldest first: as many as the configuration keeps.
    pub fn bodies(&self) -> Vec<serde_json::Value> {
        self.server.stats.bodies()
    }

    /// Forgets all counts.
    pub fn reset(&self) {
        self.server.stats.reset();
    }

    /// Stops listening at once; requests that wait are answered or dropped with the process.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
        self.task.abort();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shutdown();
    }
}
