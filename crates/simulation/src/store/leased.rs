//! What workers ask for, fenced by the epoch of their lease (invariant I2).

use flowfleet_core::lease::fences;
use flowfleet_core::port::Renewal;
use flowfleet_core::run::{EndedBecause, Ending, Event, apply};
use flowfleet_core::{EventKind, Lease, RunId, RunState, WorkerId};

use super::{NO_NODE, Row, Store};
use crate::check::Invariant;
use crate::coverage::Step;
use crate::env::Env;
use crate::model::{Mutation, NODES, TTL, number};
use crate::wire::{Finish, Granted, Progress, Release, Stored};

fn holds(env: &Env, row: &Row, lease: &Lease) -> bool {
    let running = row.state == RunState::Running;
    if env.is(Mutation::StoreIgnoresEpochs) {
        return running;
    }
    if env.is(Mutation::FinishIsNotIdempotent) && row.state == RunState::Succeeded {
        return row.epoch == lease.epoch;
    }
    fences(lease.epoch, row.epoch, running)
}

fn keep(row: &mut Row, epoch: u64, nodes: u8) {
    for (node, output) in row.outputs.iter_mut().enumerate() {
        if nodes & (1 << node) != 0 {
            *output = epoch;
        }
    }
}

impl Store {
    /// The row, if it is held under this lease.
    fn held<'a>(&'a mut self, env: &mut Env, lease: &Lease) -> Option<&'a mut Row> {
        let found = self.row_mut(lease.run).filter(|row| holds(env, row, lease));
        if found.is_none() {
            env.count(Step::StaleWrite);
        }
        found
    }

    pub(super) fn claim(&mut self, env: &mut Env, worker: WorkerId, runs: &[RunId]) -> Stored {
        let answers = runs
            .iter()
            .map(|&run| {
                let granted = self.row_mut(run).and_then(|row| claim_one(env, row, worker));
                if granted.is_none() {
                    env.count(Step::NotClaimable);
                }
                granted
            })
            .collect();
        Stored::Claims(answers)
    }

    pub(super) fn renew(&mut self, env: &mut Env, worker: WorkerId, leases: &[Lease]) -> Stored {
        let until = env.now + TTL;
        let answers = leases
            .iter()
            .map(|lease| {
                let row = self.row_mut(lease.run).filter(|row| {
                    fences(lease.epoch, row.epoch, row.state == RunState::Running)
                        && row.worker == Some(worker)
                });
                match row {
                    Some(row) => {
                        row.lease_until = until;
                        Renewal::Held {
                            cancel: row.cancel_requested,
                        }
                    }
                    None => {
                        env.count(Step::StaleRenewal);
                        Renewal::Lost
                    }
                }
            })
            .collect();
        Stored::Renewals(answers)
    }

    pub(super) fn checkpoint(&mut self, env: &mut Env, items: &[Progress]) -> Stored {
        let written = items.iter().map(|item| {
            let Some(row) = self.held(env, &item.lease) else {
                return false;
            };
            let (after, last) = (item.after_seq, row.last_seq);
            if last != after && !env.is(Mutation::ProgressIsNotIdempotent) {
                if last >= after + item.events.len() as u64 {
                    env.count(Step::ProgressTwice);
                    return true;
                }
                // The store refuses it, as a bug; a writer that is no holder is the checker's to find.
                if !env.is(Mutation::StoreIgnoresEpochs) {
                    let run = number(item.lease.run);
                    env.check.violate(Invariant::InTurn, || {
                        format!("run {run}: after {after}, and the last event is {last}")
                    });
                }
            }
            row.log_all(env, &item.events);
            keep(row, item.lease.epoch, item.nodes);
            true
        });
        Stored::Written(written.collect(), None)
    }

    pub(super) fn finish(&mut self, env: &mut Env, items: &[Finish]) -> Stored {
        let written = items.iter().map(|item| {
            if let Some(row) = self.row(item.lease.run)
                && row.state.is_final()
                && row.epoch == item.lease.epoch
            {
                env.count(Step::EndTwice);
            }
            let Some(row) = self.held(env, &item.lease) else {
                return false;
            };
            let event = Event::Finished(item.ending);
            let next = match apply(row.state, event) {
                Ok(next) => next,
                Err(_) if env.is(Mutation::FinishIsNotIdempotent) => row.state,
                Err(_) => return false,
            };
            let kind = match item.ending {
                Ending::Succeeded => EventKind::RunSucceeded,
                Ending::Failed => EventKind::RunFailed,
                Ending::Cancelled => EventKind::RunCancelled,
            };
            if !item.events.is_empty() {
                env.count(Step::WrittenTogether);
            }
            if row.cancel_requested && item.ending != Ending::Cancelled {
                env.count(Step::CancelTooLate);
            }
            row.log_all(env, &item.events);
            row.log(env, kind, NO_NODE);
            row.end_attempt(item.because);
            row.answered = item.outputs;
            row.enter(env, event, next);
            true
        });
        Stored::Written(written.collect(), None)
    }

    pub(super) fn release(&mut self, env: &mut Env, items: &[Release]) -> Stored {
        let mut messages = Vec::new();
        let mut written = Vec::with_capacity(items.len());
        for item in items {
            let Some(row) = self.held(env, &item.lease) else {
                written.push(false);
                continue;
            };
            let applied = match item.retry_in {
                Some(delay) if !row.cancel_requested => match apply(row.state, Event::RetryLater) {
                    Ok(next) => {
                        row.log_all(env, &item.events);
                        row.log(env, EventKind::RunRetrying, NO_NODE);
                        row.end_attempt(item.because);
                        row.failures += 1;
                        row.run_at = env.now + delay;
                        row.enter(env, Event::RetryLater, next);
                        true
                    }
                    Err(_) => false,
                },
                _ => row.interrupt(env, Event::Interrupted, item.because, &item.events, &mut messages),
            };
            if applied && !row.state.is_final() && !env.is(Mutation::RequeueDropsCheckpoints) {
                keep(row, item.lease.epoch, item.nodes);
            }
            if applied && item.because == EndedBecause::Interrupted {
                env.count(Step::HandedBack);
            }
            written.push(applied);
        }
        let outbox = self.publish_later(env, messages);
        Stored::Written(written, outbox)
    }
}

fn claim_one(env: &mut Env, row: &mut Row, worker: WorkerId) -> Option<Granted> {
    let again = env.is(Mutation::ClaimTakesRunning) && row.state == RunState::Running;
    let late = row.expires_at.is_some_and(|at| at <= env.now) && !row.started;
    if late {
        env.count(Step::ClaimTooLate);
        if !env.is(Mutation::ClaimTakesExpired) {
            return None;
        }
    }
    let next = match apply(row.state, Event::Claimed) {
        Ok(next) => next,
        Err(_) if again => RunState::Running,
        Err(_) => return None,
    };
    row.enter(env, Event::Claimed, next);
    row.worker = Some(worker);
    if !env.is(Mutation::ClaimKeepsEpoch) || row.epoch == 0 {
        row.epoch += 1;
    }
    row.attempt = row.failures + 1;
    row.lease_until = env.now + TTL;
    row.started = true;
    row.log(env, EventKind::RunStarted, NO_NODE);
    let outputs = if env.is(Mutation::ClaimForgetsCheckpoints) {
        [0; NODES]
    } else {
        row.outputs
    };
    if outputs != [0; NODES] {
        env.count(Step::Resumed);
    }
    Some(Granted {
        lease: Lease {
            run: row.id,
            attempt: row.attempt,
            epoch: row.epoch,
        },
        spec: row.spec,
        last_seq: row.last_seq,
        outputs,
    })
}
