//! Many histories: seed after seed, on several threads, until one fails or enough was seen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::check::Violation;
use crate::coverage::Coverage;
use crate::distinct::Distinct;
use crate::model::Mutation;
use crate::tape::Tape;
use crate::world::play;

/// Histories between two looks at the clock.
const ROUND: u64 = 64;

/// What to play.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed of the first history; the others count up from it.
    pub first_seed: u64,
    /// Histories at most.
    pub histories: u64,
    /// Time at most.
    pub time: Duration,
    pub threads: usize,
    pub broken: Option<Mutation>,
}

/// A history that broke an invariant.
#[derive(Debug, Clone)]
pub struct Failure {
    pub seed: u64,
    pub tape: Tape,
    pub violation: Violation,
}

/// What was seen.
#[derive(Debug)]
pub struct Report {
    pub coverage: Coverage,
    /// Different states of the fleet, times aside.
    pub states: u64,
    /// Different histories.
    pub histories: u64,
    pub took: Duration,
    /// The first that failed.
    pub failure: Option<Failure>,
}

impl Report {
    /// Histories a minute.
    pub fn rate(&self) -> f64 {
        self.coverage.histories as f64 / self.took.as_secs_f64().max(1e-9) * 60.0
    }
}

/// A history played again.
#[derive(Debug, Clone)]
pub struct Replay {
    pub violation: Option<Violation>,
    /// What happened, a line a step.
    pub trace: Vec<String>,
}

/// Plays the history of a tape and writes down what happens.
pub fn replay(tape: Tape, broken: Option<Mutation>) -> Replay {
    let ended = play(tape, broken, true, Coverage::default(), |_| {});
    Replay {
        violation: ended.violation,
        trace: ended.trace,
    }
}

/// What the threads share.
struct Shared<'a> {
    plan: &'a Plan,
    began: Instant,
    next: AtomicU64,
    played: AtomicU64,
    over: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// Plays what is planned; `watch` is told now and then how many histories were played.
pub fn explore(plan: &Plan, mut watch: impl FnMut(u64)) -> Report {
    let shared = Shared {
        plan,
        began: Instant::now(),
        next: AtomicU64::new(0),
        played: AtomicU64::new(0),
        over: AtomicBool::new(false),
        failure: Mutex::default(),
    };
    let mut coverage = Coverage::default();
    let (mut states, mut histories) = (Distinct::default(), Distinct::default());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads.max(1))
            .map(|_| scope.spawn(|| shared.work()))
            .collect();
        while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::park_timeout(Duration::from_millis(100));
            watch(shared.played.load(Ordering::Relaxed));
        }
        for thread in threads {
            match thread.join() {
                Ok((cover, seen, tapes)) => {
                    coverage.merge(&cover);
                    states.merge(&seen);
                    histories.merge(&tapes);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    Report {
        coverage,
        states: states.estimate(),
        histories: histories.estimate(),
        took: shared.began.elapsed(),
        failure: shared
            .failure
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
    }
}

impl Shared<'_> {
    fn work(&self) -> (Coverage, Distinct, Distinct) {
        let mut cover = Coverage::default();
        let (mut states, mut tapes) = (Distinct::default(), Distinct::default());
        while !self.over.load(Ordering::Relaxed) && self.began.elapsed() < self.plan.time {
            let first = self.next.fetch_add(ROUND, Ordering::Relaxed);
            let last = self.plan.histories.min(first + ROUND);
            if first >= last {
                break;
            }
            for seed in (first..last).map(|n| self.plan.first_seed.wrapping_add(n)) {
                let mut whole = 0_u64;
                let seen = |shape: u64| {
                    states.add(shape);
                    whole = (whole.rotate_left(5) ^ shape).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                };
                let ended = play(
                    Tape::seeded(seed),
                    self.plan.broken,
                    false,
                    std::mem::take(&mut cover),
                    seen,
                );
                cover = ended.cover;
                tapes.add(whole);
                if let Some(violation) = ended.violation {
                    self.failed(Failure {
                        seed,
                        tape: ended.tape.rewound(),
                        violation,
                    });
                    break;
                }
            }
            self.played.fetch_add(last - first, Ordering::Relaxed);
        }
        (cover, states, tapes)
    }

    /// Keeps the failure with the smallest seed of those that raced.
    fn failed(&self, failure: Failure) {
        self.over.store(true, Ordering::Relaxed);
        let mut kept = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|other| failure.seed < other.seed) {
            *kept = Some(failure);
        }
    }
}
