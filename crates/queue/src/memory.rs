//! The queue of a fleet in one process.
//!
//! Holds ids only, once each while they wait, and forgets all of them when the process ends: the store
//! publishes them again at the next start.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::id::RunId;
use flowfleet_core::message::RunMessage;
use flowfleet_core::pool::Pool;
use flowfleet_core::port::{Consumer, Delivery, Depth, Envelope, Queue, Receipt, Result};
use flowfleet_core::run::Priority;
use tokio::sync::Notify;

use crate::fair::Fair;

/// Most messages waiting in one pool and priority. Beyond it publishing fails and is tried again later, while
/// the runs wait in the store.
const MAX_WAITING: usize = 1_000_000;

/// What waits in one pool and priority.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<RunMessage>,
    known: HashSet<RunId>,
}

impl Line {
    /// Appends unless the run waits already: one hint is as good as two.
    fn push_back(&mut self, message: RunMessage) {
        if self.known.insert(message.run) {
            self.waiting.push_back(message);
        }
    }

    /// What comes back goes where it was.
    fn push_front(&mut self, message: RunMessage) {
        if self.known.insert(message.run) {
            self.waiting.push_front(message);
        }
    }

    fn pop(&mut self) -> Option<RunMessage> {
        let message = self.waiting.pop_front()?;
        self.known.remove(&message.run);
        Some(message)
    }
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<HashMap<(Pool, Priority), Line>>,
    arrived: Notify,
    consumers: AtomicU64,
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, HashMap<(Pool, Priority), Line>> {
        // Every change under the lock is one push or pop: a panic elsewhere leaves nothing half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A broker in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryQueue {
    shared: Arc<Shared>,
}

impl MemoryQueue {
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, envelopes: &[Envelope]) -> Result<()> {
        {
            let mut lines = self.shared.lines();
            for envelope in envelopes {
                let line = lines
                    .entry((envelope.pool.clone(), envelope.priority))
                    .or_default();
                if line.waiting.len() >= MAX_WAITING {
                    let detail = format!(
                        "{MAX_WAITING} messages wait in queue {} already: the rest waits in the store",
                        envelope.pool
                    );
                    return Err(PortError::new(Kind::Retryable, "queue.publish", detail));
                }
                line.push_back(envelope.message.clone());
            }
        }
        self.shared.arrived.notify_waiters();
        Ok(())
    }

    async fn consume(&self, queues: &[Pool], prefetch: u16) -> Result<Box<dyn Consumer>> {
        let mut seen = HashSet::new();
        let sources = queues
            .iter()
            .filter(|queue| seen.insert((*queue).clone()))
            .flat_map(|queue| Priority::ALL.map(|priority| Source::new(queue.clone(), priority)))
            .collect();
        Ok(Box::new(MemoryConsumer {
            shared: Arc::clone(&self.shared),
            generation: self.shared.consumers.fetch_add(1, Ordering::Relaxed),
            prefetch: usize::from(prefetch.max(1)),
            sources,
            fair: Fair::default(),
            tag: 0,
        }))
    }

    async fn depth(&self, queue: &Pool) -> Result<Depth> {
        let lines = self.shared.lines();
        let count = |priority| {
            lines
                .get(&(queue.clone(), priority))
                .map_or(0, |line| line.waiting.len() as u64)
        };
        Ok(Depth {
            high: count(Priority::High),
            normal: count(Priority::Normal),
            low: count(Priority::Low),
        })
    }

    async fn ping(&self, _timeout: Duration) -> Result<()> {
        Ok(())
    }
}

/// One pool and priority as one consumer sees it.
#[derive(Debug)]
struct Source {
    line: (Pool, Priority),
    /// Handed out, not settled, by tag.
    open: BTreeMap<u64, RunMessage>,
}

impl Source {
    fn new(queue: Pool, priority: Priority) -> Self {
        Self {
            line: (queue, priority),
            open: BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
struct MemoryConsumer {
    shared: Arc<Shared>,
    /// Tells the receipts of consumers apart.
    generation: u64,
    prefetch: usize,
    sources: Vec<Source>,
    fair: Fair,
    tag: u64,
}

impl MemoryConsumer {
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let mut lines = self.shared.lines();
        let mut taken = Vec::new();
        while taken.len() < max {
            let sources = &self.sources;
            let ready = |index: usize| {
                let source: &Source = &sources[index];
                let has = source.open.len() < self.prefetch
                    && lines
                        .get(&source.line)
                        .is_some_and(|line| !line.waiting.is_empty());
                has.then(|| source.line.1.weight())
            };
            let Some(index) = self.fair.pick(sources.len(), ready) else {
                break;
            };
            let source = &mut self.sources[index];
            let Some(message) = lines.get_mut(&source.line).and_then(Line::pop) else {
                break;
            };
            self.tag += 1;
            source.open.insert(self.tag, message.clone());
            taken.push(Delivery {
                pool: source.line.0.clone(),
                priority: source.line.1,
                message,
                receipt: Receipt {
                    generation: self.generation,
                    source: u32::try_from(index).unwrap_or(u32::MAX),
                    tag: self.tag,
                },
            });
        }
        taken
    }

    fn settle(&mut self, receipt: &Receipt) -> Option<(usize, RunMessage)> {
        if receipt.generation != self.generation {
            return None;
        }
        let index = usize::try_from(receipt.source).ok()?;
        let message = self.sources.get_mut(index)?.open.remove(&receipt.tag)?;
        Some((index, message))
    }

    /// Puts messages back where they were, the newest first so that their order holds.
    fn give_back(&mut self, mut messages: Vec<(u64, usize, RunMessage)>) {
        if messages.is_empty() {
            return;
        }
        messages.sort_by_key(|(tag, ..)| std::cmp::Reverse(*tag));
        {
            let mut lines = self.shared.lines();
            for (_, index, message) in messages {
                lines
                    .entry(self.sources[index].line.clone())
                    .or_default()
                    .push_front(message);
            }
        }
        self.shared.arrived.notify_waiters();
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>> {
        let shared = Arc::clone(&self.shared);
        loop {
            let arrived = shared.arrived.notified();
            tokio::pin!(arrived);
            // Registered before looking, so that nothing arrives unseen in between.
            arrived.as_mut().enable();
            let taken = self.take(max.max(1));
            if !taken.is_empty() {
                return Ok(taken);
            }
            arrived.await;
        }
    }

    async fn ack(&mut self, receipts: &[Receipt]) -> Result<()> {
        for receipt in receipts {
            self.settle(receipt);
        }
        Ok(())
    }

    async fn reject(&mut self, receipts: &[Receipt]) -> Result<()> {
        let messages = receipts
            .iter()
            .filter_map(|receipt| {
                self.settle(receipt)
                    .map(|(index, message)| (receipt.tag, index, message))
            })
            .collect();
        self.give_back(messages);
        Ok(())
    }

    /// Nothing is buffered here: messages stay in their line until they are handed out.
    async fn pause(&mut self) -> Result<()> {
        Ok(())
    }

    fn connected(&self) -> bool {
        true
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let messages = self
            .sources
            .iter_mut()
            .enumerate()
            .flat_map(|(index, source)| {
                std::mem::take(&mut source.open)
                    .into_iter()
                    .map(move |(tag, message)| (tag, index, message))
            })
            .collect();
        self.give_back(messages);
    }
}
