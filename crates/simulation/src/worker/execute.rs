//! One attempt: starts nodes when those before them have finished, notes what happens, and decides how it ends.

use flowfleet_core::EventKind;
use flowfleet_core::retry::{AfterFailure, after_failure};
use flowfleet_core::run::{EndedBecause, Ending};

use super::journal::End;
use super::{Held, Stop, Worker};
use crate::coverage::Step;
use crate::env::{Env, say};
use crate::model::{Ms, NODES, RETRY, TTL, millis, number};
use crate::wire::{Finish, Release};

/// How long a node takes.
const DURATIONS: [Ms; 8] = [100, 0, 10, 1_000, 3_000, 6_000, TTL + 1_000, 3 * TTL];

/// What became of an attempt.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Done,
    Failed { retryable: bool },
    TimedOut,
    Stopped(Stop),
}

impl Held {
    /// When its execution moves next.
    pub(super) fn due(&self) -> Ms {
        if self.ending {
            return Ms::MAX;
        }
        if self.stop.is_some() || !self.began {
            return 0;
        }
        let next = self.ends.iter().flatten().min();
        next.map_or(self.deadline, |at| self.deadline.min(*at))
    }

    fn done(&self) -> u8 {
        (0..NODES).fold(0, |done, node| done | u8::from(self.outputs[node] != 0) << node)
    }

    /// Its own finished nodes, as a set.
    fn own(&self) -> u8 {
        (0..NODES).fold(0, |own, node| {
            own | u8::from(self.outputs[node] == self.lease.epoch) << node
        })
    }
}

impl Worker {
    pub(super) fn execute(&mut self, env: &mut Env, at: usize) {
        let Some(held) = self.held.get(at) else { return };
        if let Some(why) = held.stop {
            return self.conclude(env, at, Verdict::Stopped(why));
        }
        let now = env.now;
        let ended: Vec<usize> = (0..NODES)
            .filter(|node| held.ends[*node].is_some_and(|end| end <= now))
            .collect();
        if !ended.is_empty() {
            let node = ended[env.tape.pick(ended.len())];
            if let Some(verdict) = self.node_ended(env, at, node) {
                return self.conclude(env, at, verdict);
            }
            if self.poisoned {
                return;
            }
        } else if held.began && held.deadline <= now {
            return self.conclude(env, at, Verdict::TimedOut);
        }
        self.start_ready(env, at);
        let held = &self.held[at];
        if held.done() == held.spec.plan.all() {
            self.conclude(env, at, Verdict::Done);
        }
    }

    /// A node ends; the verdict if the attempt ends with it.
    fn node_ended(&mut self, env: &mut Env, at: usize, node: usize) -> Option<Verdict> {
        let held = &mut self.held[at];
        let lease = held.lease;
        held.ends[node] = None;
        if held.spec.poison {
            self.poisoned = true;
            say!(env, "node {node} of run {} ends {}", number(lease.run), self.me);
            return None;
        }
        let retryable = match env.tape.byte() {
            0..=229 => {
                held.outputs[node] = lease.epoch;
                self.journal
                    .note(lease, 1 << node, (EventKind::NodeFinished, node as u8));
                return None;
            }
            230..=249 => true,
            250.. => false,
        };
        env.count(if retryable {
            Step::NodeFailed
        } else {
            Step::NodeRefused
        });
        self.journal.note(lease, 0, (EventKind::NodeFailed, node as u8));
        Some(Verdict::Failed { retryable })
    }

    fn start_ready(&mut self, env: &mut Env, at: usize) {
        let held = &mut self.held[at];
        held.began = true;
        let (plan, done) = (held.spec.plan, held.done());
        for node in 0..plan.len() {
            if held.outputs[node] != 0 || held.ends[node].is_some() || !plan.ready(node, done) {
                continue;
            }
            let takes = DURATIONS[env.tape.pick(DURATIONS.len())];
            if takes > TTL {
                env.count(Step::SlowNode);
            }
            held.ends[node] = Some(env.now + takes);
            let lease = held.lease;
            say!(
                env,
                "{} starts node {node} of run {} under epoch {}",
                self.me,
                number(lease.run),
                lease.epoch
            );
            env.check.node_started(self.me, &lease, node);
            self.journal.note(lease, 0, (EventKind::NodeStarted, node as u8));
        }
    }

    /// What is written at the end of an attempt, as the worker's `outcome` decides it.
    fn conclude(&mut self, env: &mut Env, at: usize, verdict: Verdict) {
        let held = &mut self.held[at];
        let lease = held.lease;
        let (own, outputs) = (held.own(), held.outputs);
        if let Verdict::Stopped(Stop::Lost) = verdict {
            say!(
                env,
                "{} stops run {}: the lease is lost",
                self.me,
                number(lease.run)
            );
            self.journal.forget(&lease);
            self.held.remove(at);
            return;
        }
        held.ending = true;
        held.ends = [None; NODES];
        let finish = |ending, because, permanent| {
            End::Finish(Finish {
                lease,
                ending,
                because,
                events: Vec::new(),
                outputs,
                permanent,
            })
        };
        let release = |because, retry_in| {
            End::Release(Release {
                lease,
                because,
                retry_in,
                nodes: own,
                events: Vec::new(),
            })
        };
        let (retryable, because) = match verdict {
            Verdict::Done => {
                let end = finish(Ending::Succeeded, EndedBecause::Succeeded, false);
                return self.journal.end(lease, end);
            }
            Verdict::Stopped(Stop::Cancelled) => {
                let end = finish(Ending::Cancelled, EndedBecause::Cancelled, false);
                return self.journal.end(lease, end);
            }
            Verdict::Stopped(_) => {
                return self.journal.end(lease, release(EndedBecause::Interrupted, None));
            }
            Verdict::Failed { retryable } => (retryable, EndedBecause::Failed),
            Verdict::TimedOut => {
                env.count(Step::TimedOut);
                (true, EndedBecause::TimedOut)
            }
        };
        let random = f64::from(env.tape.byte()) / 256.0;
        let max_attempts = held.spec.max_attempts;
        let after = after_failure(&RETRY, lease.attempt, max_attempts, retryable, random, None);
        let end = match after {
            AfterFailure::RetryIn(delay) => release(because, Some(millis(delay))),
            AfterFailure::Fail => finish(Ending::Failed, because, !retryable),
        };
        self.journal.end(lease, end);
    }
}
