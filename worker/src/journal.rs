//! The only writer of this worker: progress, ends and releases of all runs, in group commits.
//!
//! While one commit is in flight the next gathers, without a timer: an idle worker writes at once, a busy one writes
//! many runs together. Writes of one run keep their order, and what gathers together with a run's end is written with
//! it. While the store is away the journal tries again with backoff and its inbox fills; then executions wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowfleet_core::event::{EventKind, NewEvent};
use flowfleet_core::lease::Lease;
use flowfleet_core::payload::Payload;
use flowfleet_core::port::{Fenced, Store};
use flowfleet_core::run::{Ending, Finish, NodeCheckpoint, Progress, Release, RunError, RunErrorKind};
use flowfleet_runtime::{Readiness, Relay};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::held::{Held, Stop};
use crate::live::Live;
use crate::metrics::LEASES_LOST_TOTAL;

mod unheard;
mod write;

use write::{Checkpoints, Finishes, Releases, write_all};

/// KiB of progress that wait for the store at most.
const ROOM: usize = 64 * 1024;

/// The most KiB one note is counted as: a note larger than all the room must still fit.
const LARGEST: u32 = 8 * 1024;

/// Runs in one round of writes.
const ROUND: usize = 1_000;

/// How a run leaves this worker.
#[derive(Debug)]
pub(crate) enum End {
    Finish(Box<Finish>),
    Release(Box<Release>),
}

/// What became of an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// Committed; the event that ended the run, if it has ended.
    Applied(Option<EventKind>),
    /// The lease was lost before: nothing was written.
    Stale,
    /// The store will never take it.
    Refused,
}

/// The journal. Clones of its `Arc` write to the one inbox.
#[derive(Debug)]
pub(crate) struct Journal {
    store: Arc<dyn Store>,
    held: Arc<Held>,
    live: Arc<Live>,
    relay: Relay,
    readiness: Readiness,
    inbox: Mutex<Inbox>,
    work: Notify,
    room: Semaphore,
}

/// What waits, and where it will go.
#[derive(Debug, Default)]
struct Inbox {
    pending: HashMap<Lease, Pending>,
    /// The sequence of the last event that is written of each run, as long as it is executed: only the holder of a lease
    /// appends to a running run. What comes next names it, so that the store knows a write that it has seen before.
    last_seq: HashMap<Lease, u64>,
}

/// What one run has to write.
#[derive(Debug, Default)]
struct Pending {
    nodes: Vec<NodeCheckpoint>,
    events: Vec<NewEvent>,
    end: Option<(End, oneshot::Sender<Written>)>,
    /// Permits of the room to give back.
    cost: usize,
}

