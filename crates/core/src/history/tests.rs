//! Every invariant with a history that keeps it and one that breaks it, and random walks that keep them all until one
//! thing is changed.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::walk::{NOW, Op, ops, walk};
use super::{EndedAttempt, Invariant, RunHistory, SLACK, Stray, check};
use crate::clock::later;
use crate::event::{EventKind, RunEvent};
use crate::id::RunId;
use crate::retry::MAX_INTERRUPTIONS;
use crate::run::{EndedBecause, Ending, RunState};

fn broken(history: &RunHistory) -> Vec<Invariant> {
    let mut found: Vec<_> = check(history, NOW, SLACK).iter().map(|v| v.invariant).collect();
    found.sort();
    found.dedup();
    found
}

/// Appends an event as a transaction would.
fn append(history: &mut RunHistory, kind: EventKind, data: serde_json::Value) {
    history.last_seq += 1;
    let (run, seq) = (history.run, history.last_seq);
    history.events.push(RunEvent {
        run,
        seq,
        kind,
        at: NOW,
        data: data.into(),
    });
}

fn node(history: &mut RunHistory, kind: EventKind, name: &str) {
    append(history, kind, json!({ "node": name }));
}

/// Claimed, two nodes done, lost, claimed again: live.
fn resumed() -> RunHistory {
    walk(
        false,
        &[
            Op::Claim,
            Op::Start(0),
            Op::Finish(0),
            Op::Start(1),
            Op::Lose,
            Op::Claim,
            Op::Start(1),
        ],
    )
}

fn succeeded() -> RunHistory {
    let mut ops = vec![
        Op::Claim,
        Op::Start(0),
        Op::FailNode(0),
        Op::Retry,
        Op::Due,
        Op::Claim,
        Op::Start(0),
    ];
    ops.extend([Op::Finish(0), Op::End(Ending::Succeeded)]);
    walk(false, &ops)
}

/// A flow that runs whole in Python has no checkpoints, and its nodes run again.
#[test]
fn nodes_of_a_whole_flow_may_run_again() {
    let mut history = walk(false, &[Op::Claim, Op::Lose, Op::Claim]);
    for engine in ["native", "python"] {
        let mut history = history.clone();
        for kind in [
            EventKind::NodeStarted,
            EventKind::NodeFinished,
            EventKind::NodeStarted,
        ] {
            append(&mut history, kind, json!({"node": "a", "engine": engine}));
        }
        assert_eq!(broken(&history).is_empty(), engine == "python", "{engine}");
    }
    append(&mut history, EventKind::NodeStarted, json!({"engine": "other"}));
    assert_eq!(broken(&history), [Invariant::Readable]);
}

type Breaks = (
    &'static str,
    RunHistory,
    fn(&mut RunHistory),
    &'static [Invariant],
);

