//! One worker's intake over all its pools and priorities.
//!
//! Polled, not spawned: deliveries wait with the client library, as many as the prefetch allows, until
//! `receive` moves them into buffers and picks by weight. A source that is lost is started again on whatever
//! connection there is; each start is a new generation, and receipts of older ones are void.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use flowfleet_core::pool::Pool;
use flowfleet_core::port::{Consumer, Delivery, Receipt, Result};
use flowfleet_core::run::Priority;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Context;
use super::explain::within;
use super::link::State;
use super::source::{Source, Verdict};
use super::topology::SETTLE;
use crate::fair::Fair;

/// Pauses between tries to start a source on a sound connection.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// How long a new consumer waits for the connection before it is handed out without one.
const FIRST: Duration = Duration::from_secs(2);

/// Not all workers ask at once.
fn next_check(interval: Duration) -> Instant {
    Instant::now() + interval.mul_f64(rand::random_range(0.75..1.25))
}

#[derive(Debug)]
pub(super) struct RabbitConsumer {
    context: Arc<Context>,
    link: watch::Receiver<State>,
    prefetch: u16,
    sources: Vec<Source>,
    fair: Fair,
    generation: u64,
    paused: bool,
    /// When to try again to start sources that could not be, and the pause after that.
    retry: Option<(Instant, Duration)>,
    /// When to compare what arrives with what waits.
    check: Instant,
}

impl RabbitConsumer {
    pub(super) fn new(context: Arc<Context>, queues: &[Pool], prefetch: u16) -> Self {
        let mut seen = HashSet::new();
        let sources = queues
            .iter()
            .filter(|queue| seen.insert(*queue))
            .flat_map(|queue| Priority::ALL.map(|priority| Source::new(queue.clone(), priority)))
            .collect();
        let link = context.link.watch();
        let check = next_check(context.check);
        Self {
            context,
            check,
            link,
            prefetch,
            sources,
            fair: Fair::default(),
            generation: 0,
            paused: false,
            retry: None,
        }
    }

    /// Starts to consume if the broker is there; if it is not, `receive` goes on trying.
    pub(super) async fn start(&mut self) -> Result<()> {
        if self.context.link.live("queue.consume", FIRST).await.is_ok() {
            self.start_sources().await?;
        }
        Ok(())
    }

    /// Starts every source that does not flow. Only errors that trying again cannot cure come out.
    async fn start_sources(&mut self) -> Result<()> {
        let idle = self.sources.iter().filter(|source| !source.flowing()).count();
        if idle == 0 {
            self.retry = None;
            return Ok(());
        }
        let Some(live) = self.context.link.current() else {
            return Ok(());
        };
        if self.retry.is_none() && self.sources.iter().any(Source::vanished) {
            self.retry = Some((Instant::now() + SETTLE, RETRY_FIRST));
        }
        if self.retry.is_some_and(|(at, _)| at > Instant::now()) {
            return Ok(());
        }
        self.generation += 1;
        let (context, generation, prefetch) = (&self.context, self.generation, self.prefetch);
        let starts = self
            .sources
            .iter_mut()
            .filter(|source| !source.flowing())
            .map(|source| source.start(context, &live, generation, prefetch));
        let errors: Vec<_> = join_all(starts)
            .await
            .into_iter()
            .filter_map(Result::err)
            .collect();
        let pause = self.retry.map_or(RETRY_FIRST, |(_, pause)| pause);
        self.retry = None;
        for error in errors {
            self.retry = Some((Instant::now() + pause, (pause * 2).min(RETRY_MOST)));
            if !error.is_retryable() {
                return Err(error);
            }
            tracing::warn!(%error, "a consumer could not be started: trying again");
        }
        Ok(())
    }

