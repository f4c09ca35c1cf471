//! The store: rows, events, checkpoints, outbox. Each call is one transaction, as in the adapters: these take the rows
//! they change under locks. What follows from what is asked of `flowfleet_core`.

mod leased;
mod upkeep;

use flowfleet_core::port::{CancelOutcome, Envelope, OutboxRow, SubmitOutcome};
use flowfleet_core::retry::{AfterInterruption, after_interruption};
use flowfleet_core::run::{EndedBecause, Ending, Event, apply};
use flowfleet_core::{EventKind, Pool, RunId, RunMessage, RunState, WorkerId};

use crate::coverage::Step;
use crate::env::Env;
use crate::model::{Ms, Mutation, NODES, NewRun, Spec};
use crate::wire::{NodeEvent, StoreOp, Stored, Who};

/// Node number of events that are no node's.
pub(crate) const NO_NODE: u8 = u8::MAX;

/// An event of a run's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) seq: u64,
    pub(crate) kind: EventKind,
    pub(crate) node: u8,
    /// Under which it was written.
    pub(crate) epoch: u64,
}

/// An attempt that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) epoch: u64,
    pub(crate) attempt: u32,
    pub(crate) because: EndedBecause,
}

/// A row of `runs` with what belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: RunId,
    pub(crate) key: Option<u8>,
    pub(crate) digest: u8,
    pub(crate) spec: Spec,
    pub(crate) state: RunState,
    pub(crate) epoch: u64,
    pub(crate) attempt: u32,
    pub(crate) failures: u32,
    pub(crate) interruptions: u32,
    pub(crate) last_seq: u64,
    pub(crate) cancel_requested: bool,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) lease_until: Ms,
    pub(crate) queued_at: Ms,
    pub(crate) published_at: Ms,
    pub(crate) run_at: Ms,
    pub(crate) expires_at: Option<Ms>,
    pub(crate) started: bool,
    /// Checkpoints: for each node the epoch that produced its output, 0 for none.
    pub(crate) outputs: [u64; NODES],
    /// The same for what a run that succeeded answered.
    pub(crate) answered: [u64; NODES],
    pub(crate) events: Vec<Logged>,
    pub(crate) attempts: Vec<Attempt>,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) rows: Vec<Row>,
    pub(crate) outbox: Vec<(OutboxRow, Ms)>,
    rows_of_outbox: i64,
    /// Whose session holds the leader's lock.
    pub(crate) leader: Option<Who>,
}

fn envelope(row: &Row) -> Envelope {
    Envelope {
        pool: Pool::default(),
        priority: row.spec.priority,
        message: RunMessage::new(row.id, None),
    }
}

impl Row {
    fn log(&mut self, env: &Env, kind: EventKind, node: u8) {
        let seq = self.last_seq + 1;
        if !env.is(Mutation::SequenceStandsStill) || self.last_seq < 3 {
            self.last_seq = seq;
        }
        self.events.push(Logged {
            seq,
            kind,
            node,
            epoch: self.epoch,
        });
    }

    fn log_all(&mut self, env: &Env, events: &[NodeEvent]) {
        for &(kind, node) in events {
            self.log(env, kind, node);
        }
    }

    /// Puts the row into `next`; answers the message to publish if it waits for a worker now.
    fn enter(&mut self, env: &mut Env, event: Event, next: RunState) -> Option<Envelope> {
        env.cover.transition(self.state, event);
        self.state = next;
        self.worker = None;
        if next.is_final() {
            self.outputs = [0; NODES];
        }
        if next == RunState::Queued {
            self.queued_at = env.now;
            self.published_at = env.now;
            return Some(envelope(self));
        }
        None
    }

    fn end_attempt(&mut self, because: EndedBecause) {
        self.attempts.push(Attempt {
            epoch: self.epoch,
            attempt: self.attempt,
            because,
        });
    }

    /// A waiting run that is moved by something else than a worker. False when it is not waiting for that.
    fn leave_waiting(
        &mut self,
        env: &mut Env,
        event: Event,
        kind: EventKind,
        messages: &mut Vec<Envelope>,
    ) -> bool {
        let Ok(next) = apply(self.state, event) else {
            return false;
        };
        self.log(env, kind, NO_NODE);
        messages.extend(self.enter(env, event, next));
        true
    }

    /// Back to the queue, or to an end when that is where an interruption leads (invariant I4).
    fn interrupt(
        &mut self,
        env: &mut Env,
        event: Event,
        because: EndedBecause,
        events: &[NodeEvent],
        messages: &mut Vec<Envelope>,
    ) -> bool {
        let count = self.interruptions + u32::from(because.counts_as_interruption());
        let cancelled = self.cancel_requested && !env.is(Mutation::RequeueForgetsCancel);
        let event = match after_interruption(count) {
            _ if cancelled => Event::Finished(Ending::Cancelled),
            AfterInterruption::Requeue { .. } => event,
            AfterInterruption::Fail if env.is(Mutation::InterruptionsHaveNoLimit) => event,
            AfterInterruption::Fail => Event::InterruptedTooOften,
        };
        let Ok(next) = apply(self.state, event) else {
            return false;
        };
        self.log_all(env, events);
        match next {
            RunState::Cancelled => {
                env.count(Step::CancelledOnRelease);
                self.log(env, EventKind::RunCancelled, NO_NODE);
            }
            RunState::Failed => {
                env.count(Step::TooManyInterruptions);
                self.log(env, EventKind::RunInterrupted, NO_NODE);
                self.log(env, EventKind::RunFailed, NO_NODE);
            }
            _ => {
                self.log(env, EventKind::RunInterrupted, NO_NODE);
                self.log(env, EventKind::RunQueued, NO_NODE);
            }
        }
        self.end_attempt(because);
        self.interruptions = count;
        if env.is(Mutation::InterruptionIsFailure) {
            self.failures += 1;
        }
        if env.is(Mutation::RequeueDropsCheckpoints) {
            self.outputs = [0; NODES];
        }
        messages.extend(self.enter(env, event, next));
        true
    }
}

