//! Reads what became of the runs: from the store past the fleet, and from the fleet's API as clients do.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::Context;
use eventsource_stream::Eventsource;
use flowfleet_mock_model as mock;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::check::{Event, History, Rule, Violation, check};
use super::fleet::{Fleet, LEASE};
use super::load::{Entry, Ledger};

/// Longest time from the end of all faults to the end of all runs accepted before: a lease, the longest backoff of
/// anything that reconnects (5 s), the leader's looks at queue and outbox, and the longest run itself, twice.
pub(super) const REST: Duration = Duration::from_secs(40);
/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// Histories read at once.
const ABREAST: usize = 8;
/// Stuck runs that are explained.
const EXPLAINED: usize = 5;

pub(super) const LIVE: &str = "state in ('scheduled', 'blocked', 'queued', 'running')";

/// What was seen once everything had come to rest.
#[derive(Debug)]
pub struct Settled {
    pub took: Duration,
    pub violations: Vec<Violation>,
}

/// How a run was seen to have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) state: String,
    pub(super) last_event: u64,
}

#[derive(Debug)]
pub struct Audit<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) ledger: &'a Ledger,
    client: reqwest::Client,
    /// Entries of the ledger that were looked at; those that had not ended in time among them.
    seen: usize,
    pub(super) ends: HashMap<String, End>,
    /// What had not ended in time, to be looked at again.
    late: Vec<Entry>,
    /// How attempts ended, of all runs that were checked.
    attempts: BTreeMap<String, usize>,
}

impl<'a> Audit<'a> {
    pub fn new(fleet: &'a Fleet, ledger: &'a Ledger) -> anyhow::Result<Self> {
        Ok(Self {
            fleet,
            ledger,
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(20))
                .build()?,
            seen: 0,
            ends: HashMap::new(),
            late: Vec::new(),
            attempts: BTreeMap::new(),
        })
    }

    pub fn checked(&self) -> usize {
        self.ends.len()
    }

    pub fn attempts(&self) -> &BTreeMap<String, usize> {
        &self.attempts
    }

    pub(super) async fn sql(&self, statement: &str) -> anyhow::Result<String> {
        self.fleet.postgres.lock().await.query(statement).await
    }

    /// Different questions the models were asked.
    pub fn questions(&self) -> usize {
        self.models().map(|model| model.counts().len()).max().unwrap_or(0)
    }

    /// Only while nothing runs.
    pub fn forget_questions(&self) {
        self.models().for_each(mock::Handle::reset);
    }

    fn models(&self) -> impl Iterator<Item = &mock::Handle> {
        let models = &self.fleet.models;
        [&models.quick, &models.slow, &models.flaky].into_iter()
    }

    /// All faults are over: waits until every run accepted so far has ended and every process is ready, and checks
    /// those runs.
    pub async fn settle(&mut self) -> anyhow::Result<Settled> {
        let began = Instant::now();
        let mut violations = Vec::new();
        let mut entries = self.ledger.since(self.seen);
        self.seen += entries.len();
        entries.append(&mut self.late);
        if let Err(error) = self.fleet.ready(REST).await {
            violations.push(Violation::new(Rule::Stuck, format!("{error:#}")));
        }
        let live = self.wait(&entries, began).await?;
        let took = began.elapsed();
        for (n, (id, state)) in live.iter().enumerate() {
            let why = if n < EXPLAINED {
                self.explain(id).await
            } else {
                String::new()
            };
            violations.push(Violation {
                rule: Rule::Stuck,
                run: Some(id.clone()),
                detail: format!("still {state} after {took:.1?}, with leases of {LEASE:?}: {why}"),
            });
        }
        let (late, ended) = entries
            .into_iter()
            .partition(|entry| live.contains_key(&entry.id));
        self.late = late;
        violations.extend(self.check(ended).await?);
        let complaints = self.ledger.complaints().into_iter();
        violations.extend(complaints.map(|what| Violation::new(Rule::Answer, what)));
        let misdeeds = self.fleet.misdeeds().into_iter();
        violations.extend(misdeeds.map(|what| Violation::new(Rule::Process, what)));
        Ok(Settled { took, violations })
    }

    /// Waits until these have ended; answers those that have not, with their state.
    async fn wait(&self, entries: &[Entry], began: Instant) -> anyhow::Result<HashMap<String, String>> {
        loop {
            let rows = self
                .sql(&format!("select id || ' ' || state from runs where {LIVE}"))
                .await?;
            let live: HashMap<&str, &str> = rows.lines().filter_map(|line| line.split_once(' ')).collect();
            let left: HashMap<String, String> = entries
                .iter()
                .filter_map(|entry| Some((entry.id.clone(), (*live.get(entry.id.as_str())?).to_owned())))
                .collect();
            if left.is_empty() || began.elapsed() > REST {
                return Ok(left);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn explain(&self, id: &str) -> String {
        match self.get(&format!("runs/{id}/explain")).await {
            Ok(body) => body.to_string(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// From whichever dispatcher answers.
    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let text = self.answer(path).await?.text().await?;
        Ok(serde_json::from_str(&text)?)
    }

    async fn answer(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let mut last = anyhow::anyhow!("there is no dispatcher");
        for dispatcher in self.fleet.dispatchers() {
            match self
                .client
                .get(format!("{}/v1/{path}", dispatcher.url))
                .send()
                .await
            {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => last = anyhow::anyhow!("{path}: {}", answer.status()),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    async fn events(&self, id: &str) -> anyhow::Result<Vec<Event>> {
        let mut events = self
            .answer(&format!("runs/{id}/events"))
            .await?
            .bytes_stream()
            .eventsource();
        let mut seen = Vec::new();
        while let Some(event) = events.try_next().await? {
            let data: Value = serde_json::from_str(&event.data)?;
            seen.push(Event {
                seq: event
                    .id
                    .parse()
                    .with_context(|| format!("event id {:?}", event.id))?,
                kind: event.event,
                node: data["data"]["node"].as_str().map(str::to_owned),
            });
        }
        Ok(seen)
    }

    async fn check(&mut self, ended: Vec<Entry>) -> anyhow::Result<Vec<Violation>> {
        let asked: HashMap<String, u64> = self.models().flat_map(mock::Handle::counts).collect();
        let audit = &*self;
        let read = stream::iter(&ended)
            .map(|entry| async move {
                let run = audit.get(&format!("runs/{}", entry.id)).await?;
                let events = audit.events(&entry.id).await?;
                // A client may have asked for its cancellation meanwhile.
                anyhow::Ok((audit.ledger.fresh(entry), run, events))
            })
            .buffer_unordered(ABREAST)
            .collect::<Vec<_>>();
        let mut violations = Vec::new();
        for read in read.await {
            let (entry, run, events) = match read {
                Ok(read) => read,
                Err(error) => {
                    violations.push(Violation::new(Rule::Answer, format!("{error:#}")));
                    continue;
                }
            };
            violations.extend(check(&History {
                entry: &entry,
                run: &run,
                events: &events,
                asked: &asked,
            }));
            for attempt in run["attempts"].as_array().into_iter().flatten() {
                let because = attempt["ended_because"].as_str().unwrap_or("nothing");
                *self.attempts.entry(because.to_owned()).or_default() += 1;
            }
            let end = End {
                state: run["state"].as_str().unwrap_or_default().to_owned(),
                last_event: run["last_event"].as_u64().unwrap_or_default(),
            };
            self.ends.insert(entry.id, end);
        }
        Ok(violations)
    }
}
