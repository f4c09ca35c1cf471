//! The broker: three queues, one connection a worker. It confirms what it took, gives back what a broken connection
//! had not acknowledged, and may lose or repeat anything (invariant I1).

use std::collections::VecDeque;

use flowfleet_core::{Priority, RunMessage};

use crate::coverage::Step;
use crate::env::{Env, say};
use crate::model::{WORKERS, number};
use crate::wire::{BROKER, Body, Delivery, Place, Who};

#[derive(Debug, Clone)]
struct Message {
    body: RunMessage,
    priority: Priority,
    delivered: bool,
}

/// A worker's connection.
#[derive(Debug)]
struct Connection {
    who: Who,
    generation: u32,
    consuming: bool,
    unacked: Vec<(u32, Message)>,
}

#[derive(Debug)]
pub(crate) struct Broker {
    ready: [VecDeque<Message>; 3],
    connections: Vec<Connection>,
    prefetch: usize,
}

impl Broker {
    pub(crate) fn new(prefetch: usize) -> Self {
        let connections = (0..WORKERS).map(|n| Connection {
            who: Who {
                place: Place::Worker(n as u8),
                life: 0,
            },
            generation: 0,
            consuming: false,
            unacked: Vec::new(),
        });
        Self {
            ready: Default::default(),
            connections: connections.collect(),
            prefetch,
        }
    }

    pub(crate) fn depth(&self) -> usize {
        self.ready.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn unacked(&self) -> usize {
        self.connections.iter().map(|c| c.unacked.len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.depth() == 0 && self.unacked() == 0
    }

    /// Whether it could hand a message to this worker now.
    pub(crate) fn can_deliver(&self, worker: usize) -> bool {
        let connection = &self.connections[worker];
        connection.consuming && connection.unacked.len() < self.prefetch && self.depth() > 0
    }

    pub(crate) fn deliver(&mut self, env: &mut Env, worker: usize) {
        let filled: Vec<usize> = (0..3).filter(|at| !self.ready[*at].is_empty()).collect();
        if filled.is_empty() {
            return;
        }
        let queue = filled[env.tape.pick(filled.len())];
        let Some(mut message) = self.ready[queue].pop_front() else {
            return;
        };
        if std::mem::replace(&mut message.delivered, true) {
            env.count(Step::Redelivered);
        }
        let tag = env.next_tag();
        let connection = &mut self.connections[worker];
        let delivery = Delivery {
            tag,
            message: message.body.clone(),
        };
        say!(
            env,
            "broker gives message {tag} for run {} to {}",
            number(message.body.run),
            connection.who
        );
        connection.unacked.push((tag, message));
        let (to, generation) = (connection.who, connection.generation);
        env.tell(BROKER, to, Body::Deliver { generation, delivery });
    }

    pub(crate) fn handle(&mut self, env: &mut Env, from: Who, call: u32, body: Body) {
        match body {
            Body::Publish { rows, envelopes } => {
                for id in &rows {
                    if !env.check.published(*id) {
                        env.count(Step::PublishedTwice);
                    }
                }
                for envelope in envelopes {
                    self.enqueue(Message {
                        body: envelope.message,
                        priority: envelope.priority,
                        delivered: false,
                    });
                }
                env.answer(BROKER, from, call, Body::Confirmed);
            }
            Body::Depth => {
                let depth = self.depth() as u64;
                env.answer(BROKER, from, call, Body::DepthIs(depth));
            }
            Body::Gone => self.gone(from),
            body => self.on_connection(env, from, body),
        }
    }

    fn enqueue(&mut self, message: Message) {
        self.ready[message.priority as usize].push_back(message);
    }

    fn on_connection(&mut self, env: &mut Env, from: Who, body: Body) {
        let Place::Worker(worker) = from.place else { return };
        let connection = &mut self.connections[usize::from(worker)];
        let known = (connection.who, connection.generation);
        let current = |generation: u32| known == (from, generation);
        match body {
            Body::Consume { generation } => {
                if connection.who.life > from.life
                    || (connection.who == from && connection.generation > generation)
                {
                    return;
                }
                let new = connection.who != from || connection.generation != generation;
                connection.who = from;
                connection.generation = generation;
                connection.consuming = true;
                if new {
                    self.give_back(usize::from(worker));
                }
            }
            Body::Pause { generation } if current(generation) => connection.consuming = false,
            Body::Ack { generation, tags } if current(generation) => {
                connection.unacked.retain(|(tag, _)| !tags.contains(tag));
            }
            Body::Ack { .. } => env.count(Step::VoidReceipt),
            Body::Reject { generation, tags } if current(generation) => {
                let (rejected, kept) = std::mem::take(&mut connection.unacked)
                    .into_iter()
                    .partition(|(tag, _)| tags.contains(tag));
                connection.unacked = kept;
                self.requeue(rejected);
            }
            _ => {}
        }
    }

    fn requeue(&mut self, messages: Vec<(u32, Message)>) {
        for (_, message) in messages.into_iter().rev() {
            self.ready[message.priority as usize].push_front(message);
        }
    }

    fn give_back(&mut self, worker: usize) {
        let unacked = std::mem::take(&mut self.connections[worker].unacked);
        self.requeue(unacked);
    }

    /// A process ended, and its connection with it.
    fn gone(&mut self, who: Who) {
        if let Some(worker) = self.connections.iter().position(|c| c.who == who) {
            self.connections[worker].consuming = false;
            self.give_back(worker);
        }
    }

    /// Breaks the connection of a worker.
    pub(crate) fn reset(&mut self, env: &mut Env, worker: usize) {
        let connection = &mut self.connections[worker];
        connection.consuming = false;
        let (to, generation) = (connection.who, connection.generation);
        self.give_back(worker);
        env.tell(BROKER, to, Body::ConnectionLost { generation });
    }

    pub(crate) fn purge(&mut self) {
        self.ready.iter_mut().for_each(VecDeque::clear);
    }

    /// The queue that the next fault on a message hits.
    fn filled(&mut self) -> Option<&mut VecDeque<Message>> {
        self.ready.iter_mut().find(|queue| !queue.is_empty())
    }

    pub(crate) fn lose_one(&mut self) -> bool {
        self.filled().and_then(VecDeque::pop_front).is_some()
    }

    pub(crate) fn repeat_one(&mut self) -> bool {
        let Some(queue) = self.filled() else { return false };
        let copy = queue.front().cloned();
        queue.extend(copy);
        true
    }
}
