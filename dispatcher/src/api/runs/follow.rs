//! One run's events as they happen: replayed from the store, then followed on the bus, without holes or repeats.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::port::{Bus, Live, LiveStream, Store};
use flowfleet_core::{RunEvent, RunId, Tenant};
use futures::StreamExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Events read from the store at once.
const PAGE: u32 = 500;
/// Between looks into the store while the bus is silent: shortest and longest.
const LOOK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// The same while the bus is away.
const BLIND: Duration = Duration::from_secs(1);
const SUBSCRIBE: Duration = Duration::from_secs(2);

/// What a follower sees.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Followed {
    Event(RunEvent),
    /// Live only: it has no sequence and may be missed.
    Token {
        node: String,
        text: String,
    },
}

/// Follows one run. The store's sequence decides what comes next; the bus only says sooner.
pub(crate) struct Follower {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    tenant: Tenant,
    run: RunId,
    /// The newest sequence handed out or waiting in `pending`.
    after: u64,
    live: Option<LiveStream>,
    pending: VecDeque<Followed>,
    /// The store may know more than was read.
    read: bool,
    ended: bool,
    pause: Duration,
    stop: CancellationToken,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("run", &self.run)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// Follows after the sequence `after`, until a final event or `stop`.
    pub(crate) async fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        tenant: Tenant,
        run: RunId,
        after: u64,
        stop: CancellationToken,
    ) -> Self {
        let mut follower = Self {
            store,
            bus,
            tenant,
            run,
            after,
            live: None,
            pending: VecDeque::new(),
            read: true,
            ended: false,
            pause: LOOK.0,
            stop,
        };
        // Before the store is read, so that nothing can happen in between unseen.
        follower.subscribe().await;
        follower
    }

    /// The next event or token; `None` after a final event.
    pub(crate) async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(next) = self.pending.pop_front() {
                self.ended |= matches!(&next, Followed::Event(event) if event.kind.is_final());
                return Some(next);
            }
            if self.ended {
                return None;
            }
            if self.read {
                self.catch_up().await;
                continue;
            }
            self.listen().await;
        }
    }

    async fn subscribe(&mut self) {
        self.live = match timeout(SUBSCRIBE, self.bus.subscribe(self.run)).await {
            Ok(Ok(live)) => Some(live),
            _ => None,
        };
    }

    /// Reads what the store has beyond `after`.
    async fn catch_up(&mut self) {
        match self.store.events(&self.tenant, self.run, self.after, PAGE).await {
            Ok(Some(events)) => {
                self.read = events.len() >= PAGE as usize;
                for event in events {
                    self.take(event);
                }
            }
            Ok(None) => self.ended = true,
            Err(error) => {
                tracing::warn!(%error, run = %self.run, "events cannot be read: trying again");
                self.sleep(BLIND).await;
            }
        }
    }

    fn take(&mut self, event: RunEvent) {
        if event.seq > self.after {
            self.after = event.seq;
            self.pause = LOOK.0;
            self.pending.push_back(Followed::Event(event));
        }
    }

    /// Waits for the bus, or for the time to look into the store.
    async fn listen(&mut self) {
        let pause = if self.live.is_some() { self.pause } else { BLIND };
        let heard = async {
            match self.live.as_mut() {
                Some(live) => live.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = timeout(pause, heard) => match heard {
                Ok(Some(live)) => self.hear(live),
                Ok(None) => {
                    self.live = None;
                    self.read = true;
                }
                Err(_) => {
                    self.pause = (self.pause * 2).min(LOOK.1);
                    self.read = true;
                    if self.live.is_none() {
                        self.subscribe().await;
                    }
                }
            },
            () = self.stop.cancelled() => self.ended = true,
        }
    }

    fn hear(&mut self, live: Live) {
        match live {
            Live::Events { events } => {
                let run = self.run;
                for event in events.into_iter().filter(|event| event.run == run) {
                    if event.seq > self.after + 1 {
                        // Something is missing in between: the store has it, and this one too.
                        self.read = true;
                        return;
                    }
                    self.take(event);
                }
            }
            Live::Token { node, text, run } if run == self.run => {
                self.pending.push_back(Followed::Token { node, text });
            }
            Live::Token { .. } => {}
            Live::Lagged => self.read = true,
        }
    }

    async fn sleep(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => self.ended = true,
        }
    }
}
