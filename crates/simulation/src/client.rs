//! Clients: submit with or without an idempotency key, ask again after a lost answer if they have one, cancel.

use flowfleet_core::port::{CancelOutcome, SubmitOutcome};
use flowfleet_core::{Priority, RunId};

use crate::coverage::Fault;
use crate::env::{Env, say};
use crate::model::{BACKOFF, DISPATCHERS, Ms, PLANS, Spec, number};
use crate::store::Store;
use crate::wire::{Body, CLIENT, NewRunRequest, Place, Who};

const DELAYS: [Option<Ms>; 4] = [None, None, Some(1_000), Some(9_000)];
const EXPIRIES: [Option<Ms>; 8] = [None, None, None, None, None, Some(500), Some(4_000), Some(15_000)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is wanted.
    Rest,
    Due(Ms),
    /// Who was asked, and the number of the question.
    Asked(Who, u32),
}

impl Phase {
    fn waits_for(self, call: u32) -> bool {
        matches!(self, Self::Asked(_, asked) if asked == call)
    }
}

/// A run that a client wants.
#[derive(Debug)]
struct Wish {
    request: NewRunRequest,
    submit: Phase,
    accepted: Option<RunId>,
    cancel: Phase,
}

/// Another submission with the key of a wish.
#[derive(Debug)]
struct Echo {
    to: Who,
    call: u32,
    wish: usize,
    conflicting: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    wishes: Vec<Wish>,
    echoes: Vec<Echo>,
    /// Whether the lives of dispatchers are known: who is asked next.
    pub(crate) lives: [u32; DISPATCHERS],
}

/// What a client may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Submit(u8),
    Cancel(u8),
}

fn spec(env: &mut Env) -> Spec {
    Spec {
        plan: PLANS[env.tape.pick(PLANS.len())],
        max_attempts: 1 + env.tape.pick(3) as u32,
        priority: Priority::ALL[env.tape.pick(3)],
        delay: DELAYS[env.tape.pick(DELAYS.len())],
        expires: EXPIRIES[env.tape.pick(EXPIRIES.len())],
        poison: env.tape.chance(3),
    }
}

impl Client {
    pub(crate) fn new(env: &mut Env) -> Self {
        let count = 1 + env.tape.pick(4);
        let wishes = (0..count).map(|n| {
            let spec = spec(env);
            if spec.poison {
                env.check.poisoned();
            }
            Wish {
                request: NewRunRequest {
                    key: env.tape.chance(170).then_some(n as u8),
                    digest: 0,
                    spec,
                },
                submit: Phase::Due(env.tape.pick(4) as Ms * 1_000),
                accepted: None,
                cancel: Phase::Rest,
            }
        });
        Self {
            wishes: wishes.collect(),
            echoes: Vec::new(),
            lives: [0; DISPATCHERS],
        }
    }

    pub(crate) fn tasks(&self, mut found: impl FnMut(Act, Ms)) {
        for (n, wish) in self.wishes.iter().enumerate() {
            if let Phase::Due(at) = wish.submit {
                found(Act::Submit(n as u8), at);
            }
            if let Phase::Due(at) = wish.cancel {
                found(Act::Cancel(n as u8), at);
            }
        }
    }

    pub(crate) fn is_content(&self) -> bool {
        let rests = |wish: &Wish| (wish.submit, wish.cancel) == (Phase::Rest, Phase::Rest);
        self.wishes.iter().all(rests) && self.echoes.is_empty()
    }

    fn dispatcher(&self, env: &mut Env) -> Who {
        let n = env.tape.pick(DISPATCHERS);
        Who {
            place: Place::Dispatcher(n as u8),
            life: self.lives[n],
        }
    }

