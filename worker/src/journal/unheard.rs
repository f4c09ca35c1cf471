//! Ends that the store calls stale although they are written: by an earlier try, whose answer nobody heard.
//!
//! Nobody but the holder of a lease ends an attempt for another reason than its loss, so the reason in the history of
//! the run tells whose write it was.

use std::collections::HashMap;

use flowfleet_core::event::{EventKind, RunEvent};
use flowfleet_core::history::RunHistory;
use flowfleet_core::lease::Lease;
use flowfleet_core::port::Store;
use flowfleet_core::run::EndedBecause;

use super::write::PATIENCE;

/// Those of `stale`, leases with the last event that was known under them, that were ended by their holder, each with
/// the events that the end wrote. Asks once: what cannot be read stays stale, and listeners learn it from the store.
pub(super) async fn written(store: &dyn Store, stale: &[(Lease, u64)]) -> HashMap<Lease, Vec<RunEvent>> {
    if stale.is_empty() {
        return HashMap::new();
    }
    let runs: Vec<_> = stale.iter().map(|(lease, _)| lease.run).collect();
    let read = match tokio::time::timeout(PATIENCE, store.histories_of(&runs)).await {
        Ok(Ok(read)) => read.runs,
        Ok(Err(error)) => {
            tracing::warn!(%error, "ends are stale, and why cannot be read");
            return HashMap::new();
        }
        Err(_) => return HashMap::new(),
    };
    stale
        .iter()
        .filter_map(|&(lease, after)| {
            let history = read.iter().find(|history| history.run == lease.run)?;
            Some((lease, end_of(history, lease, after)?))
        })
        .collect()
}

fn end_of(history: &RunHistory, lease: Lease, after: u64) -> Option<Vec<RunEvent>> {
    let mut attempts = history.attempts.iter();
    attempts.find(|attempt| attempt.epoch == lease.epoch && attempt.because != EndedBecause::WorkerLost)?;
    let events = history.events.iter().filter(|event| event.seq > after);
    let own = events.take_while(|event| event.kind != EventKind::RunStarted);
    Some(own.cloned().collect())
}
