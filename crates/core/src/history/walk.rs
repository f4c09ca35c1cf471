//! A store of one run in memory, driven by the real rules: what it writes is a history that must hold.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{EndedAttempt, RunHistory};
use crate::clock::later;
use crate::event::{EventKind, RunEvent};
use crate::id::RunId;
use crate::retry::{AfterInterruption, after_interruption};
use crate::run::{EndedBecause, Ending, Event, RunState, apply};

pub(super) const START: Timestamp = Timestamp::UNIX_EPOCH;
/// When a walk is looked at: before anything that it promised is due.
pub(super) const NOW: Timestamp = Timestamp::UNIX_EPOCH;

const NODES: usize = 4;

/// What is tried; what cannot happen is refused, as the store would.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Claim,
    Start(usize),
    Finish(usize),
    FailNode(usize),
    End(Ending),
    Retry,
    HandBack,
    HandOff,
    Lose,
    AskToCancel,
    Due,
    Expire,
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let node = 0..NODES;
    let ending = prop_oneof![
        Just(Ending::Succeeded),
        Just(Ending::Failed),
        Just(Ending::Cancelled)
    ];
    let op = prop_oneof![
        8 => Just(Op::Claim),
        8 => node.clone().prop_map(Op::Start),
        8 => node.clone().prop_map(Op::Finish),
        1 => node.prop_map(Op::FailNode),
        1 => ending.prop_map(Op::End),
        2 => Just(Op::Retry),
        2 => Just(Op::HandBack),
        1 => Just(Op::HandOff),
        2 => Just(Op::Lose),
        1 => Just(Op::AskToCancel),
        3 => Just(Op::Due),
        1 => Just(Op::Expire),
    ];
    proptest::collection::vec(op, 0..80)
}

#[derive(Debug)]
struct Walk {
    history: RunHistory,
    cancel: bool,
    /// Nodes that run under the newest epoch.
    running: BTreeSet<usize>,
    /// Those of them that failed: a node does so once.
    failed: BTreeSet<usize>,
}

/// The history of a run to which `ops` happened.
pub(super) fn walk(scheduled: bool, ops: &[Op]) -> RunHistory {
    let state = if scheduled {
        RunState::Scheduled
    } else {
        RunState::Queued
    };
    let mut walk = Walk {
        history: RunHistory::empty(RunId::generate(), state),
        cancel: false,
        running: BTreeSet::new(),
        failed: BTreeSet::new(),
    };
    walk.write(
        if scheduled {
            EventKind::RunScheduled
        } else {
            EventKind::RunQueued
        },
        Value::Null,
    );
    walk.enter(state);
    for op in ops {
        walk.step(*op);
    }
    walk.history
}

impl Walk {
    fn write(&mut self, kind: EventKind, data: Value) {
        self.history.last_seq += 1;
        self.history.events.push(RunEvent {
            run: self.history.run,
            seq: self.history.last_seq,
            kind,
            at: START,
            data: data.into(),
        });
    }

    fn enter(&mut self, state: RunState) {
        let history = &mut self.history;
        history.state = state;
        (history.lease_until, history.attempt_started_at) = (None, None);
        match state {
            RunState::Scheduled => history.run_at = Some(later(START, Duration::from_secs(9))),
            RunState::Queued => (history.queued_at, history.published_at) = (Some(START), Some(START)),
            RunState::Running => {
                history.lease_until = Some(later(START, Duration::from_secs(30)));
                history.attempt_started_at = Some(START);
                history.started_at = history.started_at.or(Some(START));
            }
            _ => {
                history.finished_at = Some(START);
                history.checkpoints.clear();
            }
        }
    }

