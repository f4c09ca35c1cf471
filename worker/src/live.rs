//! What listeners see while a run runs: stored events as they are committed, and tokens as they stream.
//!
//! Lossy by contract: whatever the bus cannot take is dropped, and readers ask the store.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flowfleet_core::RunId;
use flowfleet_core::event::RunEvent;
use flowfleet_core::port::{Bus, Live as Message};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::metrics::LIVE_DROPPED_TOTAL;

/// Tokens of one node that arrive within this time travel as one.
const COALESCE: Duration = Duration::from_millis(20);

/// Messages that wait for the bus at most.
const MESSAGES: usize = 20_000;

/// Bytes of tokens that wait for the bus at most.
const TOKEN_BYTES: usize = 4 << 20;

/// Messages in one publish.
const BATCH: usize = 2_000;

/// The bus is asked to answer within this; what it did not take by then is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to listeners.
#[derive(Debug)]
pub(crate) struct Live {
    bus: Arc<dyn Bus>,
    state: Mutex<State>,
    work: Notify,
    urgent: Notify,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    tokens: Vec<(RunId, String, String)>,
    /// Where in `tokens` a node's text gathers.
    places: HashMap<(RunId, String), usize>,
    token_bytes: usize,
    publishing: bool,
}

impl State {
    fn flush_tokens(&mut self) {
        self.places.clear();
        self.token_bytes = 0;
        let tokens = self
            .tokens
            .drain(..)
            .map(|(run, node, text)| Message::Token { run, node, text });
        self.messages.extend(tokens);
    }

    fn idle(&self) -> bool {
        self.messages.is_empty() && self.tokens.is_empty() && !self.publishing
    }
}

impl Live {
    pub(crate) fn new(bus: Arc<dyn Bus>) -> Self {
        Self {
            bus,
            state: Mutex::default(),
            work: Notify::new(),
            urgent: Notify::new(),
            settled: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streamed text of a node. Never blocks.
    pub(crate) fn token(&self, run: RunId, node: &str, text: &str) {
        {
            let mut state = self.lock();
            if state.token_bytes + text.len() > TOKEN_BYTES {
                metrics::counter!(LIVE_DROPPED_TOTAL).increment(1);
                return;
            }
            state.token_bytes += text.len();
            let key = (run, node.to_owned());
            match state.places.get(&key).copied() {
                Some(place) => state.tokens[place].2.push_str(text),
                None => {
                    let place = state.tokens.len();
                    state.tokens.push((run, node.to_owned(), text.to_owned()));
                    state.places.insert(key, place);
                }
            }
        }
        self.work.notify_one();
    }

    /// Events that the store has just committed, a list a run. Never blocks.
    pub(crate) fn events(&self, committed: Vec<Vec<RunEvent>>) {
        {
            let mut state = self.lock();
            // A node's last token goes before the event that says it has finished.
            state.flush_tokens();
            let lists = committed.into_iter().filter(|events| !events.is_empty());
            state
                .messages
                .extend(lists.map(|events| Message::Events { events }));
            let excess = state.messages.len().saturating_sub(MESSAGES);
            if excess > 0 {
                state.messages.drain(..excess);
                metrics::counter!(LIVE_DROPPED_TOTAL).increment(excess as u64);
            }
        }
        self.urgent.notify_one();
        self.work.notify_one();
    }

    /// Waits until all of it has been published or lost.
    pub(crate) async fn idle(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.lock().idle() {
                return;
            }
            settled.await;
        }
    }

    pub(crate) async fn run(self: Arc<Self>, ending: CancellationToken) {
        let _ = ending.run_until_cancelled(self.publish_all()).await;
    }

    async fn publish_all(&self) {
        loop {
            let (waiting, tokens) = {
                let state = self.lock();
                (!state.messages.is_empty(), !state.tokens.is_empty())
            };
            if !waiting && tokens {
                // Only tokens: let more gather, unless an event comes.
                let _ = tokio::time::timeout(COALESCE, self.urgent.notified()).await;
            }
            let batch: Vec<Message> = {
                let mut state = self.lock();
                if state.messages.is_empty() {
                    state.flush_tokens();
                }
                let count = state.messages.len().min(BATCH);
                state.publishing = count > 0;
                state.messages.drain(..count).collect()
            };
            if batch.is_empty() {
                self.settled.notify_waiters();
                self.work.notified().await;
                continue;
            }
            self.publish(batch).await;
            self.lock().publishing = false;
        }
    }

    async fn publish(&self, batch: Vec<Message>) {
        let count = batch.len() as u64;
        let lost = match tokio::time::timeout(PATIENCE, self.bus.publish(batch)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        metrics::counter!(LIVE_DROPPED_TOTAL).increment(count);
        tracing::debug!(error = lost, count, "listeners miss live events");
    }
}
