//! Redis: its version and process, asked in its own protocol, which needs no library for one question.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use url::Url;

use crate::usage;

/// Version and, when it runs on this machine, the process.
pub(super) async fn probe(url: &Url) -> anyhow::Result<(String, Option<u32>)> {
    let text = tokio::time::timeout(Duration::from_secs(5), info(url))
        .await
        .context("no answer within 5 s")??;
    let facts = facts(&text);
    let version = facts
        .get("redis_version")
        .copied()
        .unwrap_or("unknown")
        .to_owned();
    let process = facts
        .get("process_id")
        .and_then(|pid| pid.parse().ok())
        .filter(|&pid| usage::command_line(pid).is_some_and(|line| line.contains("redis")));
    Ok((version, process))
}

async fn info(url: &Url) -> anyhow::Result<String> {
    let host = url.host_str().context("a Redis URL names a host")?;
    let stream = TcpStream::connect((host, url.port().unwrap_or(6379))).await?;
    let mut stream = BufReader::new(stream);
    if let Some(password) = url.password() {
        let user = match url.username() {
            "" => "default",
            user => user,
        };
        stream
            .write_all(format!("AUTH {user} {password}\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        ensure!(answer.starts_with('+'), "it refuses the password");
    }
    stream.write_all(b"INFO server\r\n").await?;
    let mut head = String::new();
    stream.read_line(&mut head).await?;
    let length: usize = head
        .strip_prefix('$')
        .and_then(|length| length.trim().parse().ok())
        .with_context(|| format!("an unexpected answer: {}", head.trim()))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(String::from_utf8(body)?)
}

fn facts(text: &str) -> HashMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.trim().split_once(':'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found() {
        let facts = facts("# Server\r\nredis_version:7.0.15\r\nprocess_id:42\r\n");
        assert_eq!((facts["redis_version"], facts["process_id"]), ("7.0.15", "42"));
    }
}
