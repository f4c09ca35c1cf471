//! A rule is switched off, and the checker has to notice: this is how it is known that it can.

use std::time::Duration;

use flowfleet_simulation::{Failure, Invariant, Mutation, Plan, Tape, Violation, explore, replay, shrink};

/// Histories in which it has to be noticed.
const HISTORIES: u64 = 20_000;

/// Choices of a shrunk tape that are not zero.
const CHOICES: usize = 16;

/// Failures that are shrunk until one is that short.
const FAILURES: usize = 4;

/// The first failure from a seed on, with a short tape that shows it too.
fn shortest_from(mutation: Mutation, first_seed: u64) -> (Failure, Tape, Violation) {
    let plan = Plan {
        first_seed,
        histories: HISTORIES,
        time: Duration::from_secs(120),
        threads: 1,
        broken: Some(mutation),
    };
    let failure = explore(&plan, |_| {}).failure.expect("nobody noticed");
    let (tape, violation) = shrink(&failure.tape, failure.violation.clone(), Some(mutation));
    (failure, tape, violation)
}

fn choices(tape: &Tape) -> usize {
    tape.bytes().iter().filter(|byte| **byte != 0).count()
}

/// The rule is missed as one of these invariants, and the tape that shows it is short, readable and innocent while the
/// rule is in place.
fn is_caught(mutation: Mutation, as_one_of: &[Invariant]) {
    let (mut failure, mut tape, mut violation) = shortest_from(mutation, 0);
    for _ in 1..FAILURES {
        if choices(&tape) <= CHOICES {
            break;
        }
        (failure, tape, violation) = shortest_from(mutation, failure.seed + 1);
    }
    println!(
        "{mutation:?}: seed {} of {} bytes, now {} bytes with {} choices: {tape}\n{violation}",
        failure.seed,
        failure.tape.bytes().len(),
        tape.bytes().len(),
        choices(&tape),
    );
    assert!(as_one_of.contains(&failure.violation.invariant), "{failure:?}");
    assert_eq!(violation.invariant, failure.violation.invariant);
    assert!(choices(&tape) <= CHOICES, "{tape}");
    assert!(tape.bytes().len() <= failure.tape.bytes().len());

    let shown = Tape::parse(&tape.to_string()).expect("what is shown can be read");
    let broken = replay(shown.clone(), Some(mutation));
    assert_eq!(broken.violation, Some(violation));
    assert!(!broken.trace.is_empty());
    assert_eq!(replay(shown, None).violation, None, "the rule itself is innocent");
}

macro_rules! caught {
    ($($test:ident: $mutation:ident as $($invariant:ident)|+,)*) => {
        $(
            #[test]
            fn $test() {
                is_caught(Mutation::$mutation, &[$(Invariant::$invariant),+]);
            }
        )*

        #[test]
        fn every_mutation_has_a_test() {
            assert_eq!(Mutation::ALL, [$(Mutation::$mutation),*]);
        }
    };
}

caught! {
    store_ignores_epochs: StoreIgnoresEpochs as Fenced,
    claim_keeps_epoch: ClaimKeepsEpoch as EpochGrows,
    claim_takes_running: ClaimTakesRunning as Transition,
    claim_takes_expired: ClaimTakesExpired as NotAfterExpiry,
    claim_forgets_checkpoints: ClaimForgetsCheckpoints as NotAgain,
    progress_is_not_idempotent: ProgressIsNotIdempotent as ToldOnce,
    finish_is_not_idempotent: FinishIsNotIdempotent as EndsOnce,
    requeue_forgets_cancel: RequeueForgetsCancel as CancelHonoured,
    interruption_is_failure: InterruptionIsFailure as Counted,
    interruptions_have_no_limit: InterruptionsHaveNoLimit as Counted,
    sequence_stands_still: SequenceStandsStill as Sequence,
    keys_are_ignored: KeysAreIgnored as OneRunAKey,
    answer_before_commit: AnswerBeforeCommit as Kept,
    ack_before_claim: AckBeforeClaim as AfterClaim,
    delete_before_confirm: DeleteBeforeConfirm as Confirmed,
    no_sweep: NoSweep as OutboxEmpties,
    no_reconciler: NoReconciler as Ends,
    no_reaper: NoReaper as Ends,
    no_scheduler: NoScheduler as Ends,
    requeue_drops_checkpoints: RequeueDropsCheckpoints as KeepsCheckpoints | NotAgain,
    slots_are_ignored: SlotsAreIgnored as Slots,
}
