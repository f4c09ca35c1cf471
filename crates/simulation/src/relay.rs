//! The relay of a process: publishes outbox rows, waits for the confirmation, then deletes them. What it forgets in a
//! crash the sweep finds.

use std::collections::VecDeque;

use flowfleet_core::port::OutboxRow;

use crate::env::Env;
use crate::model::{BACKOFF, Ms, Mutation};
use crate::wire::{BROKER, Body, STORE, StoreOp, Stored, Who};

#[derive(Debug)]
enum Phase {
    Idle,
    /// Asked, and waiting for the answer to this call.
    Asked(u32),
    /// Nobody answered: again at this time.
    Again(Ms),
}

#[derive(Debug)]
pub(crate) struct Relay {
    waiting: VecDeque<OutboxRow>,
    /// Rows that were sent and are not deleted yet.
    known: Vec<i64>,
    publishing: (Phase, Vec<OutboxRow>),
    confirmed: Vec<i64>,
    deleting: (Phase, Vec<i64>),
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            known: Vec::new(),
            publishing: (Phase::Idle, Vec::new()),
            confirmed: Vec::new(),
            deleting: (Phase::Idle, Vec::new()),
        }
    }
}

impl Phase {
    fn due(&self, wanted: bool) -> Ms {
        match self {
            Self::Idle if wanted => 0,
            Self::Again(at) => *at,
            Self::Idle | Self::Asked(_) => Ms::MAX,
        }
    }

    fn waits_for(&self, call: u32) -> bool {
        matches!(self, Self::Asked(asked) if *asked == call)
    }
}

impl Relay {
    /// Takes a row to publish, unless it is on its way already.
    pub(crate) fn send(&mut self, row: Option<OutboxRow>) -> bool {
        match row {
            Some(row) if !self.known.contains(&row.id) => {
                self.known.push(row.id);
                self.waiting.push_back(row);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.known.is_empty()
    }

    /// When it has something to publish, and when something to delete.
    pub(crate) fn due(&self) -> [Ms; 2] {
        [
            self.publishing.0.due(!self.waiting.is_empty()),
            self.deleting.0.due(!self.confirmed.is_empty()),
        ]
    }

    pub(crate) fn publish(&mut self, env: &mut Env, me: Who) {
        let (phase, rows) = &mut self.publishing;
        if rows.is_empty() {
            rows.extend(self.waiting.drain(..));
        }
        let body = Body::Publish {
            rows: rows.iter().map(|row| row.id).collect(),
            envelopes: rows
                .iter()
                .flat_map(|row| row.envelopes.iter().cloned())
                .collect(),
        };
        if env.is(Mutation::DeleteBeforeConfirm) {
            self.confirmed.extend(rows.drain(..).map(|row| row.id));
        }
        *phase = Phase::Asked(env.ask(me, BROKER, body));
    }

    pub(crate) fn delete(&mut self, env: &mut Env, me: Who) {
        let (phase, ids) = &mut self.deleting;
        if ids.is_empty() {
            ids.append(&mut self.confirmed);
        }
        *phase = Phase::Asked(env.ask(me, STORE, Body::Store(StoreOp::OutboxDone(ids.clone()))));
    }

    /// An answer; false when it is none to a question of the relay.
    pub(crate) fn hear(&mut self, env: &Env, call: u32, body: &Body) -> bool {
        let again = Phase::Again(env.now + BACKOFF);
        if self.publishing.0.waits_for(call) {
            self.publishing.0 = match body {
                // What the broker refuses is left to the reconciler.
                Body::Confirmed | Body::Refused => {
                    let rows = std::mem::take(&mut self.publishing.1);
                    self.confirmed.extend(rows.iter().map(|row| row.id));
                    Phase::Idle
                }
                _ if self.publishing.1.is_empty() => Phase::Idle,
                _ => again,
            };
        } else if self.deleting.0.waits_for(call) {
            self.deleting.0 = match body {
                Body::Stored(Stored::Done) => {
                    let deleted = std::mem::take(&mut self.deleting.1);
                    self.known.retain(|id| !deleted.contains(id));
                    Phase::Idle
                }
                _ => again,
            };
        } else {
            return false;
        }
        true
    }
}
