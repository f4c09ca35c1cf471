//! One pool and priority as one consumer sees it: a channel of its own, its open deliveries and a buffer.
//!
//! A source is closed (nothing), open and flowing (a consumer runs on its channel), or open and paused (the
//! channel stays, because deliveries handed out can be settled on no other).

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use flowfleet_core::error::{Kind, PortError};
use flowfleet_core::message::RunMessage;
use flowfleet_core::pool::Pool;
use flowfleet_core::port::Result;
use flowfleet_core::run::Priority;
use futures::future::try_join_all;
use futures::{Stream, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions};

use tokio::task::JoinHandle;

use super::Context;
use super::exchange::{Exchange, Flow, loud, trace};
use super::explain::{explain, within};
use super::live::Live;
use crate::metrics::{RESUBSCRIBED, UNDECODABLE};
use crate::outstanding::{Outstanding, Settle};

/// Quiet checks after which a source with nothing open gets a new channel: five minutes by default.
const RENEW: u32 = 15;

/// What to do with deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// For others to have.
    Return,
    /// Never again.
    Drop,
}

/// A channel and what is open on it.
#[derive(Debug)]
struct Open {
    live: Arc<Live>,
    channel: Channel,
    generation: u64,
    flow: Option<lapin::Consumer>,
    outstanding: Outstanding,
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) queue: Pool,
    pub(super) priority: Priority,
    open: Option<Open>,
    buffer: VecDeque<(u64, RunMessage)>,
    /// Deliveries that are no message of ours.
    garbage: Vec<u64>,
    /// A start that is under way, and the connection it is on.
    starting: Option<(Arc<Live>, JoinHandle<Result<Flow>>)>,
    /// Whether it was open before: the next opening is a restart.
    restart: bool,
    /// The queue may be gone: declare it again.
    vanished: bool,
    /// Whether anything arrived since the last check.
    arrived: bool,
    /// Checks in a row that found it quiet.
    quiet: u32,
    /// Whether the last check found messages that should have arrived.
    suspect: bool,
}

impl Source {
    pub(super) fn new(queue: Pool, priority: Priority) -> Self {
        Self {
            queue,
            priority,
            open: None,
            buffer: VecDeque::new(),
            garbage: Vec::new(),
            starting: None,
            restart: false,
            vanished: false,
            arrived: false,
            quiet: 0,
            suspect: false,
        }
    }