#[test]
fn each_invariant_is_named() {
    use Invariant::{
        AttemptsAddUp, EndedOnce, LegalSteps, NodeNotRerun, NotStuck, NothingOrphaned, OutputOnce, Readable,
        SequenceWhole,
    };
    let late = |h: &mut RunHistory| h.lease_until = Some(NOW - SLACK - Duration::from_secs(1));
    let table: Vec<Breaks> = vec![
        (
            "a second end",
            succeeded(),
            |h| append(h, EventKind::RunFailed, json!({})),
            &[EndedOnce],
        ),
        (
            "another end than the row's",
            succeeded(),
            |h| h.state = RunState::Failed,
            &[EndedOnce],
        ),
        (
            "an ended row without its event",
            resumed(),
            |h| {
                (h.state, h.finished_at) = (RunState::Succeeded, Some(NOW));
                h.checkpoints.clear();
                h.attempts.push(EndedAttempt {
                    epoch: 2,
                    attempt: 1,
                    because: EndedBecause::Succeeded,
                });
            },
            &[EndedOnce],
        ),
        (
            "an end without its time",
            succeeded(),
            |h| h.finished_at = None,
            &[EndedOnce],
        ),
        (
            "work after the end",
            succeeded(),
            |h| node(h, EventKind::NodeStarted, "late"),
            &[EndedOnce],
        ),
        (
            "one output from two epochs",
            resumed(),
            |h| node(h, EventKind::NodeFinished, "n0"),
            &[OutputOnce],
        ),
        (
            "an output of another epoch",
            resumed(),
            |h| {
                h.events.pop();
                h.last_seq -= 1;
                node(h, EventKind::NodeFinished, "n1");
                h.checkpoints.push("n1".to_owned());
            },
            &[OutputOnce],
        ),
        (
            "a checkpoint nobody announced",
            resumed(),
            |h| h.checkpoints.push("n3".to_owned()),
            &[OutputOnce],
        ),
        (
            "a finished node starts again",
            resumed(),
            |h| node(h, EventKind::NodeStarted, "n0"),
            &[NodeNotRerun],
        ),
        (
            "a node starts twice",
            resumed(),
            |h| node(h, EventKind::NodeStarted, "n1"),
            &[NodeNotRerun],
        ),
        (
            "progress written twice",
            walk(false, &[Op::Claim, Op::Start(0), Op::Finish(0)]),
            |h| {
                node(h, EventKind::NodeStarted, "n0");
                node(h, EventKind::NodeFinished, "n0");
            },
            &[OutputOnce, NodeNotRerun],
        ),
        (
            "a failure written twice",
            walk(false, &[Op::Claim, Op::Start(0), Op::FailNode(0)]),
            |h| node(h, EventKind::NodeFailed, "n0"),
            &[NodeNotRerun],
        ),
        (
            "a checkpoint is gone",
            resumed(),
            |h| h.checkpoints.clear(),
            &[NodeNotRerun],
        ),
        (
            "a hole",
            resumed(),
            |h| drop(h.events.remove(4)),
            &[SequenceWhole],
        ),
        (
            "a step back",
            resumed(),
            |h| h.events.swap(3, 4),
            &[SequenceWhole],
        ),
        (
            "events behind the row",
            resumed(),
            |h| h.last_seq -= 1,
            &[SequenceWhole],
        ),
        ("a lease nobody took back", resumed(), late, &[NotStuck]),
        (
            "an attempt without end",
            resumed(),
            |h| {
                h.attempt_started_at = Some(NOW - Duration::from_secs(7 * 3600));
            },
            &[NotStuck],
        ),
        (
            "a retry nobody queued",
            walk(false, &[Op::Claim, Op::Retry]),
            |h| {
                h.run_at = Some(NOW - SLACK - Duration::from_secs(1));
            },
            &[NotStuck],
        ),
        (
            "scheduled for never",
            walk(true, &[]),
            |h| h.run_at = None,
            &[NotStuck],
        ),
        (
            "queued without a time",
            walk(false, &[]),
            |h| h.published_at = None,
            &[NotStuck],
        ),
        (
            "expired and waiting",
            walk(false, &[]),
            |h| {
                h.expires_at = Some(NOW - SLACK - Duration::from_secs(1));
            },
            &[NotStuck],
        ),
        (
            "work without a lease",
            walk(false, &[]),
            |h| node(h, EventKind::NodeStarted, "n0"),
            &[LegalSteps],
        ),
        (
            "a first event that is none",
            resumed(),
            |h| h.events[0].kind = EventKind::RunStarted,
            &[LegalSteps, AttemptsAddUp],
        ),
        (
            "an interruption without what follows",
            resumed(),
            |h| {
                append(h, EventKind::RunInterrupted, json!({}));
                h.interruptions += 1;
            },
            &[LegalSteps],
        ),
        (
            "another state than the events'",
            walk(false, &[]),
            |h| {
                (h.state, h.run_at) = (RunState::Scheduled, Some(NOW));
            },
            &[LegalSteps],
        ),
        (
            "an epoch without its claim",
            resumed(),
            |h| h.epoch += 1,
            &[AttemptsAddUp],
        ),
        (
            "an attempt lost",
            succeeded(),
            |h| h.attempts.clear(),
            &[AttemptsAddUp],
        ),
        (
            "a failure not counted",
            succeeded(),
            |h| h.failures = 0,
            &[AttemptsAddUp],
        ),
        (
            "an interruption not counted",
            resumed(),
            |h| h.interruptions = 0,
            &[AttemptsAddUp],
        ),
        (
            "a checkpoint of an ended run",
            succeeded(),
            |h| h.checkpoints.push("n0".to_owned()),
            &[NothingOrphaned],
        ),
        (
            "a row nobody can read",
            resumed(),
            |h| h.damage.push("state is odd".to_owned()),
            &[Readable],
        ),
        (
            "a node without a name",
            resumed(),
            |h| append(h, EventKind::NodeStarted, json!({})),
            &[Readable],
        ),
    ];
    let mut named = std::collections::BTreeSet::new();
    for (what, good, change, expected) in table {
        assert_eq!(broken(&good), [], "{what}: before the change");
        let mut bad = good;
        change(&mut bad);
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(broken(&bad), expected, "{what}: {:#?}", check(&bad, NOW, SLACK));
        named.extend(expected);
    }
    assert_eq!(
        named.into_iter().collect::<Vec<_>>(),
        Invariant::ALL,
        "each has an example"
    );
}

#[test]
fn what_is_late_within_the_slack_is_not_stuck() {
    let mut history = resumed();
    history.lease_until = Some(NOW - SLACK);
    assert_eq!(broken(&history), []);
    assert_eq!(check(&history, NOW, SLACK - Duration::from_nanos(1)).len(), 1);
    // Without capacity a queued run waits, for years if need be.
    let queued = walk(false, &[]);
    assert_eq!(
        check(&queued, later(NOW, Duration::from_secs(1 << 30)), SLACK),
        []
    );
}

