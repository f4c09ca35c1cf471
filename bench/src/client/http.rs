//! HTTP/1.1 over one kept connection: as little CPU a request as we can do with, because it is spent on the same
//! cores as what is measured. Good for servers that announce the length of their answers.

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer of more than this is none we asked for.
const MOST: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host)
            .await
            .with_context(|| format!("connecting to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: host.to_owned(),
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Posts and answers the body; any other status than 202 is an error.
    pub(super) async fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(head) = head(&self.buffer)? {
                break head;
            }
            self.read().await?;
        };
        while self.buffer.len() < head.end + head.length {
            self.read().await?;
        }
        let answer = self.buffer[head.end..head.end + head.length].to_vec();
        ensure!(
            head.status == 202,
            "POST {path}: {}: {}",
            head.status,
            String::from_utf8_lossy(&answer)
        );
        Ok(answer)
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        ensure!(self.buffer.len() < MOST, "an endless answer");
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("{} closed the connection", self.host);
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    /// Where the body begins.
    end: usize,
    length: usize,
}

/// The head of an answer, once it is complete.
fn head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end])?;
    let status = text.get(9..12).context("a status")?.parse()?;
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("the answer does not announce its length")?
        .1
        .trim()
        .parse()?;
    Ok(Some(Head {
        status,
        end: end + 4,
        length,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_table() {
        assert_eq!(head(b"HTTP/1.1 202 Accepted\r\nContent-Len").unwrap(), None);
        let whole = b"HTTP/1.1 202 Accepted\r\nx: y\r\nContent-Length: 2\r\n\r\n{}";
        let expected = Head {
            status: 202,
            end: whole.len() - 2,
            length: 2,
        };
        assert_eq!(head(whole).unwrap(), Some(expected));
        assert!(head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
