//! The load, and what its clients were told: evidence that does not come from the store.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::fleet::{Fleet, POOL};

/// Longer than a dispatcher that is well ever takes.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// Runs in a batch.
const BATCH: usize = 20;
/// More than fits into a row.
const LARGE: usize = 100_000;

/// What a run is made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Hello,
    Large,
    Delayed,
    Expiring,
    Model,
    Chain,
    Slow,
    Flaky,
    /// Slow work that somebody cancels.
    Cancelled,
}

impl Work {
    /// How often each is chosen.
    const MIX: [(Self, u32); 9] = [
        (Self::Hello, 4),
        (Self::Large, 1),
        (Self::Delayed, 2),
        (Self::Expiring, 1),
        (Self::Model, 4),
        (Self::Chain, 4),
        (Self::Slow, 3),
        (Self::Flaky, 3),
        (Self::Cancelled, 2),
    ];

    /// Models asked one after another.
    pub fn models(self) -> usize {
        match self {
            Self::Hello | Self::Large | Self::Delayed | Self::Expiring => 0,
            Self::Model | Self::Flaky => 1,
            Self::Slow | Self::Cancelled => 2,
            Self::Chain => 3,
        }
    }

    fn flow(self) -> String {
        format!("models-{}", self.models())
    }

    /// How a run that is not cancelled may end, beside having succeeded.
    pub fn may_end(self, state: &str) -> bool {
        match self {
            Self::Expiring => state == "expired",
            // Whoever is unlucky with every attempt.
            Self::Flaky => state == "failed",
            _ => false,
        }
    }
}

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    No,
    /// Asked, and perhaps not answered: it may or may not be cancelled.
    Asked,
    /// The answer said that it is.
    Done,
}

/// One run, as its client knows it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub work: Work,
    pub id: String,
    pub accepted: Instant,
    pub cancel: Cancel,
}

impl Entry {
    pub fn input(&self) -> String {
        input(self.work, &self.key)
    }

    /// The text that the n-th model is asked, from 0; after the last one, the run's output.
    pub fn text(&self, models: usize) -> String {
        format!("{}{}", "echo: ".repeat(models), self.input())
    }

    /// Whether what the clients were told allows this end.
    pub fn may_end(&self, state: &str) -> bool {
        match (self.cancel, state) {
            (Cancel::Done, _) => state == "cancelled",
            (_, "succeeded") => true,
            (Cancel::Asked, "cancelled") => true,
            _ => self.work.may_end(state),
        }
    }
}

/// Different for every run, so that what the models were asked says for whom.
fn input(work: Work, key: &str) -> String {
    match work {
        Work::Large => format!("{key}{}", "x".repeat(LARGE)),
        _ => key.to_owned(),
    }
}

/// What the suite wants of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Load,
    Pause,
    Nothing,
}