#[test]
fn too_many_interruptions_are_a_history_too() {
    let ops: Vec<Op> = (0..=MAX_INTERRUPTIONS)
        .flat_map(|_| [Op::Claim, Op::Lose])
        .collect();
    let history = walk(false, &ops);
    assert_eq!(history.state, RunState::Failed);
    assert_eq!(broken(&history), []);
}

#[test]
fn violations_say_which_run_and_what() {
    let mut history = resumed();
    node(&mut history, EventKind::NodeStarted, "n0");
    let violation = check(&history, NOW, SLACK).remove(0);
    assert_eq!(violation.run, Some(history.run));
    assert_eq!(
        violation.detail,
        "node \"n0\" finished under epoch 1 and was started again under epoch 2"
    );
    let stray = Stray {
        table: "run_events".to_owned(),
        run: RunId::generate(),
    };
    assert_eq!(stray.violation().invariant, Invariant::NothingOrphaned);
    for invariant in Invariant::ALL {
        assert_eq!(serde_json::to_value(invariant).unwrap(), invariant.as_str());
        assert!(!invariant.advice().is_empty() && !invariant.rule().is_empty());
    }
}

/// One thing that is changed in a history that holds.
#[derive(Debug, Clone, Copy)]
enum Mutation {
    Drop(usize),
    Swap(usize, usize),
    EndAgain,
    RunAgain(usize),
    LetLapse,
    Claim,
    ForgetAttempt(usize),
    ForgetCheckpoint(usize),
    Unfinish,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0usize..200;
    prop_oneof![
        at.clone().prop_map(Mutation::Drop),
        (at.clone(), at.clone()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        Just(Mutation::EndAgain),
        at.clone().prop_map(Mutation::RunAgain),
        Just(Mutation::LetLapse),
        Just(Mutation::Claim),
        at.clone().prop_map(Mutation::ForgetAttempt),
        at.prop_map(Mutation::ForgetCheckpoint),
        Just(Mutation::Unfinish),
    ]
}

/// Changes the history and says which invariant that must break; `None` where there is nothing to change.
fn mutate(history: &mut RunHistory, mutation: Mutation) -> Option<Invariant> {
    let within = |n: usize, len: usize| (len > 0).then(|| n % len);
    match mutation {
        Mutation::Drop(n) => {
            history.events.remove(within(n, history.events.len())?);
            Some(Invariant::SequenceWhole)
        }
        Mutation::Swap(a, b) => {
            let len = history.events.len();
            let (a, b) = (within(a, len)?, within(b, len)?);
            history.events.swap(a, b);
            (a != b).then_some(Invariant::SequenceWhole)
        }
        Mutation::EndAgain => {
            let kind = history.events.last().map(|e| e.kind).filter(|k| k.is_final())?;
            append(history, kind, json!({}));
            Some(Invariant::EndedOnce)
        }
        Mutation::RunAgain(n) => {
            let names: Vec<_> = history
                .events
                .iter()
                .filter(|e| e.kind == EventKind::NodeFinished)
                .collect();
            let name = names[within(n, names.len())?].data.value()["node"]
                .as_str()?
                .to_owned();
            node(history, EventKind::NodeStarted, &name);
            node(history, EventKind::NodeFinished, &name);
            Some(Invariant::NodeNotRerun)
        }
        Mutation::LetLapse => {
            history
                .lease_until
                .as_mut()?
                .clone_from(&(NOW - SLACK - Duration::from_nanos(1)));
            Some(Invariant::NotStuck)
        }
        Mutation::Claim => {
            history.epoch += 1;
            Some(Invariant::AttemptsAddUp)
        }
        Mutation::ForgetAttempt(n) => {
            history.attempts.remove(within(n, history.attempts.len())?);
            Some(Invariant::AttemptsAddUp)
        }
        Mutation::ForgetCheckpoint(n) => {
            history.checkpoints.remove(within(n, history.checkpoints.len())?);
            Some(Invariant::NodeNotRerun)
        }
        Mutation::Unfinish => {
            history.finished_at.take()?;
            history.state = RunState::Queued;
            (history.queued_at, history.published_at) = (Some(NOW), Some(NOW));
            Some(Invariant::EndedOnce)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_the_rules_write_violates_nothing(scheduled in any::<bool>(), ops in ops()) {
        let history = walk(scheduled, &ops);
        prop_assert_eq!(check(&history, NOW, Duration::ZERO), []);
    }

    #[test]
    fn a_single_change_is_caught(scheduled in any::<bool>(), ops in ops(), mutation in mutation()) {
        let mut history = walk(scheduled, &ops);
        if let Some(expected) = mutate(&mut history, mutation) {
            let found = broken(&history);
            prop_assert!(found.contains(&expected), "{mutation:?}: {found:?} in {history:#?}");
        }
    }
}
