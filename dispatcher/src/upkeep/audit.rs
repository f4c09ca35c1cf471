//! Checks what the store says happened (`flowfleet_core::history`): a gauge for alerts, a line for each finding.
//!
//! A pass looks at what changed since the one before and at no more than it was allowed to: at new runs, in the order of
//! their ids, and again at those that were live, until they have ended. So each run is read about twice however long the
//! history is. Rows that belong to no run, and runs from before this process led, are left to `flowfleet doctor --deep`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use flowfleet_core::error::PortError;
use flowfleet_core::history::{Invariant, SLACK, Violation, check};
use flowfleet_core::port::{Histories, HistoryStore};
use flowfleet_core::{Clock, RunId, SystemClock};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Upkeep, pause, seconds};
use crate::metrics::{INVARIANT_VIOLATIONS, RUNS_AUDITED};

/// Runs read at once.
const PAGE: u32 = 250;

/// How far back a new leader looks, and how far behind it may fall before it skips.
const WINDOW: Duration = Duration::from_secs(3600);

/// An id is made before its run is stored, by another machine's clock: until it is this old, a smaller one may follow.
const SETTLED: Duration = Duration::from_secs(15);

/// Live runs that are remembered.
const WATCHED: usize = 100_000;

/// Runs with violations that are remembered, and for how long: an alert that has rung for a day has been heard.
const STANDING: usize = 10_000;
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn run(upkeep: &Upkeep, stop: &CancellationToken) {
    if upkeep.intervals.audit_s <= 0.0 {
        return;
    }
    let mut audit = Audit::new(upkeep.intervals.audit_runs, SystemClock.now());
    loop {
        let pass = audit.pass(&*upkeep.store, SystemClock.now());
        match stop.run_until_cancelled(pass).await {
            None => break,
            Some(Ok(())) => audit.show(),
            Some(Err(error)) => tracing::warn!(%error, "histories cannot be checked"),
        }
        if !pause(seconds(upkeep.intervals.audit_s), stop).await {
            break;
        }
    }
    // The next leader finds what still stands.
    audit.standing.clear();
    audit.show();
}

/// What is known from earlier passes.
#[derive(Debug)]
struct Audit {
    /// Runs read in one pass at most, about.
    budget: u32,
    /// The newest run that was looked at.
    cursor: RunId,
    /// Live when they were looked at last, in turn.
    watched: VecDeque<RunId>,
    known: HashSet<RunId>,
    /// What is wrong with which run, and since when that is known.
    standing: HashMap<RunId, (Vec<Violation>, Instant)>,
}

impl Audit {
    fn new(budget: u32, now: Timestamp) -> Self {
        Self {
            budget,
            cursor: ago(now, WINDOW),
            watched: VecDeque::new(),
            known: HashSet::new(),
            standing: HashMap::new(),
        }
    }

    async fn pass(&mut self, store: &dyn HistoryStore, now: Timestamp) -> Result<(), PortError> {
        self.standing.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        for run in store.unfinished(SLACK, self.budget).await? {
            self.watch(run);
        }
        let read = self.walk(store, now).await?;
        self.revisit(store, self.budget.saturating_sub(read).max(1)).await
    }

    /// Looks at new runs, with half of the budget at most.
    async fn walk(&mut self, store: &dyn HistoryStore, now: Timestamp) -> Result<u32, PortError> {
        let (oldest, settled) = (ago(now, 2 * WINDOW), ago(now, SETTLED));
        if self.cursor < oldest {
            tracing::warn!("more runs come than may be checked: some are skipped (see upkeep.audit_runs)");
            self.cursor = ago(now, WINDOW);
        }
        let mut read = 0;
        while read < self.budget.div_ceil(2) {
            let mut page = store.histories(Some(self.cursor), PAGE).await?;
            let full = page.runs.len() == PAGE as usize;
            page.runs.retain(|history| history.run < settled);
            let Some(last) = page.runs.last() else { break };
            self.cursor = last.run;
            read += u32::try_from(page.runs.len()).unwrap_or(PAGE);
            self.judge(&page);
            if !full {
                break;
            }
        }
        Ok(read)
    }

    /// Looks again at live runs, those first that were not looked at for longest.
    async fn revisit(&mut self, store: &dyn HistoryStore, budget: u32) -> Result<(), PortError> {
        let mut left = self.watched.len().min(budget as usize);
        while left > 0 {
            let some: Vec<RunId> = self
                .watched
                .iter()
                .take(left.min(PAGE as usize))
                .copied()
                .collect();
            let read = store.histories_of(&some).await?;
            // Only now: a store that is away loses none of them.
            for run in self.watched.drain(..some.len()) {
                self.known.remove(&run);
            }
            left -= some.len();
            self.judge(&read);
        }
        Ok(())
    }