    pub(crate) fn act(&mut self, env: &mut Env, act: Act) {
        let to = self.dispatcher(env);
        match act {
            Act::Submit(n) => {
                let wish = &mut self.wishes[usize::from(n)];
                say!(
                    env,
                    "client submits wish {n} (key {:?}) to {to}: {}",
                    wish.request.key,
                    wish.request.spec
                );
                wish.submit = Phase::Asked(to, env.ask(CLIENT, to, Body::Submit(wish.request)));
            }
            Act::Cancel(n) => {
                let wish = &mut self.wishes[usize::from(n)];
                let Some(run) = wish.accepted else { return };
                say!(env, "client cancels run {} at {to}", number(run));
                wish.cancel = Phase::Asked(to, env.ask(CLIENT, to, Body::Cancel(run)));
            }
        }
    }

    /// Somebody changes their mind; false when nothing was accepted yet.
    pub(crate) fn meddle(&mut self, env: &mut Env, fault: Fault) -> bool {
        let fits = |wish: &Wish| {
            wish.accepted.is_some()
                && if fault == Fault::Cancel {
                    wish.cancel == Phase::Rest
                } else {
                    wish.request.key.is_some()
                }
        };
        let fitting: Vec<usize> = (0..self.wishes.len())
            .filter(|n| fits(&self.wishes[*n]))
            .collect();
        if fitting.is_empty() {
            return false;
        }
        let n = fitting[env.tape.pick(fitting.len())];
        if fault == Fault::Cancel {
            self.wishes[n].cancel = Phase::Due(env.now);
            return true;
        }
        let conflicting = fault == Fault::Conflict;
        let mut request = self.wishes[n].request;
        request.digest = u8::from(conflicting);
        let to = self.dispatcher(env);
        let call = env.ask(CLIENT, to, Body::Submit(request));
        self.echoes.push(Echo {
            to,
            call,
            wish: n,
            conflicting,
        });
        true
    }

    /// A dispatcher is gone, and with it what it was about to answer.
    pub(crate) fn abandoned(&self, env: &mut Env, dispatcher: Who) {
        let of_wishes = self.wishes.iter().flat_map(|wish| [wish.submit, wish.cancel]);
        let asked = of_wishes.filter_map(|phase| match phase {
            Phase::Asked(to, call) => Some((to, call)),
            Phase::Rest | Phase::Due(_) => None,
        });
        for (to, call) in asked.chain(self.echoes.iter().map(|echo| (echo.to, echo.call))) {
            if to == dispatcher && !env.wires.iter().any(|wire| wire.call == call) {
                env.answer(dispatcher, CLIENT, call, Body::Away);
            }
        }
    }

    pub(crate) fn hear(&mut self, env: &mut Env, store: &Store, call: u32, body: &Body) {
        if let Some(at) = self.echoes.iter().position(|echo| echo.call == call) {
            let echo = self.echoes.swap_remove(at);
            let wish = &self.wishes[echo.wish];
            if let Body::Submitted(outcome) = body {
                env.check.echoed(wish.accepted, outcome, echo.conflicting);
            }
            return;
        }
        for wish in &mut self.wishes {
            if wish.submit.waits_for(call) {
                return wish.submitted(env, store, body);
            }
            if wish.cancel.waits_for(call) {
                wish.cancel = match (body, wish.accepted) {
                    (Body::CancelDone(outcome), Some(run)) => {
                        env.check.cancelled(store, run, outcome);
                        Phase::Rest
                    }
                    _ => Phase::Due(env.now + BACKOFF),
                };
                if let Body::CancelDone(CancelOutcome::NotFound) = body {
                    say!(env, "client is told that its run is unknown");
                }
                return;
            }
        }
    }
}

impl Wish {
    fn submitted(&mut self, env: &mut Env, store: &Store, body: &Body) {
        self.submit = Phase::Rest;
        match body {
            Body::Submitted(SubmitOutcome::Created { id, .. } | SubmitOutcome::Existing { id, .. }) => {
                say!(env, "client hears that run {} is accepted", number(*id));
                env.check.accepted(store, self.request.key, *id);
                self.accepted = Some(*id);
            }
            Body::Submitted(SubmitOutcome::Conflict { .. }) => env.check.wrong_conflict(),
            // Whether it was stored is not known: only with a key may it ask again.
            _ if self.request.key.is_some() => self.submit = Phase::Due(env.now + BACKOFF),
            _ => {}
        }
    }
}
