//! Trouble: what goes wrong, and what people do in the middle of it. Faults are limited to what networks, processes and
//! brokers really do: a transaction is never half done, and a connection keeps its order.

use crate::coverage::{Fault, Step};
use crate::env::say;
use crate::model::{Ms, RESTART, TTL};
use crate::wire::{Body, Place, Stored, Wire};
use crate::world::World;

/// How long a process is stopped: shorter and longer than a lease.
const PAUSES: [Ms; 4] = [500, 5_000, TTL + 3_000, 3 * TTL];
const BACK_IN: [Ms; 3] = [RESTART, 200, TTL + 5_000];

fn is_question(wire: &Wire) -> bool {
    matches!(
        wire.body,
        Body::Store(_) | Body::Publish { .. } | Body::Depth | Body::Submit(_) | Body::Cancel(_)
    )
}

fn is_answer(wire: &Wire) -> bool {
    matches!(
        wire.body,
        Body::Stored(_) | Body::Confirmed | Body::DepthIs(_) | Body::Submitted(_) | Body::CancelDone(_)
    )
}

impl World {
    /// Lets one of this history's kinds of trouble happen.
    pub(crate) fn strike(&mut self) {
        // The next kind that there is in this history: a smaller choice of kinds leaves those that stay in place.
        let chosen = self.env.tape.pick(Fault::ALL.len());
        let mut following = (chosen..Fault::ALL.len()).chain(0..chosen);
        let Some(at) = following.find(|at| self.kinds & (1 << at) != 0) else {
            return;
        };
        let fault = Fault::ALL[at];
        if self.strikes(fault) {
            say!(self.env, "** {}", fault.as_str());
            self.env.cover.fault(fault);
        }
    }

    /// Whether there was something for it to strike.
    fn strikes(&mut self, fault: Fault) -> bool {
        let env = &mut self.env;
        match fault {
            Fault::LoseQuestion => self.on_wire(is_question, |world, at| world.lose(at)),
            Fault::LoseAnswer => self.on_wire(is_answer, |world, at| {
                if let Body::Stored(Stored::Claims(claims)) = &world.env.wires[at].body
                    && claims.iter().any(Option::is_some)
                {
                    world.env.count(Step::ClaimUnheard);
                }
                world.env.wires[at].body = Body::Away;
            }),
            Fault::TimeOut => self.on_wire(is_question, |world, at| {
                let Wire { from, to, call, .. } = world.env.wires[at];
                world.env.count(Step::LateQuestion);
                world.env.answer(to, from, call, Body::Away);
            }),
            Fault::TimePasses => {
                env.now += [100, 1_000, 4_000, TTL + 1_000][env.tape.pick(4)];
                true
            }
            Fault::CrashWorker | Fault::PauseWorker | Fault::DrainWorker => self.on_worker(fault),
            Fault::ResetConnection => {
                let n = self.victim();
                self.broker.reset(&mut self.env, n);
                true
            }
            Fault::CrashDispatcher | Fault::PauseDispatcher => self.on_dispatcher(fault),
            Fault::RestartBroker => {
                for n in 0..self.workers.len() {
                    self.broker.reset(env, n);
                }
                true
            }
            Fault::DuplicateMessage => self.broker.repeat_one(),
            Fault::LoseMessage => self.broker.lose_one(),
            Fault::Purge => {
                let any = self.broker.depth() > 0;
                self.broker.purge();
                any
            }
            Fault::Refuse => self.on_wire(
                |wire| matches!(wire.body, Body::Publish { .. }),
                |world, at| world.refuse(at),
            ),
            Fault::BreakSession => self.store.leader.take().is_some(),
            Fault::LoseHint => self.on_wire(
                |wire| matches!(wire.body, Body::CancelHint(_)),
                |world, at| {
                    world.env.wires.remove(at);
                },
            ),
            Fault::Cancel | Fault::Repeat | Fault::Conflict => self.client.meddle(env, fault),
        }
    }

    fn on_wire(&mut self, fits: impl Fn(&Wire) -> bool, then: impl FnOnce(&mut Self, usize)) -> bool {
        let count = self.env.wires.iter().filter(|wire| fits(wire)).count();
        let chosen = self.env.tape.pick(count);
        let mut fitting = (0..self.env.wires.len()).filter(|at| fits(&self.env.wires[*at]));
        let Some(at) = fitting.nth(chosen) else {
            return false;
        };
        then(self, at);
        true
    }

    /// The question never arrives, and who asked finds out.
    fn lose(&mut self, at: usize) {
        let wire = &mut self.env.wires[at];
        (wire.from, wire.to) = (wire.to, wire.from);
        wire.body = Body::Away;
    }

    fn refuse(&mut self, at: usize) {
        let wire = &mut self.env.wires[at];
        (wire.from, wire.to) = (wire.to, wire.from);
        if let Body::Publish { rows, .. } = std::mem::replace(&mut wire.body, Body::Refused) {
            self.env.count(Step::RefusedRow);
            for row in rows {
                self.env.check.published(row);
            }
        }
    }

    /// A worker to strike: three times in four one that executes something, if there is one.
    fn victim(&mut self) -> usize {
        let chosen = usize::from(self.env.tape.byte());
        let busy = |n: &usize| !self.workers[*n].actor.held.is_empty();
        let count = (0..self.workers.len()).filter(busy).count();
        if count == 0 || chosen % 4 == 3 {
            return chosen / 4 % self.workers.len();
        }
        let mut found = (0..self.workers.len()).filter(busy);
        found.nth(chosen / 4 % count).unwrap_or_default()
    }

    fn on_worker(&mut self, fault: Fault) -> bool {
        let n = self.victim();
        let env = &mut self.env;
        let process = &mut self.workers[n];
        if !process.runs(env.now) {
            return false;
        }
        match fault {
            Fault::PauseWorker => process.paused_until = env.now + PAUSES[env.tape.pick(PAUSES.len())],
            Fault::DrainWorker => return process.actor.drain(env),
            _ => {
                let back_in = BACK_IN[env.tape.pick(BACK_IN.len())];
                self.crash(Place::Worker(n as u8), back_in);
            }
        }
        true
    }

    fn on_dispatcher(&mut self, fault: Fault) -> bool {
        let env = &mut self.env;
        let n = env.tape.pick(self.dispatchers.len());
        let process = &mut self.dispatchers[n];
        if !process.runs(env.now) {
            return false;
        }
        if fault == Fault::PauseDispatcher {
            process.paused_until = env.now + PAUSES[env.tape.pick(PAUSES.len())];
        } else {
            let back_in = BACK_IN[env.tape.pick(BACK_IN.len())];
            self.crash(Place::Dispatcher(n as u8), back_in);
        }
        true
    }
}