    fn watch(&mut self, run: RunId) {
        if self.watched.len() < WATCHED && self.known.insert(run) {
            self.watched.push_back(run);
        }
    }

    fn judge(&mut self, read: &Histories) {
        metrics::counter!(RUNS_AUDITED).increment(read.runs.len() as u64);
        for history in &read.runs {
            if !history.state.is_final() {
                self.watch(history.run);
            }
            let found = check(history, read.now, SLACK);
            let before = self.standing.remove(&history.run);
            if found.is_empty() {
                continue;
            }
            let (before, since) = before.unwrap_or_else(|| (Vec::new(), Instant::now()));
            for violation in news(&before, &found) {
                let invariant = violation.invariant.as_str();
                tracing::error!(run = %history.run, invariant, "invariant violated: {}", violation.detail);
            }
            if self.standing.len() < STANDING {
                self.standing.insert(history.run, (found, since));
            }
        }
    }

    fn count(&self, invariant: Invariant) -> usize {
        let broken = |(found, _): &&(Vec<Violation>, Instant)| found.iter().any(|v| v.invariant == invariant);
        self.standing.values().filter(broken).count()
    }

    fn show(&self) {
        for invariant in Invariant::ALL {
            metrics::gauge!(INVARIANT_VIOLATIONS, "invariant" => invariant.as_str())
                .set(self.count(invariant) as f64);
        }
    }
}

/// What was not known: each invariant is told once a run.
fn news<'f>(before: &[Violation], found: &'f [Violation]) -> Vec<&'f Violation> {
    let known = |violation: &&Violation| before.iter().any(|b| b.invariant == violation.invariant);
    found.iter().filter(|violation| !known(violation)).collect()
}