    /// Compares sources to which nothing comes with what waits for them. The broker tells consumers when their
    /// queue goes, but not always: one that was deleted and declared again at once may leave them deaf.
    async fn check(&mut self) {
        self.check = next_check(self.context.check);
        let prefetch = self.prefetch;
        let quiet: Vec<usize> = (0..self.sources.len())
            .filter(|index| self.sources[*index].quiet(prefetch))
            .collect();
        let Some(live) = self.context.link.current() else {
            return;
        };
        for index in quiet {
            let (queue, priority) = (self.sources[index].queue.clone(), self.sources[index].priority);
            let asked = live.ready(&self.context.names, &queue, priority);
            match within("queue.check", self.context.patience, asked).await {
                Ok(ready) => self.sources[index].compare(ready),
                Err(error) => tracing::debug!(%queue, %error, "could not check a quiet consumer"),
            }
        }
    }

    /// Picks up to `max` buffered messages by weight.
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let sources = &self.sources;
            let ready = |index: usize| {
                let source: &Source = &sources[index];
                source.has_messages().then(|| source.priority.weight())
            };
            let Some(index) = self.fair.pick(sources.len(), ready) else {
                break;
            };
            let source = &mut self.sources[index];
            let Some((generation, tag, message)) = source.take() else {
                break;
            };
            taken.push(Delivery {
                pool: source.queue.clone(),
                priority: source.priority,
                message,
                receipt: Receipt {
                    generation,
                    source: u32::try_from(index).unwrap_or(u32::MAX),
                    tag,
                },
            });
        }
        taken
    }

    /// Moves arrivals into buffers without waiting.
    async fn collect(&mut self) {
        poll_fn(|task| {
            for source in &mut self.sources {
                source.poll(task);
            }
            Poll::Ready(())
        })
        .await;
        for source in &mut self.sources {
            source.drop_garbage(self.context.patience).await;
        }
    }

    /// Waits until something may have changed: an arrival, the connection, or the time to try again.
    async fn wait(&mut self) {
        let idle = self.sources.iter().any(|source| !source.flowing());
        let again = self.retry.map(|(at, _)| at).filter(|_| idle);
        let sources = &mut self.sources;
        let arrival = poll_fn(|task| {
            let mut progress = false;
            for source in sources.iter_mut() {
                progress |= source.poll(task);
            }
            if progress { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = arrival => {}
            changed = self.link.changed() => if changed.is_err() {
                // The connection's keeper is gone, which only happens when the runtime stops.
                std::future::pending::<()>().await;
            },
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            () = sleep_until(self.check) => {}
        }
    }

    async fn settle(&mut self, receipts: &[Receipt], verdict: Verdict) -> Result<()> {
        let patience = self.context.patience;
        let calls = self.sources.iter_mut().enumerate().filter_map(|(index, source)| {
            let generation = source.generation()?;
            let mine = |receipt: &&Receipt| {
                receipt.generation == generation
                    && usize::try_from(receipt.source).is_ok_and(|it| it == index)
            };
            let tags: Vec<u64> = receipts.iter().filter(mine).map(|receipt| receipt.tag).collect();
            (!tags.is_empty()).then(|| source.settle(tags, verdict, patience))
        });
        join_all(calls).await.into_iter().collect()
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>> {
        self.paused = false;
        loop {
            self.start_sources().await?;
            self.collect().await;
            let taken = self.take(max.max(1));
            if !taken.is_empty() {
                return Ok(taken);
            }
            if self.check <= Instant::now() {
                self.check().await;
            } else {
                self.wait().await;
            }
        }
    }

    async fn ack(&mut self, receipts: &[Receipt]) -> Result<()> {
        self.settle(receipts, Verdict::Done).await
    }

    async fn reject(&mut self, receipts: &[Receipt]) -> Result<()> {
        self.settle(receipts, Verdict::Return).await
    }

    async fn pause(&mut self) -> Result<()> {
        if self.paused {
            return Ok(());
        }
        let patience = self.context.patience;
        self.generation += 1;
        let generation = self.generation;
        join_all(
            self.sources
                .iter_mut()
                .map(|source| source.pause(generation, patience)),
        )
        .await;
        self.paused = true;
        Ok(())
    }

    fn connected(&self) -> bool {
        if self.context.link.current().is_none() {
            return false;
        }
        self.paused || self.sources.iter().all(Source::flowing)
    }
}
