//! The only writer of a worker: progress and ends of all its runs, in rounds. While one round is under way the next
//! gathers. A write that nobody answered is repeated: progress says after which event it comes, ends are fenced.

use flowfleet_core::Lease;

use super::{Stop, Worker};
use crate::env::{Env, say};
use crate::model::{BACKOFF, Ms, number};
use crate::wire::{Body, Finish, NodeEvent, Progress, Release, STORE, StoreOp, Stored, Who};

/// How a run leaves the worker.
#[derive(Debug)]
pub(super) enum End {
    Finish(Finish),
    Release(Release),
}

#[derive(Debug, Default)]
struct Pending {
    nodes: u8,
    events: Vec<NodeEvent>,
    end: Option<End>,
}

/// One kind of write of a round.
#[derive(Debug)]
struct Part {
    op: StoreOp,
    /// The question whose answer it waits for; 0 between two tries.
    call: u32,
    again_at: Ms,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    inbox: Vec<(Lease, Pending)>,
    /// The last event that is written of each run that is executed.
    last_seq: Vec<(Lease, u64)>,
    round: Vec<Part>,
}

impl Journal {
    fn entry(&mut self, lease: Lease) -> &mut Pending {
        let at = match self.inbox.iter().position(|(of, _)| *of == lease) {
            Some(at) => at,
            None => {
                self.inbox.push((lease, Pending::default()));
                self.inbox.len() - 1
            }
        };
        &mut self.inbox[at].1
    }

    pub(super) fn begin(&mut self, lease: Lease, last_seq: u64) {
        self.last_seq.push((lease, last_seq));
    }

    fn last_seq(&mut self, lease: Lease) -> Option<&mut u64> {
        let known = self.last_seq.iter_mut().find(|(of, _)| *of == lease);
        known.map(|(_, last)| last)
    }

    pub(super) fn note(&mut self, lease: Lease, nodes: u8, event: NodeEvent) {
        let pending = self.entry(lease);
        pending.nodes |= nodes;
        pending.events.push(event);
    }

    pub(super) fn end(&mut self, lease: Lease, end: End) {
        self.entry(lease).end = Some(end);
    }

    /// Drops what a lost lease still had to write.
    pub(super) fn forget(&mut self, lease: &Lease) {
        self.inbox.retain(|(of, _)| of != lease);
        self.last_seq.retain(|(of, _)| of != lease);
    }

    pub(super) fn is_due(&self) -> bool {
        self.round.is_empty() && !self.inbox.is_empty()
    }

    /// Writes that nobody answered, and when they are repeated.
    pub(super) fn again(&self) -> impl Iterator<Item = (u8, Ms)> {
        let parts = self.round.iter().enumerate();
        parts
            .filter(|(_, part)| part.call == 0)
            .map(|(at, part)| (at as u8, part.again_at))
    }

    pub(super) fn waits_for(&self, call: u32) -> bool {
        self.round.iter().any(|part| part.call == call)
    }

    pub(super) fn write_again(&mut self, env: &mut Env, me: Who, part: u8) {
        if let Some(part) = self.round.get_mut(usize::from(part)) {
            part.call = env.ask(me, STORE, Body::Store(part.op.clone()));
        }
    }
}

impl Worker {
    /// Begins a round with everything that gathered.
    pub(super) fn write(&mut self, env: &mut Env) {
        let (mut progress, mut finishes, mut releases) = (Vec::new(), Vec::new(), Vec::new());
        for (lease, pending) in std::mem::take(&mut self.journal.inbox) {
            let Pending { nodes, events, end } = pending;
            match end {
                None => progress.extend(self.journal.last_seq(lease).map(|after_seq| Progress {
                    lease,
                    after_seq: *after_seq,
                    nodes,
                    events,
                })),
                Some(End::Finish(mut finish)) => {
                    finish.events = events;
                    finishes.push(finish);
                }
                Some(End::Release(mut release)) => {
                    release.events = events;
                    release.nodes |= nodes;
                    releases.push(release);
                }
            }
        }
        let mut part = |op| {
            let call = env.ask(self.me, STORE, Body::Store(StoreOp::clone(&op)));
            self.journal.round.push(Part {
                op,
                call,
                again_at: 0,
            });
        };
        if !progress.is_empty() {
            part(StoreOp::Checkpoint(progress));
        }
        if !finishes.is_empty() {
            part(StoreOp::Finish(finishes));
        }
        if !releases.is_empty() {
            part(StoreOp::Release(releases));
        }
    }

    pub(super) fn written(&mut self, env: &mut Env, call: u32, body: Body) {
        let Some(at) = self.journal.round.iter().position(|part| part.call == call) else {
            return;
        };
        let Body::Stored(Stored::Written(results, row)) = body else {
            let part = &mut self.journal.round[at];
            part.call = 0;
            part.again_at = env.now + BACKOFF;
            return;
        };
        let part = self.journal.round.remove(at);
        self.relay.send(row);
        match part.op {
            StoreOp::Checkpoint(items) => {
                for (item, applied) in items.iter().zip(results) {
                    if !applied {
                        self.lost(&item.lease);
                    } else if let Some(last) = self.journal.last_seq(item.lease) {
                        *last = item.after_seq + item.events.len() as u64;
                    }
                }
            }
            StoreOp::Finish(items) => self.ended(env, items.iter().map(|item| item.lease)),
            StoreOp::Release(items) => self.ended(env, items.iter().map(|item| item.lease)),
            _ => {}
        }
    }

    /// The store decided about these ends, one way or the other: their slots are free.
    fn ended(&mut self, env: &mut Env, leases: impl Iterator<Item = Lease>) {
        for lease in leases {
            say!(env, "{} is done with run {}", self.me, number(lease.run));
            self.held.retain(|held| held.lease != lease);
            self.journal.forget(&lease);
        }
    }

    fn lost(&mut self, lease: &Lease) {
        if let Some(held) = self.held.iter_mut().find(|held| held.lease == *lease) {
            held.stop(Stop::Lost);
        }
    }
}
