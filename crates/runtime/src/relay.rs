//! The relay: publishes outbox rows with publisher confirms, then deletes them (invariant I1).
//!
//! It is only the fast path. A row that it never publishes (this process died, the broker was away for too long)
//! is found by the leader's sweep by its age, so it may forget rows rather than grow. Messages of a pool that the
//! broker refuses are left to the leader's reconciler: one such pool must not hold up all others.

mod publish;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowfleet_core::port::{Envelope, OutboxRow, Queue, Upkeep};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::metrics::RELAY_DROPPED_TOTAL;
use publish::Publisher;

/// Envelopes in one publish; a larger row goes alone.
const GROUP: usize = 4_000;

/// Envelopes kept while the broker is away; rows beyond are left to the sweep.
const ENVELOPES: usize = 200_000;

/// Confirmed rows kept while the store is away; forgetting one publishes it twice, which is harmless.
const CONFIRMED: usize = 100_000;

/// Ids in one delete.
const DELETES: usize = 1_000;

/// A handle to the relay of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Relay(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    to_publish: Notify,
    to_delete: Notify,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<OutboxRow>,
    /// Envelopes in `waiting`.
    envelopes: usize,
    confirmed: VecDeque<i64>,
    /// Rows that were sent and are not deleted yet: while the broker is away the sweep brings them again and again.
    known: HashSet<i64>,
    publishing: bool,
    deleting: bool,
    stopped: bool,
}

impl State {
    fn idle(&self) -> bool {
        self.stopped
            || self.waiting.is_empty() && self.confirmed.is_empty() && !self.publishing && !self.deleting
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self) {
        if self.lock().idle() {
            self.settled.notify_waiters();
        }
    }
}

impl Relay {
    /// Starts the relay. It ends at once with `stop`: unpublished rows stay in the store.
    pub fn spawn(store: Arc<dyn Upkeep>, queue: Arc<dyn Queue>, stop: CancellationToken) -> Self {
        let shared = Arc::new(Shared::default());
        let at_work = Arc::clone(&shared);
        tokio::spawn(async move {
            let both =
                async { tokio::join!(publish_loop(&at_work, &*queue), delete_loop(&at_work, &*store)) };
            let _ = stop.run_until_cancelled(both).await;
            at_work.lock().stopped = true;
            at_work.settled.notify_waiters();
        });
        Self(shared)
    }

    /// Takes a row to publish. Never blocks.
    pub fn send(&self, row: OutboxRow) {
        {
            let mut state = self.0.lock();
            let full = !state.waiting.is_empty() && state.envelopes + row.envelopes.len() > ENVELOPES;
            if state.stopped || full {
                metrics::counter!(RELAY_DROPPED_TOTAL).increment(1);
                return;
            }
            if !state.known.insert(row.id) {
                return;
            }
            state.envelopes += row.envelopes.len();
            state.waiting.push_back(row);
        }
        self.0.to_publish.notify_one();
    }

    /// Waits until every row sent so far is published and deleted (or the relay has stopped). Give it a deadline:
    /// while the broker is away it does not return.
    pub async fn idle(&self) {
        loop {
            // Registered before looking, so that no wake-up falls in between.
            let mut settled = std::pin::pin!(self.0.settled.notified());
            settled.as_mut().enable();
            if self.0.lock().idle() {
                return;
            }
            settled.await;
        }
    }
}

async fn publish_loop(shared: &Shared, queue: &dyn Queue) {
    let mut publisher = Publisher::new(queue);
    loop {
        let Some((mut ids, envelopes)) = next_group(shared) else {
            shared.settle();
            shared.to_publish.notified().await;
            continue;
        };
        publisher.publish(envelopes).await;
        {
            let mut state = shared.lock();
            state.publishing = false;
            let room = CONFIRMED.saturating_sub(state.confirmed.len()).min(ids.len());
            for forgotten in ids.split_off(room) {
                state.known.remove(&forgotten);
            }
            state.confirmed.extend(ids);
        }
        shared.to_delete.notify_one();
    }
}

/// Merges waiting rows into one publish.
fn next_group(shared: &Shared) -> Option<(Vec<i64>, Vec<Envelope>)> {
    let mut state = shared.lock();
    let first = state.waiting.pop_front()?;
    let mut ids = vec![first.id];
    let mut envelopes = first.envelopes;
    while let Some(next) = state.waiting.front()
        && envelopes.len() + next.envelopes.len() <= GROUP
    {
        if let Some(row) = state.waiting.pop_front() {
            ids.push(row.id);
            envelopes.extend(row.envelopes);
        }
    }
    state.envelopes = state.envelopes.saturating_sub(envelopes.len());
    state.publishing = true;
    Some((ids, envelopes))
}

async fn delete_loop(shared: &Shared, store: &dyn Upkeep) {
    let mut backoff = Backoff::default();
    loop {
        let ids: Vec<i64> = {
            let mut state = shared.lock();
            let count = state.confirmed.len().min(DELETES);
            state.deleting = count > 0;
            state.confirmed.drain(..count).collect()
        };
        if ids.is_empty() {
            shared.settle();
            shared.to_delete.notified().await;
            continue;
        }
        while let Err(error) = store.outbox_done(&ids).await {
            tracing::warn!(%error, rows = ids.len(), "published rows are not deleted yet");
            backoff.wait().await;
        }
        backoff.reset();
        let mut state = shared.lock();
        state.deleting = false;
        for id in &ids {
            state.known.remove(id);
        }
    }
}
