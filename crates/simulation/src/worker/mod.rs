//! A worker: what it holds in memory and which of its parts may move next. The parts move one at a time and in any
//! order, as tasks of a runtime do.

mod execute;
mod intake;
mod journal;
mod lease;

use flowfleet_core::{Lease, WorkerId};
use uuid::Uuid;

use crate::env::{Env, say};
use crate::model::{DRAIN, Ms, NODES, Spec, TERM, millis};
use crate::relay::Relay;
use crate::wire::{BROKER, Body, Place, Who};

use intake::Intake;
use journal::Journal;

/// Why an execution ends before its flow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Lost,
    Cancelled,
    Interrupted,
}

/// What a worker may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Intake,
    /// The execution at this index moves.
    Execute(u8),
    Write,
    WriteAgain(u8),
    Heartbeat,
    Lapse(u8),
    Publish,
    Delete,
    HandBack,
    Leave,
}

/// A run under its lease, and its execution.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    spec: Spec,
    /// A moment at which the store is known to have granted a whole term.
    confirmed: Ms,
    /// Its end is on its way to the store, which decides whether the lease still counted.
    ending: bool,
    stop: Option<Stop>,
    began: bool,
    deadline: Ms,
    /// For each finished node, the epoch that produced its output.
    outputs: [u64; NODES],
    /// For each node under way, when it ends.
    ends: [Option<Ms>; NODES],
}

/// A renewal under way.
#[derive(Debug)]
struct Renewing {
    call: u32,
    leases: Vec<Lease>,
    sent: Ms,
    /// The heartbeat's, not one that a cancel asked for.
    beat: bool,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) me: Who,
    id: WorkerId,
    slots: usize,
    pub(crate) held: Vec<Held>,
    intake: Intake,
    journal: Journal,
    renewing: Vec<Renewing>,
    beat_at: Ms,
    relay: Relay,
    /// When patience with its runs ends, once it drains.
    drain_until: Option<Ms>,
    handed_back: bool,
    /// It ended in order: nothing is left of it.
    pub(crate) left: bool,
    /// A node ended it.
    pub(crate) poisoned: bool,
}

impl Worker {
    pub(crate) fn new(env: &mut Env, n: u8, life: u32, slots: usize) -> Self {
        let me = Who {
            place: Place::Worker(n),
            life,
        };
        let mut worker = Self {
            me,
            id: WorkerId(Uuid::from_u128(u128::from(n) << 32 | u128::from(life))),
            slots,
            held: Vec::with_capacity(slots),
            intake: Intake::default(),
            journal: Journal::default(),
            renewing: Vec::new(),
            beat_at: env.now + millis(TERM.heartbeat()),
            relay: Relay::default(),
            drain_until: None,
            handed_back: false,
            left: false,
            poisoned: false,
        };
        worker.consume(env);
        worker
    }

    pub(crate) fn tasks(&self, env: &Env, mut found: impl FnMut(Act, Ms)) {
        if let Some(at) = self.intake_due(env) {
            found(Act::Intake, at);
        }
        for (n, held) in self.held.iter().enumerate() {
            found(Act::Execute(n as u8), held.due());
            if let Some(at) = held.lapses() {
                found(Act::Lapse(n as u8), at);
            }
        }
        if self.journal.is_due() {
            found(Act::Write, 0);
        }
        for (kind, at) in self.journal.again() {
            found(Act::WriteAgain(kind), at);
        }
        if !self.renewing.iter().any(|renewing| renewing.beat) {
            found(Act::Heartbeat, self.beat_at);
        }
        let [publish, delete] = self.relay.due();
        found(Act::Publish, publish);
        found(Act::Delete, delete);
        if let Some(until) = self.drain_until
            && !self.intake.is_claiming()
        {
            if self.held.is_empty() && self.relay.is_idle() {
                found(Act::Leave, 0);
            } else if !self.handed_back {
                found(Act::HandBack, until);
            }
        }
    }

    pub(crate) fn act(&mut self, env: &mut Env, act: Act) {
        match act {
            Act::Intake => self.take_in(env),
            Act::Execute(n) => self.execute(env, usize::from(n)),
            Act::Write => self.write(env),
            Act::WriteAgain(kind) => self.journal.write_again(env, self.me, kind),
            Act::Heartbeat => self.beat(env),
            Act::Lapse(n) => self.lapse(env, usize::from(n)),
            Act::Publish => self.relay.publish(env, self.me),
            Act::Delete => self.relay.delete(env, self.me),
            Act::HandBack => {
                say!(env, "{} hands back what has not finished", self.me);
                self.handed_back = true;
                for held in &mut self.held {
                    held.stop(Stop::Interrupted);
                }
            }
            Act::Leave => {
                say!(env, "{} ends in order", self.me);
                env.count(crate::coverage::Step::DrainedIdle);
                self.left = true;
                env.tell(self.me, BROKER, Body::Gone);
            }
        }
    }

    /// SIGTERM; false when it was told before.
    pub(crate) fn drain(&mut self, env: &mut Env) -> bool {
        if self.drain_until.is_some() {
            return false;
        }
        self.drain_until = Some(env.now + DRAIN);
        self.give_back_buffered(env);
        true
    }

    pub(crate) fn hear(&mut self, env: &mut Env, call: u32, body: Body) {
        match body {
            Body::CancelHint(run) => self.cancel_hint(env, run),
            Body::Deliver { generation, delivery } => self.delivered(env, generation, delivery),
            Body::ConnectionLost { generation } => self.disconnected(env, generation),
            body if self.relay.hear(env, call, &body) => {}
            body if self.intake.waits_for(call) => self.claimed(env, body),
            body if self.journal.waits_for(call) => self.written(env, call, body),
            body => self.renewed(env, call, &body),
        }
    }

    /// What a crash leaves of it.
    pub(crate) fn forget_all(&mut self) {
        self.held.clear();
    }

    fn free(&self) -> usize {
        self.slots.saturating_sub(self.held.len())
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }
}

impl Held {
    /// The first reason counts, and an end that is being written is left alone.
    fn stop(&mut self, why: Stop) -> bool {
        let first = !self.ending && self.stop.is_none();
        if first {
            self.stop = Some(why);
        }
        first
    }
}
