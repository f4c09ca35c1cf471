//! What one transaction may change in a row, judged by the row before and after it.

use flowfleet_core::lease::Lease;
use flowfleet_core::retry::{AfterInterruption, after_interruption};
use flowfleet_core::run::{EndedBecause, Event, apply};
use flowfleet_core::{EventKind, RunId, RunState};

use super::{Checker, Invariant, mark, marked, place};
use crate::model::{Ms, NODES, number};
use crate::store::{Logged, NO_NODE, Row, Store};
use crate::wire::{StoreOp, Who};

/// What is remembered of a row.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) id: RunId,
    state: RunState,
    epoch: u64,
    failures: u32,
    interruptions: u32,
    last_seq: u64,
    cancel_requested: bool,
    outputs: [u64; NODES],
    events: usize,
    attempts: usize,
    claims: usize,
    /// By epoch from 1: the nodes that had checkpoints when it was claimed.
    before: Vec<[u64; NODES]>,
    /// By epoch from 1: who executes under it.
    holders: Vec<Option<Who>>,
}

impl Book {
    fn of(row: &Row) -> Self {
        Self {
            id: row.id,
            state: row.state,
            epoch: 0,
            failures: 0,
            interruptions: 0,
            last_seq: 0,
            cancel_requested: false,
            outputs: [0; NODES],
            events: 0,
            attempts: 0,
            claims: 0,
            before: Vec::new(),
            holders: Vec::new(),
        }
    }

    fn same(&self, row: &Row) -> bool {
        self.state == row.state
            && self.epoch == row.epoch
            && self.events == row.events.len()
            && self.attempts == row.attempts.len()
            && self.cancel_requested == row.cancel_requested
            && self.outputs == row.outputs
            && (self.failures, self.interruptions, self.last_seq)
                == (row.failures, row.interruptions, row.last_seq)
    }

    /// Who executes under an epoch: the first that did.
    pub(super) fn holder(&mut self, epoch: u64, who: Who) -> Who {
        let at = usize::try_from(epoch).unwrap_or_default();
        if self.holders.len() <= at {
            self.holders.resize(at + 1, None);
        }
        *self.holders[at].get_or_insert(who)
    }

    pub(super) fn finished_before(&self, epoch: u64) -> [u64; NODES] {
        let at = usize::try_from(epoch).unwrap_or_default();
        self.before.get(at.wrapping_sub(1)).copied().unwrap_or_default()
    }
}

/// The lease under which an operation may write to a run.
fn writer(op: &StoreOp, run: RunId, epoch: u64) -> Option<Lease> {
    let fits = |lease: &Lease| lease.run == run && lease.epoch == epoch;
    match op {
        StoreOp::Checkpoint(items) => items.iter().map(|i| i.lease).find(fits),
        StoreOp::Finish(items) => items.iter().map(|i| i.lease).find(fits),
        StoreOp::Release(items) => items.iter().map(|i| i.lease).find(fits),
        _ => None,
    }
}

fn is_workers(op: &StoreOp) -> bool {
    matches!(
        op,
        StoreOp::Checkpoint(_) | StoreOp::Finish(_) | StoreOp::Release(_)
    )
}

impl Checker {
    /// Looks at what a transaction changed.
    pub(crate) fn committed(&mut self, store: &Store, op: &StoreOp, now: Ms) {
        match op {
            StoreOp::Claim { tags, .. } => {
                for tag in tags {
                    mark(&mut self.decided, *tag as usize);
                }
            }
            StoreOp::OutboxDone(ids) => {
                let early = ids.iter().find(|id| !marked(&self.published, place(**id)));
                if let Some(id) = early.copied() {
                    self.violate(Invariant::Confirmed, || format!("row {id}"));
                }
            }
            StoreOp::Renew { .. } | StoreOp::Backlog | StoreOp::Leftover | StoreOp::Holds(_) => return,
            _ => {}
        }
        for at in 0..store.rows.len() {
            let row = &store.rows[at];
            if at == self.books.len() {
                self.one_a_key(store, row);
                self.books.push(Book::of(row));
            }
            if !self.books[at].same(row) {
                let mut book = std::mem::replace(&mut self.books[at], Book::of(row));
                self.judge(&mut book, row, op, now);
                self.books[at] = book;
            }
        }
    }