    fn step(&mut self, op: Op) {
        let state = self.history.state;
        match op {
            Op::Start(n) | Op::Finish(n) | Op::FailNode(n) => self.node(op, n),
            Op::Claim => {
                let Ok(next) = apply(state, Event::Claimed) else {
                    return;
                };
                self.history.epoch += 1;
                self.history.attempt = self.history.failures + 1;
                self.running.clear();
                self.failed.clear();
                self.write(EventKind::RunStarted, json!({ "attempt": self.history.attempt }));
                self.enter(next);
            }
            Op::End(ending) => {
                let Ok(next) = apply(state, Event::Finished(ending)) else {
                    return;
                };
                let (kind, because) = match ending {
                    Ending::Succeeded => (EventKind::RunSucceeded, EndedBecause::Succeeded),
                    Ending::Failed => (EventKind::RunFailed, EndedBecause::Failed),
                    Ending::Cancelled => (EventKind::RunCancelled, EndedBecause::Cancelled),
                };
                self.write(kind, json!({ "attempt": self.history.attempt }));
                self.over(because);
                self.enter(next);
            }
            Op::Retry if self.cancel => {
                let Ok(next) = apply(state, Event::Finished(Ending::Cancelled)) else {
                    return;
                };
                self.write(
                    EventKind::RunCancelled,
                    json!({ "attempt": self.history.attempt }),
                );
                self.over(EndedBecause::Failed);
                self.enter(next);
            }
            Op::Retry => {
                let Ok(next) = apply(state, Event::RetryLater) else {
                    return;
                };
                self.write(EventKind::RunRetrying, Value::Null);
                self.over(EndedBecause::Failed);
                self.history.failures += 1;
                self.enter(next);
            }
            Op::HandBack => self.interrupt(Event::Interrupted, EndedBecause::Interrupted),
            Op::HandOff => self.interrupt(Event::Interrupted, EndedBecause::HandedOff),
            Op::Lose => self.interrupt(Event::LeaseExpired, EndedBecause::WorkerLost),
            Op::AskToCancel if state == RunState::Running => self.cancel = true,
            Op::AskToCancel => self.leave(Event::CancelRequested, EventKind::RunCancelled),
            Op::Due => self.leave(Event::Due, EventKind::RunQueued),
            // Only runs that never started expire.
            Op::Expire if self.history.started_at.is_none() => {
                self.leave(Event::Expired, EventKind::RunExpired);
            }
            Op::Expire => {}
        }
    }

    fn node(&mut self, op: Op, n: usize) {
        let name = format!("n{n}");
        let data = json!({ "node": name });
        let done = self.history.checkpoints.contains(&name);
        if self.history.state != RunState::Running || done {
            return;
        }
        match op {
            Op::Start(_) if self.running.insert(n) => self.write(EventKind::NodeStarted, data),
            Op::Finish(_) if self.running.contains(&n) => {
                self.write(EventKind::NodeFinished, data);
                self.history.checkpoints.push(name);
            }
            Op::FailNode(_) if self.running.contains(&n) && self.failed.insert(n) => {
                self.write(EventKind::NodeFailed, data);
            }
            _ => {}
        }
    }

    fn over(&mut self, because: EndedBecause) {
        self.history.attempts.push(EndedAttempt {
            epoch: self.history.epoch,
            attempt: self.history.attempt,
            because,
        });
    }

    fn interrupt(&mut self, cause: Event, because: EndedBecause) {
        let count = self.history.interruptions + u32::from(because.counts_as_interruption());
        let cause = match after_interruption(count) {
            _ if self.cancel => Event::Finished(Ending::Cancelled),
            AfterInterruption::Requeue { .. } => cause,
            AfterInterruption::Fail => Event::InterruptedTooOften,
        };
        let Ok(next) = apply(self.history.state, cause) else {
            return;
        };
        if next == RunState::Cancelled {
            self.write(EventKind::RunCancelled, json!({ "reason": because }));
        } else {
            self.write(EventKind::RunInterrupted, json!({ "reason": because }));
            let then = if next == RunState::Failed {
                EventKind::RunFailed
            } else {
                EventKind::RunQueued
            };
            self.write(then, Value::Null);
        }
        self.history.interruptions = count;
        self.over(because);
        self.enter(next);
    }

    fn leave(&mut self, cause: Event, kind: EventKind) {
        if let Ok(next) = apply(self.history.state, cause) {
            self.write(kind, Value::Null);
            self.enter(next);
        }
    }
}
