//! From messages to claimed runs, never more than there are free slots; acknowledged once the claim is committed
//! (invariant I3).

use flowfleet_core::RunId;

use super::{Held, Stop, Worker};
use crate::coverage::Step;
use crate::env::{Env, say};
use crate::model::{BACKOFF, Ms, Mutation, NODES, TIMEOUT, number};
use crate::wire::{BROKER, Body, Delivery, Granted, STORE, StoreOp, Stored};

#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Of the connection to the broker.
    generation: u32,
    /// Whether the broker was asked to stop handing out messages.
    paused: bool,
    /// Handed out by the broker and not looked at yet.
    buffer: Vec<Delivery>,
    claiming: Option<Claiming>,
    retry_at: Ms,
}

#[derive(Debug)]
struct Claiming {
    call: u32,
    sent: Ms,
    generation: u32,
    tags: Vec<u32>,
}

impl Intake {
    pub(super) fn is_claiming(&self) -> bool {
        self.claiming.is_some()
    }

    pub(super) fn waits_for(&self, call: u32) -> bool {
        self.claiming
            .as_ref()
            .is_some_and(|claiming| claiming.call == call)
    }
}

impl Worker {
    pub(super) fn consume(&mut self, env: &mut Env) {
        self.intake.paused = false;
        let generation = self.intake.generation;
        env.tell(self.me, BROKER, Body::Consume { generation });
    }

    pub(super) fn intake_due(&self, env: &Env) -> Option<Ms> {
        let intake = &self.intake;
        if intake.claiming.is_some() || self.drain_until.is_some() {
            return None;
        }
        let waiting = !intake.buffer.is_empty();
        let full = self.free() == 0 && !env.is(Mutation::SlotsAreIgnored);
        let wanted = if full {
            !intake.paused
        } else {
            intake.paused || waiting
        };
        wanted.then_some(intake.retry_at)
    }

    pub(super) fn take_in(&mut self, env: &mut Env) {
        let free = if env.is(Mutation::SlotsAreIgnored) {
            self.intake.buffer.len()
        } else {
            self.free()
        };
        if free == 0 && self.free() == 0 {
            if !self.intake.buffer.is_empty() {
                env.count(Step::HoardReturned);
            }
            return self.give_back_buffered(env);
        }
        if self.intake.paused {
            self.consume(env);
        }
        let count = free.min(self.intake.buffer.len());
        if count == 0 {
            return;
        }
        let taken: Vec<Delivery> = self.intake.buffer.drain(..count).collect();
        let tags: Vec<u32> = taken.iter().map(|delivery| delivery.tag).collect();
        let runs: Vec<RunId> = taken.iter().map(|delivery| delivery.message.run).collect();
        let generation = self.intake.generation;
        if env.is(Mutation::AckBeforeClaim) {
            self.acknowledge(env, generation, tags.clone());
        }
        let call = env.ask(
            self.me,
            STORE,
            Body::Store(StoreOp::Claim {
                worker: self.id,
                runs,
                tags: tags.clone(),
            }),
        );
        self.intake.claiming = Some(Claiming {
            call,
            sent: env.now,
            generation,
            tags,
        });
    }

    fn acknowledge(&self, env: &mut Env, generation: u32, tags: Vec<u32>) {
        env.check.acknowledged(&tags);
        env.tell(self.me, BROKER, Body::Ack { generation, tags });
    }

    /// The answer to a claim.
    pub(super) fn claimed(&mut self, env: &mut Env, body: Body) {
        let Some(claiming) = self.intake.claiming.take() else {
            return;
        };
        let Claiming {
            sent,
            generation,
            tags,
            ..
        } = claiming;
        match body {
            Body::Stored(Stored::Claims(claims)) => {
                for granted in claims.into_iter().flatten() {
                    self.hold(env, &granted, sent);
                }
                if !env.is(Mutation::AckBeforeClaim) {
                    self.acknowledge(env, generation, tags);
                }
            }
            _ => {
                // What was granted all the same runs out.
                env.tell(self.me, BROKER, Body::Reject { generation, tags });
                self.give_back_buffered(env);
                self.intake.retry_at = env.now + BACKOFF;
            }
        }
    }

    fn hold(&mut self, env: &mut Env, granted: &Granted, sent: Ms) {
        let lease = granted.lease;
        say!(
            env,
            "{} holds run {} under epoch {}",
            self.me,
            number(lease.run),
            lease.epoch
        );
        for older in self.held.iter_mut().filter(|held| held.lease.run == lease.run) {
            if older.stop(Stop::Lost) {
                env.count(Step::OlderLeaseEnds);
            }
        }
        self.journal.begin(lease, granted.last_seq);
        self.held.push(Held {
            lease,
            spec: granted.spec,
            confirmed: sent,
            ending: false,
            stop: None,
            began: false,
            deadline: env.now + TIMEOUT,
            outputs: granted.outputs,
            ends: [None; NODES],
        });
        env.check.holds(self.me, self.held.len(), self.slots());
    }

    /// Stops the broker's handing out, and gives back what was handed out and not looked at.
    pub(super) fn give_back_buffered(&mut self, env: &mut Env) {
        let generation = self.intake.generation;
        let tags: Vec<u32> = self
            .intake
            .buffer
            .drain(..)
            .map(|delivery| delivery.tag)
            .collect();
        env.tell(self.me, BROKER, Body::Pause { generation });
        if !tags.is_empty() {
            env.tell(self.me, BROKER, Body::Reject { generation, tags });
        }
        self.intake.paused = true;
    }

    pub(super) fn delivered(&mut self, env: &mut Env, generation: u32, delivery: Delivery) {
        if generation != self.intake.generation {
            return;
        }
        if self.intake.paused {
            let tags = vec![delivery.tag];
            env.tell(self.me, BROKER, Body::Reject { generation, tags });
        } else {
            self.intake.buffer.push(delivery);
        }
    }

    pub(super) fn disconnected(&mut self, env: &mut Env, generation: u32) {
        if generation != self.intake.generation {
            return;
        }
        self.intake.generation += 1;
        self.intake.buffer.clear();
        if self.drain_until.is_none() {
            self.consume(env);
        }
    }
}