    fn one_a_key(&mut self, store: &Store, row: &Row) {
        let twice = store
            .rows
            .iter()
            .filter(|other| row.key.is_some() && other.key == row.key)
            .count();
        self.demand(twice <= 1, Invariant::OneRunAKey, || {
            format!("run {} has the key of another", number(row.id))
        });
    }

    fn judge(&mut self, book: &mut Book, row: &Row, op: &StoreOp, now: Ms) {
        let run = number(row.id);
        self.demand(
            !book.state.is_final() || book.events == 0,
            Invariant::EndsOnce,
            || format!("run {run} was {} and changed", book.state.as_str()),
        );
        if is_workers(op) {
            let holds = book.state == RunState::Running && writer(op, row.id, book.epoch).is_some();
            self.demand(holds, Invariant::Fenced, || {
                format!("run {run}, epoch {}, {}: {op}", book.epoch, book.state.as_str())
            });
        }
        self.transition(book, row, op, now);
        self.sequence(book, row);
        self.counts(book, row, op);
        self.outputs(book, row, op);
        book.state = row.state;
        book.epoch = row.epoch;
        book.failures = row.failures;
        book.interruptions = row.interruptions;
        book.last_seq = row.last_seq;
        book.cancel_requested = row.cancel_requested;
        book.outputs = row.outputs;
        book.events = row.events.len();
        book.attempts = row.attempts.len();
    }

    fn transition(&mut self, book: &mut Book, row: &Row, op: &StoreOp, now: Ms) {
        let run = number(row.id);
        let claims = matches!(op, StoreOp::Claim { .. });
        if book.events == 0 {
            return self.demand(matches!(op, StoreOp::Submit(_)), Invariant::Transition, || {
                format!("run {run} appeared with: {op}")
            });
        }
        let moves = book.state != row.state || claims;
        let allowed = |event: &Event| apply(book.state, *event) == Ok(row.state);
        let fits = if claims {
            allowed(&Event::Claimed)
        } else {
            Event::ALL
                .iter()
                .filter(|event| **event != Event::Claimed)
                .any(allowed)
        };
        self.demand(!moves || fits, Invariant::Transition, || {
            format!(
                "run {run} went from {} to {} by: {op}",
                book.state.as_str(),
                row.state.as_str()
            )
        });
        let asked = book.cancel_requested && !row.state.is_final() && row.state != RunState::Running;
        self.demand(!asked, Invariant::CancelHonoured, || {
            format!("run {run} is to be cancelled and became {}", row.state.as_str())
        });
        if !claims {
            return self.demand(book.epoch == row.epoch, Invariant::EpochGrows, || {
                format!("run {run}: {} to {} by: {op}", book.epoch, row.epoch)
            });
        }
        self.demand(row.epoch == book.epoch + 1, Invariant::EpochGrows, || {
            format!("run {run}: {} to {} by a claim", book.epoch, row.epoch)
        });
        let late = book.claims == 0 && row.expires_at.is_some_and(|at| at <= now);
        self.demand(!late, Invariant::NotAfterExpiry, || format!("run {run}"));
        self.demand(row.attempt == row.failures + 1, Invariant::Counted, || {
            format!(
                "run {run} starts attempt {} after {} failures",
                row.attempt, row.failures
            )
        });
        book.claims += 1;
        book.before.push(book.outputs);
    }

    fn sequence(&mut self, book: &Book, row: &Row) {
        let run = number(row.id);
        let new = &row.events[book.events.min(row.events.len())..];
        let gapless = row.events.len() >= book.events
            && (book.last_seq + 1..)
                .zip(new)
                .all(|(seq, event)| event.seq == seq)
            && row.last_seq == book.last_seq + new.len() as u64;
        self.demand(gapless, Invariant::Sequence, || {
            let seqs: Vec<u64> = new.iter().map(|event| event.seq).collect();
            format!(
                "run {run}: {seqs:?} after {}, and the row says {}",
                book.last_seq, row.last_seq
            )
        });
        let finals = new.iter().filter(|event| event.kind.is_final()).count();
        let last = new.last().is_some_and(|event| event.kind.is_final());
        let fits = if row.state.is_final() && !book.state.is_final() {
            finals == 1 && last
        } else {
            finals == 0
        };
        self.demand(fits, Invariant::OneFinalEvent, || {
            format!(
                "run {run} is {} and its last events are {new:?}",
                row.state.as_str()
            )
        });
    }

