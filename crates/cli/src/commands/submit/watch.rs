//! How far a batch is: counted chunk by chunk from its labels, so that a poll costs the same for any batch.

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::batch::Chunk;
use crate::client::{ApiError, Client};
use crate::text;

/// Runs asked about at once, and in one poll, where they are asked about one by one.
const READERS: usize = 16;
const READ: usize = 500;

const LIVE: [&str; 4] = ["scheduled", "blocked", "queued", "running"];

/// How many runs ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub expired: u64,
}

impl Tally {
    pub(crate) fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.expired
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            cancelled: self.cancelled + other.cancelled,
            expired: self.expired + other.expired,
        }
    }

    pub(crate) fn all_succeeded(&self) -> bool {
        self.failed + self.cancelled + self.expired == 0
    }

    pub(crate) fn to_json(self) -> Value {
        json!({"succeeded": self.succeeded, "failed": self.failed, "cancelled": self.cancelled, "expired": self.expired})
    }

    /// `298 succeeded, 2 failed`
    pub(crate) fn words(&self) -> String {
        let mut words = vec![format!("{} succeeded", text::count(self.succeeded))];
        for (n, word) in [
            (self.failed, "failed"),
            (self.cancelled, "cancelled"),
            (self.expired, "expired"),
        ] {
            if n > 0 {
                words.push(format!("{} {word}", text::count(n)));
            }
        }
        words.join(", ")
    }

    /// A few words beside a bar.
    pub(crate) fn bar_words(&self, rate: &str) -> String {
        if self.failed == 0 {
            rate.to_owned()
        } else {
            format!("{rate}  {} failed", text::count(self.failed))
        }
    }
}

/// One chunk.
#[derive(Debug)]
struct Part {
    name: String,
    size: u64,
    /// Runs that are older than the batch and so may not carry its labels: asked about one by one, in their order.
    open: Option<Vec<String>>,
    /// Of those.
    tally: Tally,
}

/// Counts the runs of a batch. Chunks end about in order: only the first unfinished one is asked about.
#[derive(Debug)]
pub(crate) struct Watch {
    client: Client,
    batch: String,
    chunks: Vec<Part>,
    /// Chunks that are done.
    done: usize,
    tally: Tally,
}

impl Watch {
    pub(crate) fn new(client: Client, batch: String, chunks: &[Chunk]) -> Self {
        let chunks = chunks.iter().map(|chunk| Part {
            name: chunk.name.clone(),
            size: chunk.ids.len() as u64,
            open: (chunk.existing > 0).then(|| chunk.ids.clone()),
            tally: Tally::default(),
        });
        let chunks = chunks.collect();
        Self {
            client,
            batch,
            chunks,
            done: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.chunks.iter().map(|part| part.size).sum()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done == self.chunks.len()
    }

    /// Looks again. What has not been looked at counts as unfinished.
    pub(crate) async fn poll(&mut self) -> Result<Tally, ApiError> {
        while self.done < self.chunks.len() {
            let (tally, live) = match self.chunks[self.done].open {
                Some(_) => self.by_id().await?,
                None => self.by_label().await?,
            };
            let total = self.tally.plus(tally);
            if live {
                return Ok(total);
            }
            self.tally = total;
            self.done += 1;
        }
        Ok(self.tally)
    }

    /// The chunk at hand and whether some of it is unfinished, from its labels.
    async fn by_label(&self) -> Result<(Tally, bool), ApiError> {
        let Part { name, size, .. } = &self.chunks[self.done];
        let live = self.count(name, &LIVE).await?;
        let mut tally = Tally {
            failed: self.count(name, &["failed"]).await?,
            cancelled: self.count(name, &["cancelled"]).await?,
            expired: self.count(name, &["expired"]).await?,
            ..Tally::default()
        };
        tally.succeeded = size.saturating_sub(live).saturating_sub(tally.finished());
        Ok((tally, live > 0))
    }

    /// The same, from the runs themselves.
    async fn by_id(&mut self) -> Result<(Tally, bool), ApiError> {
        let client = &self.client;
        let Part { open, tally, .. } = &mut self.chunks[self.done];
        let Some(open) = open else {
            return Ok((*tally, false));
        };
        let next = open.drain(..open.len().min(READ)).collect::<Vec<_>>();
        let mut runs = stream::iter(next)
            .map(|id| async move { (client.run(&id, None).await, id) })
            .buffered(READERS);
        let mut unfinished = Vec::new();
        while let Some((run, id)) = runs.next().await {
            match run?.get("state").and_then(Value::as_str) {
                Some("succeeded") => tally.succeeded += 1,
                Some("failed") => tally.failed += 1,
                Some("cancelled") => tally.cancelled += 1,
                Some("expired") => tally.expired += 1,
                _ => unfinished.push(id),
            }
        }
        drop(runs);
        open.splice(0..0, unfinished);
        Ok((*tally, !open.is_empty()))
    }

    /// At most a chunk's runs: ten pages.
    async fn count(&self, chunk: &str, states: &[&str]) -> Result<u64, ApiError> {
        let mut query = vec![
            ("label", format!("batch:{}", self.batch)),
            ("label", format!("batch_chunk:{chunk}")),
        ];
        query.extend(states.iter().map(|state| ("state", (*state).to_owned())));
        let page = self.client.list(&["v1", "runs"], &query, 10_000).await?;
        Ok(page.items.len() as u64)
    }
}
