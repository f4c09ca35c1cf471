//! A dispatcher: group commit, answers after the commit, the relay, and, while it believes that it leads, upkeep.

mod upkeep;

use flowfleet_core::RunId;
use flowfleet_core::port::{CancelOutcome, SubmitOutcome};
use flowfleet_core::run::RunState;

use crate::env::{Env, say};
use crate::model::{Ms, Mutation, NewRun, WORKERS, number, run_id};
use crate::relay::Relay;
use crate::wire::{Body, CLIENT, Place, STORE, StoreOp, Stored, Who};

pub(crate) use upkeep::Loop;

/// Tries of the store's adapter when the connection breaks and repeating is right.
const TRIES: u32 = 2;

/// What a dispatcher may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Commit,
    Publish,
    Delete,
    Upkeep(Loop),
}

#[derive(Debug)]
struct Entry {
    /// The client's question.
    call: u32,
    run: NewRun,
}

#[derive(Debug)]
struct Commit {
    call: u32,
    tries: u32,
    group: Vec<Entry>,
}

#[derive(Debug)]
struct Cancelling {
    call: u32,
    tries: u32,
    /// The client's question.
    asked: u32,
    run: RunId,
}

#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) me: Who,
    waiting: Vec<Entry>,
    commit: Option<Commit>,
    cancels: Vec<Cancelling>,
    relay: Relay,
    pub(crate) leading: bool,
    loops: upkeep::Loops,
}

impl Dispatcher {
    pub(crate) fn new(n: u8, life: u32) -> Self {
        Self {
            me: Who {
                place: Place::Dispatcher(n),
                life,
            },
            waiting: Vec::new(),
            commit: None,
            cancels: Vec::new(),
            relay: Relay::default(),
            leading: false,
            loops: upkeep::Loops::default(),
        }
    }

    pub(crate) fn tasks(&self, env: &Env, mut found: impl FnMut(Act, Ms)) {
        if self.commit.is_none() && !self.waiting.is_empty() {
            found(Act::Commit, 0);
        }
        let [publish, delete] = self.relay.due();
        found(Act::Publish, publish);
        found(Act::Delete, delete);
        self.upkeep_tasks(env, |which, at| found(Act::Upkeep(which), at));
    }

    pub(crate) fn act(&mut self, env: &mut Env, act: Act) {
        match act {
            Act::Commit => self.commit(env),
            Act::Publish => self.relay.publish(env, self.me),
            Act::Delete => self.relay.delete(env, self.me),
            Act::Upkeep(which) => self.look(env, which),
        }
    }

    fn commit(&mut self, env: &mut Env) {
        let group = std::mem::take(&mut self.waiting);
        let runs: Vec<NewRun> = group.iter().map(|entry| entry.run).collect();
        say!(env, "{} commits {} submissions", self.me, runs.len());
        if env.is(Mutation::AnswerBeforeCommit) {
            for Entry { call, run } in &group {
                let (id, state) = (run.id, RunState::Queued);
                let created = Body::Submitted(SubmitOutcome::Created { id, state });
                env.answer(self.me, CLIENT, *call, created);
            }
        }
        let call = env.ask(self.me, STORE, Body::Store(StoreOp::Submit(runs)));
        let tries = 1;
        self.commit = Some(Commit { call, tries, group });
    }

    pub(crate) fn hear(&mut self, env: &mut Env, call: u32, body: Body) {
        match body {
            Body::Submit(request) => {
                let id = run_id(env.next_run());
                let run = NewRun {
                    id,
                    key: request.key,
                    digest: request.digest,
                    spec: request.spec,
                };
                self.waiting.push(Entry { call, run });
            }
            Body::Cancel(run) => {
                let asked = call;
                let call = env.ask(self.me, STORE, Body::Store(StoreOp::Cancel(run)));
                self.cancels.push(Cancelling {
                    call,
                    tries: 1,
                    asked,
                    run,
                });
            }
            body if self.relay.hear(env, call, &body) => {}
            body if self.commit.as_ref().is_some_and(|commit| commit.call == call) => {
                self.committed(env, body);
            }
            body => match self.cancels.iter().position(|cancel| cancel.call == call) {
                Some(at) => self.cancelled(env, at, &body),
                None => self.looked(env, call, body),
            },
        }
    }

    fn committed(&mut self, env: &mut Env, body: Body) {
        let Some(mut commit) = self.commit.take() else {
            return;
        };
        match body {
            Body::Stored(Stored::Submitted(outcomes, row)) => {
                self.relay.send(row);
                for (entry, outcome) in commit.group.into_iter().zip(outcomes) {
                    env.answer(self.me, CLIENT, entry.call, Body::Submitted(outcome));
                }
            }
            _ if commit.tries < TRIES => {
                // The same ids: what was stored already is found.
                let runs = commit.group.iter().map(|entry| entry.run).collect();
                commit.tries += 1;
                commit.call = env.ask(self.me, STORE, Body::Store(StoreOp::Submit(runs)));
                self.commit = Some(commit);
            }
            _ => {
                for entry in commit.group {
                    env.answer(self.me, CLIENT, entry.call, Body::Away);
                }
            }
        }
    }

    fn cancelled(&mut self, env: &mut Env, at: usize, body: &Body) {
        let mut cancel = self.cancels.swap_remove(at);
        match body {
            Body::Stored(Stored::Cancelled(outcome)) => {
                say!(env, "cancelling run {}: {outcome:?}", number(cancel.run));
                if let CancelOutcome::Requested { .. } = outcome {
                    for n in 0..WORKERS {
                        let to = Who {
                            place: Place::Worker(n as u8),
                            life: 0,
                        };
                        env.tell(self.me, to, Body::CancelHint(cancel.run));
                    }
                }
                env.answer(self.me, CLIENT, cancel.asked, Body::CancelDone(outcome.clone()));
            }
            _ if cancel.tries < TRIES => {
                cancel.tries += 1;
                cancel.call = env.ask(self.me, STORE, Body::Store(StoreOp::Cancel(cancel.run)));
                self.cancels.push(cancel);
            }
            _ => env.answer(self.me, CLIENT, cancel.asked, Body::Away),
        }
    }
}
