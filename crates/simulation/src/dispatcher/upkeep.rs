//! What a dispatcher does for all while it believes that it leads: sweep, reaper, scheduler, reconciler. Two at once
//! are harmless.

use super::Dispatcher;
use crate::coverage::Step;
use crate::env::{Env, say};
use crate::model::{LEAD, Ms, Mutation, REAP, RECONCILE, SCHEDULE, SWEEP};
use crate::wire::{BROKER, Body, STORE, StoreOp, Stored};

/// Looks in a row that must find too few messages, as in the reconciler.
const LOOKS: u32 = 2;

/// One of its loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    Lead,
    Sweep,
    Reap,
    Schedule,
    Expire,
    Reconcile,
}

const ALL: [Loop; 6] = [
    Loop::Lead,
    Loop::Sweep,
    Loop::Reap,
    Loop::Schedule,
    Loop::Expire,
    Loop::Reconcile,
];

#[derive(Debug, Clone, Copy, Default)]
struct Timer {
    at: Ms,
    /// The question whose answer it waits for; 0 for none.
    call: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Loops {
    timers: [Timer; ALL.len()],
    /// Looks in a row that found the broker short of messages.
    short: u32,
    /// What the last look found queued in the store.
    wanted: u64,
}

impl Loop {
    fn interval(self) -> Ms {
        match self {
            Self::Lead => LEAD,
            Self::Sweep => SWEEP,
            Self::Reap => REAP,
            Self::Schedule | Self::Expire => SCHEDULE,
            Self::Reconcile => RECONCILE,
        }
    }

    fn switched_off(self, env: &Env) -> bool {
        match self {
            Self::Lead | Self::Expire => false,
            Self::Sweep => env.is(Mutation::NoSweep),
            Self::Reap => env.is(Mutation::NoReaper),
            Self::Schedule => env.is(Mutation::NoScheduler),
            Self::Reconcile => env.is(Mutation::NoReconciler),
        }
    }
}

impl Dispatcher {
    pub(super) fn upkeep_tasks(&self, env: &Env, mut found: impl FnMut(Loop, Ms)) {
        for which in ALL {
            let timer = self.loops.timers[which as usize];
            let runs = which == Loop::Lead || self.leading;
            if timer.call == 0 && runs && !which.switched_off(env) {
                found(which, timer.at);
            }
        }
    }

    fn ask(&mut self, env: &mut Env, which: Loop, op: StoreOp) {
        self.loops.timers[which as usize].call = env.ask(self.me, STORE, Body::Store(op));
    }

    fn rest(&mut self, env: &Env, which: Loop) {
        self.loops.timers[which as usize] = Timer {
            at: env.now + which.interval(),
            call: 0,
        };
    }

    pub(super) fn look(&mut self, env: &mut Env, which: Loop) {
        let op = match which {
            Loop::Lead if self.leading => StoreOp::Holds(self.me),
            Loop::Lead => StoreOp::Lead(self.me),
            Loop::Sweep => StoreOp::Leftover,
            Loop::Reap => StoreOp::Reap,
            Loop::Schedule => StoreOp::Promote,
            Loop::Expire => StoreOp::Expire,
            Loop::Reconcile => StoreOp::Backlog,
        };
        self.ask(env, which, op);
    }

    /// An answer to one of the loops.
    pub(super) fn looked(&mut self, env: &mut Env, call: u32, body: Body) {
        let timers = &self.loops.timers;
        let Some(which) = ALL.into_iter().find(|which| timers[*which as usize].call == call) else {
            // Of somebody who gave up waiting.
            return;
        };
        match (which, body) {
            (Loop::Lead, body) => {
                let leads = matches!(body, Body::Stored(Stored::Leads(true)));
                self.lead(env, leads);
            }
            (Loop::Sweep, Body::Stored(Stored::Rows(rows))) => {
                for row in rows {
                    if self.relay.send(Some(row)) {
                        env.count(Step::Swept);
                    }
                }
                self.rest(env, which);
            }
            (Loop::Reap, Body::Stored(Stored::Moved(moved, row))) => {
                self.relay.send(row);
                if moved > 0 && self.leading {
                    say!(env, "{} reaped {moved} leases", self.me);
                    self.ask(env, which, StoreOp::Reap);
                } else {
                    self.rest(env, which);
                }
            }
            (Loop::Schedule | Loop::Expire, Body::Stored(Stored::Moved(_, row))) => {
                self.relay.send(row);
                self.rest(env, which);
            }
            (Loop::Reconcile, Body::Stored(Stored::Backlog(wanted))) if wanted > 0 => {
                self.loops.wanted = wanted;
                self.loops.timers[which as usize].call = env.ask(self.me, BROKER, Body::Depth);
            }
            (Loop::Reconcile, Body::DepthIs(depth)) => self.compare(env, depth),
            (Loop::Reconcile, Body::Stored(Stored::Backlog(_))) => {
                self.loops.short = 0;
                self.rest(env, which);
            }
            (Loop::Reconcile, Body::Stored(Stored::Moved(moved, row))) => {
                say!(env, "{} publishes {moved} runs again", self.me);
                self.relay.send(row);
                self.rest(env, which);
            }
            _ => self.rest(env, which),
        }
    }

    fn compare(&mut self, env: &mut Env, depth: u64) {
        let wanted = self.loops.wanted;
        if depth >= wanted {
            self.loops.short = 0;
            return self.rest(env, Loop::Reconcile);
        }
        self.loops.short += 1;
        if self.loops.short < LOOKS {
            return self.rest(env, Loop::Reconcile);
        }
        let missing = usize::try_from(wanted - depth).unwrap_or(usize::MAX);
        self.ask(env, Loop::Reconcile, StoreOp::Republish(missing));
    }

    fn lead(&mut self, env: &mut Env, leads: bool) {
        if leads != self.leading {
            say!(
                env,
                "{} {}",
                self.me,
                if leads { "leads" } else { "leads no more" }
            );
        }
        if leads && !self.leading {
            for which in ALL {
                // A question of an earlier term may still be under way.
                if self.loops.timers[which as usize].call == 0 {
                    self.loops.timers[which as usize].at = env.now;
                }
            }
            self.loops.short = 0;
            self.loops.timers[Loop::Reconcile as usize].at = env.now + RECONCILE;
        }
        self.leading = leads;
        self.rest(env, Loop::Lead);
    }
}