/// Everything that was accepted, and what went wrong with answers.
#[derive(Debug, Default)]
pub struct Ledger {
    paused: AtomicUsize,
    entries: Mutex<Vec<Entry>>,
    complaints: Mutex<Vec<String>>,
    next: AtomicU64,
    pub retries: AtomicU64,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complain(&self, what: String) {
        self.complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    pub fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut *self.complaints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Clients with no request under way that want to make none.
    pub fn paused(&self) -> usize {
        self.paused.load(Ordering::SeqCst)
    }

    pub fn len(&self) -> usize {
        self.entries().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn all(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    /// Those from the n-th on.
    pub fn since(&self, first: usize) -> Vec<Entry> {
        self.entries()[first..].to_vec()
    }

    /// What is known now of an entry that was read before.
    pub fn fresh(&self, entry: &Entry) -> Entry {
        let entries = self.entries();
        let same = entries.iter().rev().find(|other| other.id == entry.id);
        same.unwrap_or(entry).clone()
    }

    pub fn ids(&self) -> Vec<String> {
        self.entries().iter().map(|entry| entry.id.clone()).collect()
    }

    fn accepted(&self, key: &str, work: Work, id: &str) {
        self.entries().push(Entry {
            key: key.to_owned(),
            work,
            id: id.to_owned(),
            accepted: Instant::now(),
            cancel: Cancel::No,
        });
    }

    fn cancelling(&self, id: &str, cancel: Cancel) {
        if let Some(entry) = self.entries().iter_mut().rev().find(|entry| entry.id == id) {
            entry.cancel = cancel;
        }
    }
}

/// One client.
#[derive(Debug)]
pub struct Client<'a> {
    fleet: &'a Fleet,
    ledger: &'a Ledger,
    http: reqwest::Client,
    random: StdRng,
    dispatcher: usize,
}

impl<'a> Client<'a> {
    pub fn new(fleet: &'a Fleet, ledger: &'a Ledger, seed: u64) -> anyhow::Result<Self> {
        Ok(Self {
            fleet,
            ledger,
            http: reqwest::Client::builder().timeout(PATIENCE).build()?,
            random: StdRng::seed_from_u64(seed),
            dispatcher: 0,
        })
    }

    /// Submits one run or one batch each `interval`, for as long as that is wanted.
    pub async fn run(mut self, interval: Duration, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let now = *wanted.borrow_and_update();
            match now {
                Wanted::Nothing => return,
                Wanted::Pause => {
                    self.ledger.paused.fetch_add(1, Ordering::SeqCst);
                    let gone = wanted.changed().await.is_err();
                    self.ledger.paused.fetch_sub(1, Ordering::SeqCst);
                    if gone {
                        return;
                    }
                }
                Wanted::Load if self.random.random_ratio(1, 30) => self.batch().await,
                Wanted::Load => self.single().await,
            }
            tokio::time::sleep(interval.mul_f64(self.random.random_range(0.5..1.5))).await;
        }
    }

    fn draw(&mut self) -> (String, Work, Value) {
        let key = format!("run-{}", self.ledger.next.fetch_add(1, Ordering::Relaxed));
        let work = Work::MIX
            .choose_weighted(&mut self.random, |(_, weight)| *weight)
            .map_or(Work::Hello, |(work, _)| *work);
        let body = self.body(&key, work);
        (key, work, body)
    }

    fn body(&mut self, key: &str, work: Work) -> Value {
        let priority = ["high", "normal", "low"].choose(&mut self.random);
        let mut body = json!({
            "flow": work.flow(),
            "input": input(work, key),
            "queue": POOL,
            "priority": priority,
            "idempotency_key": key,
        });
        let models = &self.fleet.models;
        let elsewhere = |model: &flowfleet_mock_model::Handle| json!({"OPENAI_BASE_URL": model.base_url(), "OPENAI_API_KEY": "a key of the request"});
        match work {
            Work::Delayed => body["delay_s"] = json!(self.random.random_range(0.3..2.5)),
            Work::Expiring => body["expires_in_s"] = json!(2.0),
            Work::Slow | Work::Cancelled => body["variables"] = elsewhere(&models.slow),
            Work::Flaky => {
                body["variables"] = elsewhere(&models.flaky);
                body["max_attempts"] = json!(12);
                body["retry"] = json!({"backoff_s": 0.1, "factor": 1.5, "max_s": 1.0});
            }
            _ => {}
        }
        body
    }

    async fn single(&mut self) {
        let (key, work, body) = self.draw();
        let Some(answer) = self.insist("runs", &body).await else {
            return;
        };
        let Some(id) = answer["id"].as_str() else {
            self.ledger
                .complain(format!("{key}: an answer without an id: {answer}"));
            return;
        };
        self.ledger.accepted(&key, work, id);
        if self.random.random_ratio(1, 10) {
            self.again(&key, &body, id).await;
        }
        if work == Work::Cancelled {
            let wait = Duration::from_millis(self.random.random_range(0..2_500));
            self.cancel(id, wait).await;
        }
    }

    async fn batch(&mut self) {
        let runs: Vec<_> = (0..BATCH).map(|_| self.draw()).collect();
        let bodies: Vec<&Value> = runs.iter().map(|(_, _, body)| body).collect();
        let Some(answer) = self.insist("runs/batch", &json!(bodies)).await else {
            return;
        };
        let ids: Vec<&str> = answer["ids"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if ids.len() != runs.len() {
            self.ledger
                .complain(format!("{} ids for a batch of {}", ids.len(), runs.len()));
        }
        for ((key, work, _), id) in runs.iter().zip(ids) {
            // Nobody cancels those of a batch.
            let work = if *work == Work::Cancelled {
                Work::Slow
            } else {
                *work
            };
            self.ledger.accepted(key, work, id);
        }
    }

    /// Submits until somebody accepts it: the key makes it one run however often it is said.
    async fn insist(&mut self, path: &str, body: &Value) -> Option<Value> {
        loop {
            match self.post(path, body).await {
                Ok((status, answer)) if status.is_success() => return Some(answer),
                Ok((status, answer))
                    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    self.ledger.complain(format!("{path} refused: {status} {answer}"));
                    return None;
                }
                _ => {
                    self.ledger.retries.fetch_add(1, Ordering::Relaxed);
                    self.dispatcher += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The same key and body at the other dispatcher: the same run.
    async fn again(&mut self, key: &str, body: &Value, id: &str) {
        self.dispatcher += 1;
        if let Ok((status, answer)) = self.post("runs", body).await
            && (status.is_success() || status.is_client_error())
            && (status != StatusCode::OK || answer["id"] != id)
        {
            self.ledger
                .complain(format!("{key} said again: {status} {answer}, was {id}"));
        }
    }

    async fn cancel(&mut self, id: &str, wait: Duration) {
        tokio::time::sleep(wait).await;
        self.ledger.cancelling(id, Cancel::Asked);
        match self.post(&format!("runs/{id}/cancel"), &Value::Null).await {
            Ok((StatusCode::OK, _)) => self.ledger.cancelling(id, Cancel::Done),
            Ok((StatusCode::ACCEPTED | StatusCode::CONFLICT, _)) => {}
            Ok((status, answer)) if status.is_client_error() => {
                self.ledger.complain(format!("cancel of {id}: {status} {answer}"));
            }
            _ => {}
        }
    }

    async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let dispatchers: Vec<&str> = self
            .fleet
            .dispatchers()
            .map(|member| member.url.as_str())
            .collect();
        let url = dispatchers[self.dispatcher % dispatchers.len()];
        let mut request = self.http.post(format!("{url}/v1/{path}"));
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        Ok((status, answer.json().await?))
    }
}