/// Before every run that was made later than that.
fn ago(now: Timestamp, age: Duration) -> RunId {
    RunId::before(now.checked_sub(age).unwrap_or(Timestamp::MIN))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use flowfleet_core::history::{RunHistory, Stray};
    use flowfleet_core::{EventData, EventKind, RunEvent, RunState};

    use super::*;

    /// Runs in memory, and which were read.
    #[derive(Debug, Default)]
    struct Fake {
        runs: Mutex<BTreeMap<RunId, RunHistory>>,
        read: Mutex<Vec<RunId>>,
        away: Mutex<bool>,
    }

    impl Fake {
        fn answer(&self, wanted: impl Fn(&RunId) -> bool, limit: usize) -> Result<Histories, PortError> {
            if *self.away.lock().unwrap() {
                return Err(PortError::new(
                    flowfleet_core::Kind::Retryable,
                    "histories",
                    "away",
                ));
            }
            let runs = self.runs.lock().unwrap();
            let runs: Vec<_> = runs
                .values()
                .filter(|h| wanted(&h.run))
                .take(limit)
                .cloned()
                .collect();
            self.read.lock().unwrap().extend(runs.iter().map(|h| h.run));
            Ok(Histories {
                now: Timestamp::now(),
                runs,
            })
        }

        fn add(&self, history: RunHistory) -> RunId {
            let run = history.run;
            self.runs.lock().unwrap().insert(run, history);
            run
        }

        fn change(&self, run: RunId, change: impl FnOnce(&mut RunHistory)) {
            change(self.runs.lock().unwrap().get_mut(&run).unwrap());
        }

        fn reads(&self) -> usize {
            std::mem::take(&mut *self.read.lock().unwrap()).len()
        }
    }

    #[async_trait]
    impl HistoryStore for Fake {
        async fn histories(&self, after: Option<RunId>, limit: u32) -> Result<Histories, PortError> {
            self.answer(|run| Some(*run) > after, limit as usize)
        }

        async fn histories_of(&self, runs: &[RunId]) -> Result<Histories, PortError> {
            self.answer(|run| runs.contains(run), usize::MAX)
        }

        async fn unfinished(&self, _: Duration, limit: u32) -> Result<Vec<RunId>, PortError> {
            let runs = self.runs.lock().unwrap();
            let running = runs.values().filter(|h| h.state == RunState::Running);
            Ok(running.map(|h| h.run).take(limit as usize).collect())
        }

        async fn strays(&self, _: Option<RunId>, _: Option<RunId>, _: u32) -> Result<Vec<Stray>, PortError> {
            Ok(Vec::new())
        }

        async fn runs_after(&self, _: Option<RunId>) -> Result<u64, PortError> {
            Ok(0)
        }
    }

    fn event(history: &mut RunHistory, kind: EventKind) {
        history.last_seq += 1;
        history.events.push(RunEvent {
            run: history.run,
            seq: history.last_seq,
            kind,
            at: Timestamp::now(),
            data: EventData::default(),
        });
    }

    fn queued(run: RunId) -> RunHistory {
        let mut history = RunHistory::empty(run, RunState::Queued);
        (history.queued_at, history.published_at) = (Some(Timestamp::now()), Some(Timestamp::now()));
        event(&mut history, EventKind::RunQueued);
        history
    }

    fn cancel(history: &mut RunHistory) {
        (history.state, history.finished_at) = (RunState::Cancelled, Some(Timestamp::now()));
        event(history, EventKind::RunCancelled);
    }

    /// A moment at which every run made so far is settled.
    fn soon() -> Timestamp {
        Timestamp::now() + SETTLED + Duration::from_secs(1)
    }

    #[tokio::test]
    async fn each_run_is_read_when_it_is_new_and_until_it_has_ended() {
        let (store, mut audit) = (Fake::default(), Audit::new(1_000, Timestamp::now()));
        let live = store.add(queued(RunId::generate()));
        let ended = store.add(queued(RunId::generate()));
        store.change(ended, cancel);
        audit.pass(&store, Timestamp::now()).await.unwrap();
        assert_eq!(audit.watched.len(), 0, "neither is settled");
        audit.pass(&store, soon()).await.unwrap();
        assert_eq!(audit.watched, [live]);
        store.reads();
        audit.pass(&store, soon()).await.unwrap();
        assert_eq!(store.reads(), 1, "only the live one again");
        store.change(live, cancel);
        audit.pass(&store, soon()).await.unwrap();
        audit.pass(&store, soon()).await.unwrap();
        assert_eq!((store.reads(), audit.watched.len(), audit.known.len()), (1, 0, 0));
    }

    #[tokio::test]
    async fn a_violation_stands_until_it_is_mended() {
        let (store, mut audit) = (Fake::default(), Audit::new(1_000, Timestamp::now()));
        let run = store.add(queued(RunId::generate()));
        store.change(run, |history| history.published_at = None);
        for _ in 0..3 {
            audit.pass(&store, soon()).await.unwrap();
            assert_eq!(audit.count(Invariant::NotStuck), 1);
        }
        store.change(run, |history| history.published_at = Some(Timestamp::now()));
        audit.pass(&store, soon()).await.unwrap();
        assert_eq!(audit.count(Invariant::NotStuck), 0);
        // What an ended run did stays on record although it is not read again.
        store.change(run, |history| {
            cancel(history);
            event(history, EventKind::RunFailed);
        });
        for _ in 0..2 {
            audit.pass(&store, soon()).await.unwrap();
            assert_eq!(audit.count(Invariant::EndedOnce), 1);
        }
    }

    #[test]
    fn what_is_known_is_not_told_again() {
        let violation = |invariant, detail: &str| Violation {
            invariant,
            run: None,
            detail: detail.to_owned(),
        };
        let before = [violation(Invariant::NotStuck, "for a minute")];
        let found = [
            violation(Invariant::NotStuck, "for an hour"),
            violation(Invariant::EndedOnce, "twice"),
        ];
        assert_eq!(news(&before, &found), [&found[1]]);
        assert_eq!(news(&[], &found).len(), 2);
    }

    #[tokio::test]
    async fn old_runs_are_found_while_they_run_and_passes_are_bounded() {
        let (store, mut audit) = (Fake::default(), Audit::new(600, Timestamp::now()));
        let old = RunId::before(Timestamp::now() - 48 * WINDOW);
        store.add(RunHistory::empty(old, RunState::Running));
        for _ in 0..2_000 {
            store.add(queued(RunId::generate()));
        }
        let mut passes = 0;
        while audit.watched.len() < 2_001 {
            audit.pass(&store, soon()).await.unwrap();
            passes += 1;
            assert!(store.reads() <= 600 + PAGE as usize, "one pass reads too much");
            assert!(passes <= 10, "new runs are not reached");
        }
        assert_eq!(
            audit.count(Invariant::LegalSteps),
            1,
            "a running run without events"
        );
    }

    #[tokio::test]
    async fn a_store_that_is_away_loses_no_run() {
        let (store, mut audit) = (Fake::default(), Audit::new(1_000, Timestamp::now()));
        store.add(queued(RunId::generate()));
        audit.pass(&store, soon()).await.unwrap();
        *store.away.lock().unwrap() = true;
        audit.pass(&store, soon()).await.unwrap_err();
        *store.away.lock().unwrap() = false;
        assert_eq!((audit.watched.len(), audit.known.len()), (1, 1));
    }
}