    /// Counts from the history of attempts what the row counts for itself.
    fn counts(&mut self, book: &Book, row: &Row, op: &StoreOp) {
        let run = number(row.id);
        let ended = book.claims - usize::from(row.state == RunState::Running);
        self.demand(row.attempts.len() == ended, Invariant::Counted, || {
            format!(
                "run {run}: {} claims, {} attempts that ended",
                book.claims,
                row.attempts.len()
            )
        });
        let interrupted = row
            .attempts
            .iter()
            .filter(|a| a.because.is_interruption())
            .count();
        let retried = row
            .events
            .iter()
            .filter(|e| e.kind == EventKind::RunRetrying)
            .count();
        // A failed attempt of a run that is to be cancelled ends it as an interruption would.
        let spared = usize::from(row.state == RunState::Cancelled && row.cancel_requested);
        let interruptions = row.interruptions as usize;
        self.demand(
            (interrupted..=interrupted + spared).contains(&interruptions) && row.failures as usize == retried,
            Invariant::Counted,
            || {
                format!(
                    "run {run}: {interruptions} interruptions of {interrupted}, {} failures of {retried}",
                    row.failures
                )
            },
        );
        let too_often = after_interruption(row.interruptions) == AfterInterruption::Fail;
        self.demand(
            row.state != RunState::Queued || !too_often,
            Invariant::Counted,
            || format!("run {run} is queued after {interruptions} interruptions"),
        );
        if row.state != RunState::Failed || book.state == RunState::Failed {
            return;
        }
        let refused = match op {
            StoreOp::Finish(items) => items
                .iter()
                .any(|item| item.lease.run == row.id && item.permanent),
            _ => false,
        };
        let last = row.attempts.last();
        let failed = last.is_some_and(|a| matches!(a.because, EndedBecause::Failed | EndedBecause::TimedOut));
        let used_up = failed && last.is_some_and(|a| a.attempt >= row.spec.max_attempts);
        self.demand(
            refused || used_up || too_often,
            Invariant::FailsForAReason,
            || format!("run {run}: {last:?} of {} attempts", row.spec.max_attempts),
        );
    }

    fn outputs(&mut self, book: &Book, row: &Row, op: &StoreOp) {
        let run = number(row.id);
        for node in 0..NODES {
            let (before, after) = (book.outputs[node], row.outputs[node]);
            let kept = row.state.is_final() || before == 0 || after != 0;
            self.demand(kept, Invariant::KeepsCheckpoints, || {
                format!("run {run}, node {node}")
            });
            self.demand(
                before == 0 || after == 0 || before == after,
                Invariant::OneOutput,
                || format!("run {run}, node {node}: epochs {before} and {after}"),
            );
        }
        let new = &row.events[book.events.min(row.events.len())..];
        for event in new.iter().filter(|event| event.node != NO_NODE) {
            let same = |e: &&Logged| (e.kind, e.node, e.epoch) == (event.kind, event.node, event.epoch);
            let times = row.events.iter().filter(same).count();
            self.demand(times == 1, Invariant::ToldOnce, || {
                format!("run {run}: {times} times {event:?}")
            });
        }
        for event in new.iter().filter(|event| event.kind == EventKind::NodeFinished) {
            let twice = row
                .events
                .iter()
                .find(|e| (e.kind, e.node) == (event.kind, event.node) && e.epoch != event.epoch);
            self.demand(twice.is_none(), Invariant::OneOutput, || {
                format!("run {run}, node {}: {twice:?} and {event:?}", event.node)
            });
        }
        if row.state == RunState::Succeeded && matches!(op, StoreOp::Finish(_)) {
            let (nodes, known) = (row.spec.plan.len(), book.finished_before(row.epoch));
            let whole = (0..nodes).all(|node| {
                let by = row.answered[node];
                by != 0 && by == if known[node] == 0 { row.epoch } else { known[node] }
            });
            self.demand(whole, Invariant::OneOutput, || {
                format!("run {run} answered {:?} with checkpoints {known:?}", row.answered)
            });
        }
    }
}