impl Store {
    /// Carries out one transaction.
    pub(crate) fn execute(&mut self, env: &mut Env, op: &StoreOp) -> Stored {
        match op {
            StoreOp::Submit(runs) => self.submit(env, runs),
            StoreOp::Cancel(run) => Stored::Cancelled(self.cancel(env, *run)),
            StoreOp::Claim { worker, runs, .. } => self.claim(env, *worker, runs),
            StoreOp::Renew { worker, leases } => self.renew(env, *worker, leases),
            StoreOp::Checkpoint(items) => self.checkpoint(env, items),
            StoreOp::Finish(items) => self.finish(env, items),
            StoreOp::Release(items) => self.release(env, items),
            StoreOp::OutboxDone(ids) => {
                self.outbox.retain(|(row, _)| !ids.contains(&row.id));
                Stored::Done
            }
            StoreOp::Leftover => self.leftover(env),
            StoreOp::Promote => self.promote(env),
            StoreOp::Expire => self.expire(env),
            StoreOp::Reap => self.reap(env),
            StoreOp::Backlog => {
                let queued = self.rows.iter().filter(|row| row.state == RunState::Queued);
                Stored::Backlog(queued.count() as u64)
            }
            StoreOp::Republish(limit) => self.republish(env, *limit),
            StoreOp::Lead(who) => {
                let leads = *self.leader.get_or_insert(*who) == *who;
                Stored::Leads(leads)
            }
            StoreOp::Holds(who) => Stored::Leads(self.leader == Some(*who)),
        }
    }

    pub(crate) fn row(&self, run: RunId) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == run)
    }

    fn row_mut(&mut self, run: RunId) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.id == run)
    }

    fn publish_later(&mut self, env: &Env, envelopes: Vec<Envelope>) -> Option<OutboxRow> {
        if envelopes.is_empty() {
            return None;
        }
        self.rows_of_outbox += 1;
        let row = OutboxRow {
            id: self.rows_of_outbox,
            envelopes,
        };
        self.outbox.push((row.clone(), env.now));
        Some(row)
    }

    fn submit(&mut self, env: &mut Env, runs: &[NewRun]) -> Stored {
        if runs.len() > 1 {
            env.count(Step::Grouped);
        }
        let mut messages = Vec::new();
        let outcomes = runs
            .iter()
            .map(|new| self.submit_one(env, new, &mut messages))
            .collect();
        let row = self.publish_later(env, messages);
        Stored::Submitted(outcomes, row)
    }

    fn submit_one(&mut self, env: &mut Env, new: &NewRun, messages: &mut Vec<Envelope>) -> SubmitOutcome {
        let by_key =
            |row: &&Row| new.key.is_some() && row.key == new.key && !env.is(Mutation::KeysAreIgnored);
        let found = self.rows.iter().find(by_key);
        if let Some(row) = found.or_else(|| self.row(new.id)) {
            let (id, state) = (row.id, row.state);
            if row.digest != new.digest {
                env.count(Step::ConflictTold);
                return SubmitOutcome::Conflict { id };
            }
            env.count(if id == new.id {
                Step::ExistingById
            } else {
                Step::ExistingByKey
            });
            return SubmitOutcome::Existing { id, state };
        }
        let now = env.now;
        let (state, kind) = if new.spec.delay.is_some() {
            (RunState::Scheduled, EventKind::RunScheduled)
        } else {
            (RunState::Queued, EventKind::RunQueued)
        };
        let mut row = Row {
            id: new.id,
            key: new.key,
            digest: new.digest,
            spec: new.spec,
            state,
            epoch: 0,
            attempt: 0,
            failures: 0,
            interruptions: 0,
            last_seq: 0,
            cancel_requested: false,
            worker: None,
            lease_until: 0,
            queued_at: now,
            published_at: now,
            run_at: now + new.spec.delay.unwrap_or(0),
            expires_at: new.spec.expires.map(|after| now + after),
            started: false,
            outputs: [0; NODES],
            answered: [0; NODES],
            events: Vec::with_capacity(16),
            attempts: Vec::new(),
        };
        row.log(env, kind, NO_NODE);
        if state == RunState::Queued {
            messages.push(envelope(&row));
        }
        self.rows.push(row);
        SubmitOutcome::Created { id: new.id, state }
    }

    fn cancel(&mut self, env: &mut Env, run: RunId) -> CancelOutcome {
        let Some(row) = self.row_mut(run) else {
            return CancelOutcome::NotFound;
        };
        let mut messages = Vec::new();
        match row.state {
            state if state.is_final() => CancelOutcome::AlreadyFinal(state),
            RunState::Running => {
                env.cover.transition(row.state, Event::CancelRequested);
                row.cancel_requested = true;
                CancelOutcome::Requested { worker: row.worker }
            }
            _ => {
                row.leave_waiting(
                    env,
                    Event::CancelRequested,
                    EventKind::RunCancelled,
                    &mut messages,
                );
                CancelOutcome::Cancelled
            }
        }
    }
}