    /// Whether deliveries flow, as far as is known here.
    pub(super) fn flowing(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.flow.is_some() && open.sound())
    }

    pub(super) fn vanished(&self) -> bool {
        self.vanished
    }

    /// Whether nothing came since the last call although there is room for it.
    pub(super) fn quiet(&mut self, prefetch: u16) -> bool {
        let arrived = std::mem::take(&mut self.arrived);
        let room = self
            .open
            .as_ref()
            .is_some_and(|open| open.outstanding.len() < usize::from(prefetch));
        let quiet = !arrived && room && self.flowing();
        self.suspect &= quiet;
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        quiet
    }

    /// Notes that a quiet source's queue has, or has not, messages. The second time in a row it has, the broker
    /// forgot this consumer: start again.
    pub(super) fn compare(&mut self, ready: u64) {
        if ready == 0 {
            self.suspect = false;
            let nothing_open = self.open.as_ref().is_some_and(|open| open.outstanding.len() == 0);
            if self.quiet >= RENEW && nothing_open {
                // What such a broker handed to a deaf consumer shows nowhere: only a new channel frees it.
                self.restart = false;
                self.lose();
            }
        } else if std::mem::replace(&mut self.suspect, true) {
            let (queue, priority) = (&self.queue, self.priority.as_str());
            tracing::warn!(%queue, priority, ready, "a consumer receives nothing though messages wait: starting it again");
            self.lose();
        }
    }

    /// Whether what was handed out can still be settled.
    pub(super) fn sound(&self) -> bool {
        self.open.as_ref().is_some_and(Open::sound)
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Takes the oldest message, with generation and tag.
    pub(super) fn take(&mut self) -> Option<(u64, u64, RunMessage)> {
        let generation = self.open.as_ref()?.generation;
        let (tag, message) = self.buffer.pop_front()?;
        Some((generation, tag, message))
    }

    /// Gives up the channel. What was delivered on it comes again, so the buffer is void.
    pub(super) fn lose(&mut self) {
        self.open = None;
        self.starting = None;
        self.buffer.clear();
        self.garbage.clear();
        self.suspect = false;
        self.quiet = 0;
    }

    /// Makes deliveries flow on `live`. Cancel-safe: the exchange with the broker goes on in a task of its own,
    /// and the next call takes up its result (a consumer whose handle is lost would hoard for nobody).
    pub(super) async fn start(
        &mut self,
        context: &Arc<Context>,
        live: &Arc<Live>,
        generation: u64,
        prefetch: u16,
    ) -> Result<()> {
        if self.starting.is_none() {
            if !self.sound() {
                self.lose();
            }
            let exchange = Exchange {
                context: Arc::clone(context),
                live: Arc::clone(live),
                queue: self.queue.clone(),
                priority: self.priority,
                channel: self.open.as_ref().map(|open| open.channel.clone()),
                prefetch,
                forget: std::mem::take(&mut self.vanished),
            };
            self.starting = Some((Arc::clone(live), tokio::spawn(exchange.run())));
        }
        self.started(generation).await
    }

    /// Waits for a start that is under way, if one is.
    async fn started(&mut self, generation: u64) -> Result<()> {
        let Some((live, task)) = self.starting.as_mut() else {
            return Ok(());
        };
        let live = Arc::clone(live);
        let result = task.await;
        self.starting = None;
        let result =
            result.unwrap_or_else(|error| Err(PortError::from_source(Kind::Bug, "queue.consume", error)));
        let (channel, flow) = match result {
            Ok(pair) => pair,
            Err(error) => {
                self.lose();
                self.vanished = true;
                return Err(error);
            }
        };
        match self.open.as_mut() {
            Some(open) => open.flow = Some(flow),
            None => {
                if self.restart {
                    metrics::counter!(RESUBSCRIBED).increment(1);
                }
                let outstanding = Outstanding::default();
                self.open = Some(Open {
                    live,
                    channel,
                    generation,
                    flow: Some(flow),
                    outstanding,
                });
            }
        }
        self.restart = true;
        Ok(())
    }

    /// Moves what has arrived into the buffer; whether there was anything, the end of the flow included.
    pub(super) fn poll(&mut self, task: &mut TaskContext<'_>) -> bool {
        let mut progress = false;
        loop {
            let Some(open) = self.open.as_mut() else {
                return progress;
            };
            let Some(flow) = open.flow.as_mut() else {
                return progress;
            };
            match std::pin::Pin::new(flow).poll_next(task) {
                Poll::Pending => return progress,
                Poll::Ready(Some(Ok(delivery))) => self.arrive(&delivery),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(queue = %self.queue, %error, "a consumer ended");
                    self.lose();
                }
                Poll::Ready(None) => {
                    let (queue, priority) = (&self.queue, self.priority.as_str());
                    tracing::info!(%queue, priority, "the broker ended a consumer: its queue was deleted or moved");
                    self.vanished = true;
                    self.lose();
                }
            }
            progress = true;
        }
    }

    fn arrive(&mut self, delivery: &Delivery) {
        let Some(open) = self.open.as_mut() else { return };
        self.arrived = true;
        open.outstanding.insert(delivery.delivery_tag);
        match RunMessage::decode(&delivery.data) {
            Ok(mut message) => {
                if message.trace.is_none() {
                    message.trace = trace(&delivery.properties);
                }
                self.buffer.push_back((delivery.delivery_tag, message));
            }
            Err(error) => {
                metrics::counter!(UNDECODABLE).increment(1);
                if loud() {
                    let (queue, priority) = (&self.queue, self.priority.as_str());
                    tracing::warn!(%queue, priority, %error, "dropping a message that is none of ours");
                }
                self.garbage.push(delivery.delivery_tag);
            }
        }
    }

    /// Which opening deliveries are of now.
    pub(super) fn generation(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.generation)
    }

    /// Settles those of `tags` that are open; the caller made sure that they are of this generation.
    pub(super) async fn settle(
        &mut self,
        tags: impl IntoIterator<Item = u64>,
        verdict: Verdict,
        patience: Duration,
    ) -> Result<()> {
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        let frames = open.outstanding.settle(tags);
        let sent = try_join_all(
            frames
                .into_iter()
                .map(|frame| send(&open.channel, frame, verdict)),
        );
        let operation = if verdict == Verdict::Done {
            "queue.ack"
        } else {
            "queue.reject"
        };
        let result = within(operation, patience, async {
            sent.await.map(drop).map_err(|error| explain(operation, error))
        })
        .await;
        if result.is_err() {
            // Which of them the broker saw is not known: all of the channel's come again.
            self.lose();
        }
        result
    }

    /// Drops what is none of ours, so that it does not come again.
    pub(super) async fn drop_garbage(&mut self, patience: Duration) {
        if self.garbage.is_empty() {
            return;
        }
        let garbage = std::mem::take(&mut self.garbage);
        // An error loses the channel; the garbage comes again and is dropped then.
        let _ = self.settle(garbage, Verdict::Drop, patience).await;
    }

    /// Stops the flow and gives the buffer back. If that fails the channel goes, which gives it back as well.
    pub(super) async fn pause(&mut self, generation: u64, patience: Duration) {
        if let Err(error) = self.started(generation).await {
            tracing::debug!(queue = %self.queue, %error, "a consumer could not be started before its pause");
        }
        let Some(open) = self.open.as_mut() else { return };
        let Some(mut flow) = open.flow.take() else { return };
        let channel = open.channel.clone();
        let stopped = within("queue.pause", patience, async {
            channel
                .basic_cancel(flow.tag(), BasicCancelOptions::default())
                .await
                .map_err(|error| explain("queue.pause", error))?;
            // What was on its way before the broker agreed.
            while let Some(delivery) = flow.next().await {
                self.arrive(&delivery.map_err(|error| explain("queue.pause", error))?);
            }
            Ok(())
        })
        .await;
        let tags: Vec<u64> = self.buffer.drain(..).map(|(tag, _)| tag).collect();
        let settled = match stopped {
            Ok(()) => self.settle(tags, Verdict::Return, patience).await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            tracing::debug!(queue = %self.queue, %error, "could not pause a consumer: closing its channel");
            self.lose();
        }
        self.drop_garbage(patience).await;
    }
}

impl Open {
    fn sound(&self) -> bool {
        self.channel.status().connected() && self.live.alive()
    }
}

async fn send(channel: &Channel, frame: Settle, verdict: Verdict) -> lapin::Result<()> {
    let Settle { tag, multiple } = frame;
    match verdict {
        Verdict::Done => channel.basic_ack(tag, BasicAckOptions { multiple }).await,
        Verdict::Return => {
            channel
                .basic_nack(
                    tag,
                    BasicNackOptions {
                        multiple,
                        requeue: true,
                    },
                )
                .await
        }
        Verdict::Drop => {
            channel
                .basic_nack(
                    tag,
                    BasicNackOptions {
                        multiple,
                        requeue: false,
                    },
                )
                .await
        }
    }
}
