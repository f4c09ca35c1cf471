//! What the leader asks for.

use flowfleet_core::lease::expired;
use flowfleet_core::run::{EndedBecause, Event};
use flowfleet_core::{EventKind, RunState};

use super::{Store, envelope};
use crate::coverage::Step;
use crate::env::Env;
use crate::model::{RECONCILE_AGE, SWEEP_AGE, stamp};
use crate::wire::Stored;

impl Store {
    pub(super) fn leftover(&mut self, env: &Env) -> Stored {
        let old = self.outbox.iter().filter(|(_, at)| at + SWEEP_AGE <= env.now);
        Stored::Rows(old.map(|(row, _)| row.clone()).collect())
    }

    pub(super) fn promote(&mut self, env: &mut Env) -> Stored {
        let (mut moved, mut messages) = (0, Vec::new());
        let now = env.now;
        for row in &mut self.rows {
            if row.state == RunState::Scheduled && row.run_at <= now {
                row.leave_waiting(env, Event::Due, EventKind::RunQueued, &mut messages);
                moved += 1;
            }
        }
        let outbox = self.publish_later(env, messages);
        Stored::Moved(moved, outbox)
    }

    pub(super) fn expire(&mut self, env: &mut Env) -> Stored {
        let (mut moved, mut messages) = (0, Vec::new());
        let now = env.now;
        for row in &mut self.rows {
            let late = row.expires_at.is_some_and(|at| at <= now) && !row.started;
            if late && row.leave_waiting(env, Event::Expired, EventKind::RunExpired, &mut messages) {
                moved += 1;
            }
        }
        Stored::Moved(moved, None)
    }

    pub(super) fn reap(&mut self, env: &mut Env) -> Stored {
        let (mut moved, mut messages) = (0, Vec::new());
        let now = env.now;
        for row in &mut self.rows {
            let lost = row.state == RunState::Running && expired(stamp(row.lease_until), stamp(now));
            let because = EndedBecause::WorkerLost;
            if lost && row.interrupt(env, Event::LeaseExpired, because, &[], &mut messages) {
                env.count(Step::Reaped);
                moved += 1;
            }
        }
        let outbox = self.publish_later(env, messages);
        Stored::Moved(moved, outbox)
    }

    pub(super) fn republish(&mut self, env: &mut Env, limit: usize) -> Stored {
        let now = env.now;
        let mut waiting: Vec<_> = self
            .rows
            .iter_mut()
            .filter(|row| row.state == RunState::Queued && row.published_at + RECONCILE_AGE <= now)
            .collect();
        waiting.sort_by_key(|row| (row.spec.priority, row.queued_at, row.id));
        waiting.truncate(limit);
        for row in &mut waiting {
            row.published_at = now;
        }
        let messages: Vec<_> = waiting.iter().map(|row| envelope(row)).collect();
        if !messages.is_empty() {
            env.count(Step::Reconciled);
        }
        let moved = messages.len();
        let outbox = self.publish_later(env, messages);
        Stored::Moved(moved, outbox)
    }
}