impl Journal {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        held: Arc<Held>,
        live: Arc<Live>,
        relay: Relay,
        readiness: Readiness,
    ) -> Self {
        Self {
            store,
            held,
            live,
            relay,
            readiness,
            inbox: Mutex::default(),
            work: Notify::new(),
            room: Semaphore::new(ROOM),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt begins; `last_seq` is the last event of its run.
    pub(crate) fn begin(&self, lease: Lease, last_seq: u64) {
        self.lock().last_seq.insert(lease, last_seq);
    }

    /// Writes down progress soon. Waits while the inbox is full. Cancel-safe: all of it or nothing is taken.
    pub(crate) async fn note(&self, lease: Lease, node: Option<NodeCheckpoint>, event: NewEvent) {
        let weight =
            32 + event.data.text().len() + node.as_ref().map_or(0, |node| payload_weight(&node.output));
        let cost = u32::try_from(weight / 1024 + 1).unwrap_or(LARGEST).min(LARGEST);
        match self.room.acquire_many(cost).await {
            Ok(permits) => permits.forget(),
            // Nobody closes the room.
            Err(_) => return,
        }
        {
            let mut inbox = self.lock();
            let pending = inbox.pending.entry(lease).or_default();
            pending.cost += cost as usize;
            pending.nodes.extend(node);
            pending.events.push(event);
        }
        self.work.notify_one();
    }

    /// Writes the end of a run and waits until that is decided.
    pub(crate) async fn end(&self, lease: Lease, end: End) -> Written {
        let (decided, decision) = oneshot::channel();
        self.lock().pending.entry(lease).or_default().end = Some((end, decided));
        self.work.notify_one();
        // A journal that is gone has written nothing.
        decision.await.unwrap_or(Written::Refused)
    }

    /// Drops what a lost lease still had to write.
    pub(crate) fn forget(&self, lease: &Lease) {
        let forgotten = {
            let mut inbox = self.lock();
            inbox.last_seq.remove(lease);
            inbox.pending.remove(lease)
        };
        self.room.add_permits(forgotten.map_or(0, |pending| pending.cost));
    }

    pub(crate) async fn run(self: Arc<Self>, ending: CancellationToken) {
        let writing = async {
            loop {
                let round = self.take();
                if round.is_empty() {
                    self.work.notified().await;
                } else {
                    self.write(round).await;
                }
            }
        };
        let _: Option<()> = ending.run_until_cancelled(writing).await;
    }

    /// The next round: at most one entry a run, so the kinds may be written side by side.
    fn take(&self) -> Vec<(Lease, Pending)> {
        let mut inbox = self.lock();
        let inbox = &mut inbox.pending;
        if inbox.len() <= ROUND {
            return inbox.drain().collect();
        }
        let leases: Vec<Lease> = inbox.keys().take(ROUND).copied().collect();
        leases
            .into_iter()
            .filter_map(|lease| inbox.remove_entry(&lease))
            .collect()
    }

    async fn write(&self, round: Vec<(Lease, Pending)>) {
        let mut cost = 0;
        let (mut progress, mut finishes, mut releases) = (Vec::new(), Vec::new(), Vec::new());
        let (mut finished, mut released) = (Vec::new(), Vec::new());
        for (lease, pending) in round {
            cost += pending.cost;
            let Pending {
                nodes, events, end, ..
            } = pending;
            match end {
                None => progress.extend(self.after(lease).map(|after_seq| Progress {
                    lease,
                    after_seq,
                    nodes,
                    events,
                })),
                // Checkpoints of a run that ends are not needed any more.
                Some((End::Finish(mut finish), decided)) => {
                    finish.after_seq = self.after(lease).unwrap_or(finish.after_seq);
                    finish.events = joined(events, finish.events);
                    finishes.push(*finish);
                    finished.push(decided);
                }
                Some((End::Release(mut release), decided)) => {
                    release.events = joined(events, release.events);
                    release.nodes = joined(nodes, release.nodes);
                    releases.push(*release);
                    released.push(decided);
                }
            }
        }
        tokio::join!(
            self.write_progress(progress),
            self.write_finishes(finishes, finished),
            self.write_releases(releases, released),
        );
        self.room.add_permits(cost);
    }

    /// After which sequence the next progress comes; `None` when the lease was forgotten meanwhile.
    fn after(&self, lease: Lease) -> Option<u64> {
        self.lock().last_seq.get(&lease).copied()
    }

    async fn write_progress(&self, items: Vec<Progress>) {
        let results = write_all(&Checkpoints(&*self.store), &items, &self.readiness).await;
        let mut committed = Vec::with_capacity(items.len());
        for (item, result) in items.iter().zip(results) {
            match result {
                Ok(Fenced::Applied { events }) => {
                    if let Some(last) = self.lock().last_seq.get_mut(&item.lease) {
                        *last = item.after_seq + events.len() as u64;
                    }
                    committed.push(events);
                }
                Ok(Fenced::Stale) => self.lost(&item.lease),
                // Without its checkpoints the run still goes on; its end says how.
                Err(error) => tracing::error!(%error, run = %item.lease.run, "progress is not written"),
            }
        }
        self.live.events(committed);
    }

    async fn write_finishes(&self, items: Vec<Finish>, decided: Vec<oneshot::Sender<Written>>) {
        let store = Finishes(&*self.store);
        let mut results = write_all(&store, &items, &self.readiness).await;
        for (item, result) in items.iter().zip(&mut results) {
            if let Err(error) = result {
                tracing::error!(%error, run = %item.lease.run, "the store refuses a result: the run fails");
                let failed = vec![refused(item, &error.to_string())];
                let again = write_all(&store, &failed, &self.readiness).await.pop();
                *result = again.unwrap_or_else(|| Err(Arc::clone(error)));
            }
        }
        self.decide(items.iter().map(|item| item.lease), results, decided)
            .await;
    }

    async fn write_releases(&self, items: Vec<Release>, decided: Vec<oneshot::Sender<Written>>) {
        let store = Releases {
            store: &*self.store,
            relay: &self.relay,
        };
        let results = write_all(&store, &items, &self.readiness).await;
        self.decide(items.iter().map(|item| item.lease), results, decided)
            .await;
    }

    /// What became of ends. One that is stale may have been written by a try that nobody heard of.
    async fn decide(
        &self,
        leases: impl Iterator<Item = Lease>,
        results: Vec<Result>,
        decided: Vec<oneshot::Sender<Written>>,
    ) {
        let ends: Vec<_> = {
            let mut inbox = self.lock();
            let known = |lease| (lease, inbox.last_seq.remove(&lease).unwrap_or(u64::MAX));
            leases.map(known).collect()
        };
        let stale: Vec<_> = ends
            .iter()
            .zip(&results)
            .filter(|(_, result)| matches!(result, Ok(Fenced::Stale)))
            .map(|(end, _)| *end)
            .collect();
        let mut unheard = unheard::written(&*self.store, &stale).await;
        let mut committed = Vec::with_capacity(ends.len());
        for (((lease, _), result), decided) in ends.into_iter().zip(results).zip(decided) {
            let result = match unheard.remove(&lease) {
                Some(events) => Ok(Fenced::Applied { events }),
                None => result,
            };
            decide(lease, result, decided, &mut committed);
        }
        self.live.events(committed);
    }

    /// The store said that a lease is not ours: its execution stops and is forgotten.
    fn lost(&self, lease: &Lease) {
        if self.held.stop(lease, Stop::Lost) {
            metrics::counter!(LEASES_LOST_TOTAL).increment(1);
            tracing::warn!(run = %lease.run, epoch = lease.epoch, "lease lost: the store refused a write");
        }
    }
}

type Result = std::result::Result<Fenced, Arc<flowfleet_core::PortError>>;

fn decide(
    lease: Lease,
    result: Result,
    decided: oneshot::Sender<Written>,
    committed: &mut Vec<Vec<flowfleet_core::RunEvent>>,
) {
    let written = match result {
        Ok(Fenced::Applied { events }) => {
            let last = events.iter().map(|event| event.kind).find(|kind| kind.is_final());
            committed.push(events);
            Written::Applied(last)
        }
        Ok(Fenced::Stale) => Written::Stale,
        Err(error) => {
            tracing::error!(%error, run = %lease.run, "an end is not written: the lease will run out");
            Written::Refused
        }
    };
    // Nobody may be waiting any more: the worker stops.
    let _ = decided.send(written);
}

/// The same run, failed because its result cannot be stored, without anything that might be why.
fn refused(finish: &Finish, why: &str) -> Finish {
    Finish {
        lease: finish.lease,
        after_seq: finish.after_seq,
        ending: Ending::Failed,
        events: Vec::new(),
        output: Payload::null(),
        outputs: Payload::null(),
        error: Some(RunError {
            kind: RunErrorKind::Internal,
            code: "result_refused".to_owned(),
            message: format!(
                "the store refused the result of this run: {}",
                why.replace('\0', "")
            ),
            node: None,
        }),
        usage: finish.usage,
        nodes_reused: finish.nodes_reused,
    }
}

fn joined<T>(mut first: Vec<T>, then: Vec<T>) -> Vec<T> {
    if first.is_empty() {
        return then;
    }
    first.extend(then);
    first
}

fn payload_weight(payload: &Payload) -> usize {
    match payload {
        Payload::Inline(value) => weight(value),
        Payload::Blob(blob) => blob.key.len() + 128,
    }
}

/// About how many bytes a value takes in memory.
fn weight(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| 32 + key.len() + weight(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
