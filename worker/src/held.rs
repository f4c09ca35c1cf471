//! Which leases this worker holds, and whether their executions shall stop.

use std::collections::{HashMap, HashSet, hash_map};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use flowfleet_core::{Lease, RunId};
use tokio_util::sync::CancellationToken;

/// Why an execution ends before its flow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The lease is somebody else's, or may be: nothing may be written any more.
    Lost,
    /// Somebody asked for it.
    Cancelled,
    /// This worker ends.
    Interrupted,
    /// This worker's machine was said to go.
    Noticed,
    /// This worker was told to drain, and others can go on.
    HandedOff,
}

/// The newest lease held of each run.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<RunId, Entry>>);

#[derive(Debug)]
struct Entry {
    lease: Lease,
    /// A moment at which the store is known to have granted a whole term: taken before the call was sent.
    confirmed: Instant,
    /// Its end is on its way to the store, which decides whether the lease still counted.
    ending: bool,
    stop: Arc<StopCell>,
}

#[derive(Debug, Default)]
struct StopCell {
    token: CancellationToken,
    /// The first reason counts.
    why: OnceLock<Stop>,
}

/// One lease, held until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldRun {
    held: Arc<Held>,
    pub(crate) lease: Lease,
    stop: Arc<StopCell>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a lease that was granted by a call sent at `confirmed`. An older lease of the same run is lost, and
    /// held no more.
    pub(crate) fn hold(self: &Arc<Self>, lease: Lease, confirmed: Instant) -> HeldRun {
        let stop = Arc::new(StopCell::default());
        let entry = Entry {
            lease,
            confirmed,
            ending: false,
            stop: Arc::clone(&stop),
        };
        if let Some(older) = self.lock().insert(lease.run, entry) {
            older.stop.set(Stop::Lost);
        }
        HeldRun {
            held: Arc::clone(self),
            lease,
            stop,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.lock().values().map(|entry| entry.lease).collect()
    }

    /// Leases of these runs, if they are held.
    pub(crate) fn leases_of(&self, runs: &[RunId]) -> Vec<Lease> {
        let entries = self.lock();
        let runs: HashSet<&RunId> = runs.iter().collect();
        let held = runs.into_iter().filter_map(|run| entries.get(run));
        held.map(|entry| entry.lease).collect()
    }

    /// The store prolonged a lease in answer to a call sent at `at`.
    pub(crate) fn confirm(&self, lease: &Lease, at: Instant) {
        if let Some(entry) = of(&mut self.lock(), lease) {
            entry.confirmed = entry.confirmed.max(at);
        }
    }

    /// Stops an execution. False when it is not held, is stopping already, or is ending: then the write of its end
    /// decides.
    pub(crate) fn stop(&self, lease: &Lease, why: Stop) -> bool {
        of(&mut self.lock(), lease).is_some_and(|entry| !entry.ending && entry.stop.set(why))
    }

    pub(crate) fn stop_all(&self, why: Stop) {
        for entry in self.lock().values().filter(|entry| !entry.ending) {
            entry.stop.set(why);
        }
    }

    /// Stops executions whose lease nobody has confirmed for a whole term: by now it may be somebody else's.
    pub(crate) fn lapse(&self, ttl: Duration, now: Instant) -> Vec<Lease> {
        let lapsed = |entry: &Entry| !entry.ending && now.saturating_duration_since(entry.confirmed) >= ttl;
        let entries = self.lock();
        let lapsed = entries
            .values()
            .filter(|entry| lapsed(entry) && entry.stop.set(Stop::Lost));
        lapsed.map(|entry| entry.lease).collect()
    }
}

/// The entry of a lease; none when a newer one of its run took its place.
fn of<'a>(entries: &'a mut HashMap<RunId, Entry>, lease: &Lease) -> Option<&'a mut Entry> {
    entries.get_mut(&lease.run).filter(|entry| entry.lease == *lease)
}

impl StopCell {
    /// Whether this call was the first.
    fn set(&self, why: Stop) -> bool {
        let first = self.why.set(why).is_ok();
        self.token.cancel();
        first
    }
}

impl HeldRun {
    /// Waits until the execution shall stop.
    pub(crate) async fn stopped(&self) -> Stop {
        self.stop.token.cancelled().await;
        // The reason is set before the token.
        self.stop.why.get().copied().unwrap_or(Stop::Lost)
    }

    /// The end of this run goes to the store now.
    pub(crate) fn ending(&self) {
        if let Some(entry) = of(&mut self.held.lock(), &self.lease) {
            entry.ending = true;
        }
    }
}

impl Drop for HeldRun {
    fn drop(&mut self) {
        if let hash_map::Entry::Occupied(entry) = self.held.lock().entry(self.lease.run)
            && entry.get().lease == self.lease
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const TTL: Duration = Duration::from_secs(30);

    fn lease(epoch: u64, run: RunId) -> Lease {
        Lease {
            run,
            attempt: 1,
            epoch,
        }
    }

    #[test]
    fn a_lease_lapses_a_term_after_it_was_last_confirmed() {
        let held = Arc::new(Held::default());
        let start = Instant::now();
        let run = held.hold(lease(1, RunId::generate()), start);
        held.confirm(&run.lease, start + TTL / 3);
        held.confirm(&run.lease, start);
        assert!(
            held.lapse(TTL, start + TTL).is_empty(),
            "an older confirmation takes nothing back"
        );
        assert_eq!(held.lapse(TTL, start + TTL / 3 + TTL), [run.lease]);
        assert!(held.lapse(TTL, start + TTL * 9).is_empty(), "said once");
        assert_eq!(run.stopped().now_or_never(), Some(Stop::Lost));
    }

    #[test]
    fn the_first_reason_counts_and_endings_are_left_alone() {
        let held = Arc::new(Held::default());
        let start = Instant::now();
        let (a, b) = (lease(1, RunId::generate()), lease(1, RunId::generate()));
        let (run, ending) = (held.hold(a, start), held.hold(b, start));
        ending.ending();
        assert!(held.stop(&a, Stop::Cancelled));
        assert!(!held.stop(&a, Stop::Lost));
        held.stop_all(Stop::Interrupted);
        assert_eq!(run.stopped().now_or_never(), Some(Stop::Cancelled));
        assert!(!held.stop(&b, Stop::Lost));
        assert!(held.lapse(TTL, start + TTL * 2).is_empty());
        assert_eq!(ending.stopped().now_or_never(), None);
        drop((run, ending));
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn a_newer_lease_of_a_run_ends_the_older_one() {
        let held = Arc::new(Held::default());
        let run = RunId::generate();
        let old = held.hold(lease(1, run), Instant::now());
        let new = held.hold(lease(2, run), Instant::now());
        assert_eq!(old.stopped().now_or_never(), Some(Stop::Lost));
        assert_eq!(new.stopped().now_or_never(), None);
        assert_eq!(held.leases(), [new.lease]);
        assert!(!held.stop(&old.lease, Stop::Cancelled), "it is not held any more");
        old.ending();
        drop(old);
        assert_eq!(held.leases_of(&[run, RunId::generate(), run]), [new.lease]);
        assert!(held.stop(&new.lease, Stop::Cancelled));
        drop(new);
        assert_eq!(held.len(), 0);
    }
}
