//! How long the API's reads and the leader's look at the backlog take.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use flowfleet_core::port::Store;
use serde_json::Value;

use super::cost::Bed;
use crate::report::median;

/// Reads, by the path after `/v1/runs`; `ID` is an old run, or the newest queued one.
const READS: [(&str, &str); 9] = [
    ("newest page of 50", "?limit=50"),
    ("by state, most runs", "?state=succeeded&limit=50"),
    ("by state, one in 1,000", "?state=cancelled&limit=50"),
    ("by state, none", "?state=failed&limit=50"),
    ("by flow", "?flow=hello-prompt&limit=50"),
    ("by label, one in 100", "?label=team:history&limit=50"),
    ("one run", "/ID"),
    ("its events", "/ID/events"),
    ("explain", "/ID/explain"),
];

/// The names of what `measure` measures, in its order.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    READS
        .iter()
        .map(|(name, _)| *name)
        .chain(["leader's look at the backlog"])
}

pub(super) struct Reader {
    store: Arc<dyn Store>,
    times: usize,
}

impl Reader {
    pub(super) async fn open(bed: &Bed, times: usize) -> anyhow::Result<Self> {
        let options = flowfleet_store::Options::default();
        let store = flowfleet_store::open(&bed.fleet.database.url, options).await?;
        Ok(Self { store, times })
    }

    /// Medians in milliseconds, in the order of `names`.
    pub(super) async fn measure(&self, bed: &Bed, id: &str) -> anyhow::Result<Vec<f64>> {
        let mut found = Vec::new();
        for (name, path) in READS {
            let url = format!("{}/v1/runs{}", bed.fleet.dispatcher.url, path.replace("ID", id));
            let mut took = Vec::new();
            for round in 0..=self.times {
                let began = Instant::now();
                // A stream of a live run does not end: its first piece is what counts.
                let mut answer = bed.fleet.client.get(&url).send().await?;
                if !answer.status().is_success() {
                    let text = answer.text().await?;
                    anyhow::bail!("{name}: {text}");
                }
                if path.ends_with("/events") {
                    answer.chunk().await?;
                } else {
                    serde_json::from_slice::<Value>(&answer.bytes().await?)?;
                }
                if round > 0 {
                    took.push(began.elapsed().as_secs_f64() * 1e3);
                }
            }
            found.push(median(&took).context("no reads")?);
        }
        let mut took = Vec::new();
        for round in 0..=self.times {
            let began = Instant::now();
            self.store.backlog().await?;
            if round > 0 {
                took.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        found.push(median(&took).context("no reads")?);
        Ok(found)
    }
}
