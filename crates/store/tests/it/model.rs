//! Random histories of a few runs, against a model in memory built on the core's own state machine.

use std::slice;
use std::time::Duration;

use flowfleet_core::port::{CancelOutcome, Fenced, Renewal};
use flowfleet_core::retry::{AfterInterruption, after_interruption};
use flowfleet_core::run::{EndedBecause, Ending, Event, apply};
use flowfleet_core::{EventKind, Lease, RunId, RunState};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;

use crate::bed::{Bed, OVER, TTL, checkpoint, finish, node_event, progress, release};

const RUNS: usize = 3;

/// What is done to one run, or to all.
#[derive(Debug, Clone, Copy)]
enum Op {
    Claim {
        run: usize,
        over: bool,
    },
    Renew {
        run: usize,
        stale: bool,
    },
    Checkpoint {
        run: usize,
        stale: bool,
    },
    Finish {
        run: usize,
        stale: bool,
        ending: Ending,
        knows: bool,
    },
    Retry {
        run: usize,
        stale: bool,
    },
    HandBack {
        run: usize,
        stale: bool,
    },
    Cancel {
        run: usize,
    },
    Promote,
    Reap,
}

fn op() -> impl Strategy<Value = Op> {
    let run = 0..RUNS;
    let stale = proptest::bool::weighted(0.15);
    let ending = prop_oneof![
        Just(Ending::Succeeded),
        Just(Ending::Failed),
        Just(Ending::Cancelled)
    ];
    prop_oneof![
        6 => (run.clone(), any::<bool>()).prop_map(|(run, over)| Op::Claim { run, over }),
        1 => (run.clone(), stale).prop_map(|(run, stale)| Op::Renew { run, stale }),
        2 => (run.clone(), stale).prop_map(|(run, stale)| Op::Checkpoint { run, stale }),
        1 => (run.clone(), stale, ending, any::<bool>())
            .prop_map(|(run, stale, ending, knows)| Op::Finish { run, stale, ending, knows }),
        2 => (run.clone(), stale).prop_map(|(run, stale)| Op::Retry { run, stale }),
        3 => (run.clone(), stale).prop_map(|(run, stale)| Op::HandBack { run, stale }),
        1 => run.prop_map(|run| Op::Cancel { run }),
        2 => Just(Op::Promote),
        2 => Just(Op::Reap),
    ]
}

/// One run as it should be.
#[derive(Debug, Clone)]
struct Model {
    id: RunId,
    state: RunState,
    epoch: u64,
    attempt: u32,
    failures: u32,
    interruptions: u32,
    cancel: bool,
    over: bool,
    seq: u64,
    ended: usize,
    nodes: usize,
}

impl Model {
    fn lease(&self, stale: bool) -> Lease {
        Lease {
            run: self.id,
            attempt: self.attempt,
            epoch: if stale {
                self.epoch.saturating_sub(1)
            } else {
                self.epoch
            },
        }
    }

    fn holds(&self, stale: bool) -> bool {
        self.state == RunState::Running && !stale
    }

    fn go(&mut self, event: Event, events: u64) {
        let was = self.state;
        self.state = apply(was, event).unwrap();
        self.seq += events;
        if was == RunState::Running {
            self.ended += 1;
        }
        if self.state.is_final() {
            self.nodes = 0;
        }
    }

    fn interrupt(&mut self, cause: Event) {
        self.interruptions += 1;
        match after_interruption(self.interruptions) {
            _ if self.cancel => self.go(Event::Finished(Ending::Cancelled), 1),
            AfterInterruption::Requeue { .. } => self.go(cause, 2),
            AfterInterruption::Fail => self.go(Event::InterruptedTooOften, 2),
        }
    }
}

fn is_applied(answer: &Fenced) -> bool {
    matches!(answer, Fenced::Applied { .. })
}

