//! One heartbeat for all leases; what was not confirmed for a whole term is given up.

use flowfleet_core::port::Renewal;
use flowfleet_core::{Lease, RunId};

use super::{Held, Renewing, Stop, Worker};
use crate::coverage::Step;
use crate::env::{Env, say};
use crate::model::{Ms, TERM, TTL, millis, number};
use crate::wire::{Body, STORE, StoreOp, Stored};

impl Held {
    /// When it must be taken for lost if nobody confirms it before.
    pub(super) fn lapses(&self) -> Option<Ms> {
        (!self.ending && self.stop.is_none()).then_some(self.confirmed + TTL)
    }
}

impl Worker {
    pub(super) fn beat(&mut self, env: &mut Env) {
        self.beat_at = env.now + millis(TERM.heartbeat());
        let leases = self.held.iter().map(|held| held.lease).collect();
        self.renew(env, leases, true);
    }

    /// The bus is a hint: the store is asked whether the run is really to be cancelled.
    pub(super) fn cancel_hint(&mut self, env: &mut Env, run: RunId) {
        let leases = self
            .held
            .iter()
            .filter(|held| held.lease.run == run)
            .map(|held| held.lease)
            .collect();
        self.renew(env, leases, false);
    }

    fn renew(&mut self, env: &mut Env, leases: Vec<Lease>, beat: bool) {
        if leases.is_empty() {
            return;
        }
        let op = StoreOp::Renew {
            worker: self.id,
            leases: leases.clone(),
        };
        self.renewing.push(Renewing {
            call: env.ask(self.me, STORE, Body::Store(op)),
            leases,
            sent: env.now,
            beat,
        });
    }

    pub(super) fn renewed(&mut self, env: &mut Env, call: u32, body: &Body) {
        let Some(at) = self.renewing.iter().position(|renewing| renewing.call == call) else {
            return;
        };
        let Renewing {
            leases, sent, beat, ..
        } = self.renewing.swap_remove(at);
        let Body::Stored(Stored::Renewals(renewals)) = body else {
            if beat {
                // Sooner than the next beat: every try counts before the leases are over.
                self.beat_at = env.now + millis(TERM.heartbeat()) / 4;
            }
            return;
        };
        for (lease, renewal) in leases.iter().zip(renewals) {
            let Some(held) = self.held.iter_mut().find(|held| held.lease == *lease) else {
                continue;
            };
            match renewal {
                Renewal::Held { cancel } => {
                    held.confirmed = held.confirmed.max(sent);
                    if *cancel && held.stop(Stop::Cancelled) {
                        say!(
                            env,
                            "{} hears that run {} is cancelled",
                            self.me,
                            number(lease.run)
                        );
                        env.count(Step::CancelHeard);
                    }
                }
                Renewal::Lost => {
                    held.stop(Stop::Lost);
                }
            }
        }
    }

    pub(super) fn lapse(&mut self, env: &mut Env, at: usize) {
        if let Some(held) = self.held.get_mut(at)
            && held.stop(Stop::Lost)
        {
            env.count(Step::Lapsed);
        }
    }
}
