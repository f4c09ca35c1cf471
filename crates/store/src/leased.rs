//! Answers to batches under leases, in the order of the questions.

use std::collections::HashMap;

use flowfleet_core::port::{Claim, Fenced, Renewal};
use flowfleet_core::{Lease, RunId};

use crate::batch::long;
use crate::change::Locked;
use crate::error::Error;
use crate::row::ClaimRow;
use crate::value::Id;

/// What became of each message: a run named twice is claimed once.
pub(crate) fn claims(asked: &[RunId], rows: Vec<ClaimRow>) -> Result<Vec<Claim>, Error> {
    let mut rows: HashMap<Id, ClaimRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    asked
        .iter()
        .map(|&run| match rows.remove(&Id::from(run)) {
            Some(row) => Ok(Claim::Claimed(Box::new(row.claimed()?))),
            None => Ok(Claim::NotClaimable),
        })
        .collect()
}

/// What became of each lease, from the rows `(run, epoch, cancel)` that were prolonged.
pub(crate) fn renewals(asked: &[Lease], rows: Vec<(Id, i64, bool)>) -> Vec<Renewal> {
    let held: HashMap<(Id, i64), bool> = rows
        .into_iter()
        .map(|(run, epoch, cancel)| ((run, epoch), cancel))
        .collect();
    asked
        .iter()
        .map(
            |lease| match held.get(&(Id::from(lease.run), long(lease.epoch))) {
                Some(&cancel) => Renewal::Held { cancel },
                None => Renewal::Lost,
            },
        )
        .collect()
}

/// Decides each write in turn; one whose run is not held by anybody is stale.
pub(crate) fn fence<T>(
    held: &mut HashMap<RunId, Locked>,
    writes: &[T],
    lease: impl Fn(&T) -> Lease,
    mut decide: impl FnMut(&mut Locked, &T) -> Result<Fenced, Error>,
) -> Result<Vec<Fenced>, Error> {
    writes
        .iter()
        .map(|write| match held.get_mut(&lease(write).run) {
            Some(run) => decide(run, write),
            None => Ok(Fenced::Stale),
        })
        .collect()
}