async fn step(bed: &Bed, models: &mut [Model], op: Op) {
    match op {
        Op::Claim { run, over } => {
            let model = &mut models[run];
            let claimed = bed.try_claim(model.id, if over { OVER } else { TTL }).await;
            assert_eq!(claimed.is_some(), model.state == RunState::Queued);
            if let Some(claimed) = claimed {
                model.go(Event::Claimed, 1);
                (model.epoch, model.attempt, model.over) = (model.epoch + 1, model.failures + 1, over);
                assert_eq!(claimed.lease, model.lease(false));
                assert_eq!(claimed.checkpoints.len(), model.nodes);
            }
        }
        Op::Renew { run, stale } => {
            let model = &mut models[run];
            let answer = bed
                .store
                .renew(bed.worker, &[model.lease(stale)], TTL)
                .await
                .unwrap()
                .remove(0);
            if model.holds(stale) {
                assert_eq!(answer, Renewal::Held { cancel: model.cancel });
                model.over = false;
            } else {
                assert_eq!(answer, Renewal::Lost);
            }
        }
        Op::Checkpoint { run, stale } => {
            let model = &mut models[run];
            let name = format!("n{}", model.nodes);
            let events =
                [EventKind::NodeStarted, EventKind::NodeFinished].map(|kind| node_event(kind, &name));
            let step = progress(
                model.lease(stale),
                model.seq,
                vec![checkpoint(&name, json!(1))],
                events.to_vec(),
            );
            // Once more: as after an answer that was lost.
            let answers = [
                bed.store
                    .checkpoint(slice::from_ref(&step))
                    .await
                    .unwrap()
                    .remove(0),
                bed.store.checkpoint(&[step]).await.unwrap().remove(0),
            ];
            assert_eq!(answers[0], answers[1]);
            assert_eq!(is_applied(&answers[0]), model.holds(stale));
            if model.holds(stale) {
                (model.seq, model.nodes) = (model.seq + 2, model.nodes + 1);
            }
        }
        Op::Finish {
            run,
            stale,
            ending,
            knows,
        } => {
            let model = &mut models[run];
            let mut end = finish(model.lease(stale), ending);
            end.after_seq = if knows { model.seq } else { 0 };
            let answer = bed.store.finish(&[end]).await.unwrap().remove(0);
            assert_eq!(is_applied(&answer), model.holds(stale));
            if model.holds(stale) {
                model.go(Event::Finished(ending), 1);
            }
        }
        Op::Retry { run, stale } => {
            let model = &mut models[run];
            let given = release(model.lease(stale), EndedBecause::Failed, Some(Duration::ZERO));
            let answer = bed.store.release(&[given]).await.unwrap().0.remove(0);
            assert_eq!(is_applied(&answer), model.holds(stale));
            if model.holds(stale) && model.cancel {
                model.go(Event::Finished(Ending::Cancelled), 1);
            } else if model.holds(stale) {
                model.failures += 1;
                model.go(Event::RetryLater, 1);
            }
        }
        Op::HandBack { run, stale } => {
            let model = &mut models[run];
            let given = release(model.lease(stale), EndedBecause::Interrupted, None);
            let answer = bed.store.release(&[given]).await.unwrap().0.remove(0);
            assert_eq!(is_applied(&answer), model.holds(stale));
            if model.holds(stale) {
                model.interrupt(Event::Interrupted);
            }
        }
        Op::Cancel { run } => {
            let model = &mut models[run];
            let outcome = bed.store.cancel(&bed.tenant, model.id).await.unwrap();
            match apply(model.state, Event::CancelRequested) {
                Err(_) => assert_eq!(outcome, CancelOutcome::AlreadyFinal(model.state)),
                Ok(RunState::Running) => {
                    let worker = Some(bed.worker);
                    assert_eq!(outcome, CancelOutcome::Requested { worker });
                    model.cancel = true;
                }
                Ok(_) => {
                    assert_eq!(outcome, CancelOutcome::Cancelled);
                    model.go(Event::CancelRequested, 1);
                }
            }
        }
        Op::Promote => {
            bed.store.promote_due(10_000).await.unwrap();
            for model in models.iter_mut().filter(|m| m.state == RunState::Scheduled) {
                model.go(Event::Due, 1);
            }
        }
        Op::Reap => {
            bed.store.reap(10_000).await.unwrap();
            for model in models
                .iter_mut()
                .filter(|m| m.state == RunState::Running && m.over)
            {
                model.interrupt(Event::LeaseExpired);
            }
        }
    }
}

async fn check(bed: &Bed, models: &[Model]) {
    for model in models {
        let view = bed.get(model.id).await;
        let running = usize::from(model.state == RunState::Running);
        assert_eq!(
            (
                view.state,
                view.attempt,
                view.interruptions,
                view.last_seq,
                view.cancel_requested
            ),
            (
                model.state,
                model.attempt,
                model.interruptions,
                model.seq,
                model.cancel
            ),
        );
        assert_eq!(view.attempts.len(), model.ended + running);
        assert_eq!(view.finished_at.is_some(), model.state.is_final());
        let events = bed.events(model.id).await;
        let finals = events.iter().filter(|e| e.kind.is_final()).count();
        assert_eq!(finals, usize::from(model.state.is_final()));
        assert!(
            events.iter().rev().skip(1).all(|e| !e.kind.is_final()),
            "nothing follows the end"
        );
    }
    let ids: Vec<_> = models.iter().map(|model| model.id).collect();
    let read = bed.store.histories_of(&ids).await.unwrap();
    let violations = read.runs.iter().flat_map(|history| {
        flowfleet_core::history::check(history, read.now, flowfleet_core::history::SLACK)
    });
    assert_eq!(violations.collect::<Vec<_>>(), []);
}

async fn history(bed: Bed, ops: Vec<Op>) {
    let mut models = Vec::new();
    for _ in 0..RUNS {
        models.push(Model {
            id: bed.submit_one().await,
            state: RunState::Queued,
            epoch: 0,
            attempt: 0,
            failures: 0,
            interruptions: 0,
            cancel: false,
            over: false,
            seq: 1,
            ended: 0,
            nodes: 0,
        });
    }
    for op in ops {
        step(&bed, &mut models, op).await;
    }
    check(&bed, &models).await;
}

pub(crate) async fn any_history_follows_the_state_machine(bed: Bed) {
    let runtime = tokio::runtime::Handle::current();
    let config = Config {
        cases: 24,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    tokio::task::block_in_place(|| {
        TestRunner::new(config)
            .run(&proptest::collection::vec(op(), 1..90), |ops| {
                let case = runtime.spawn(history(bed.clone(), ops));
                runtime
                    .block_on(case)
                    .map_err(|failed| TestCaseError::fail(failed.to_string()))
            })
            .unwrap();
    });
}
