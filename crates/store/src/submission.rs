//! The parts of `submit` that are the same for both databases: what to insert in which order, and what the
//! answer is once it is known which rows were new.

use std::collections::{HashMap, HashSet};

use flowfleet_core::port::{Envelope, SubmitOutcome};
use flowfleet_core::run::NewRun;
use flowfleet_core::{RunId, RunState};

use crate::change::envelope;
use crate::error::Error;
use crate::row::ExistingRow;
use crate::value::Id;

/// The runs to insert: each id once, and in an order all writers share, so that two submissions with the same
/// keys never wait for each other in a circle. Among equal keys the first of the call stays first.
pub(crate) fn insertable(runs: &[NewRun]) -> Vec<&NewRun> {
    let mut seen = HashSet::new();
    let mut unique: Vec<_> = runs.iter().filter(|run| seen.insert(run.id)).collect();
    unique.sort_by_key(|run| (&run.tenant, run.idempotency.as_ref().map(|i| &i.key)));
    unique
}

fn message(run: &NewRun) -> Envelope {
    envelope(&run.pool(), run.priority, run.id, run.trace.as_ref())
}

/// The messages of the runs that were new and wait for a worker.
pub(crate) fn envelopes(runs: &[NewRun], created: &HashMap<RunId, RunState>) -> Vec<Envelope> {
    let mut seen = HashSet::new();
    runs.iter()
        .filter(|run| created.get(&run.id) == Some(&RunState::Queued) && seen.insert(run.id))
        .map(message)
        .collect()
}

/// The runs of which no row was new, whose predecessors have to be looked up.
pub(crate) fn missing<'a>(runs: &'a [NewRun], created: &HashMap<RunId, RunState>) -> Vec<&'a NewRun> {
    let mut seen = HashSet::new();
    runs.iter()
        .filter(|run| !created.contains_key(&run.id) || !seen.insert(run.id))
        .collect()
}

/// One outcome a run, in order. `existing` holds the rows that have the id or the key of a missing run.
pub(crate) fn outcomes(
    runs: &[NewRun],
    created: &HashMap<RunId, RunState>,
    existing: &[ExistingRow],
) -> Result<Vec<SubmitOutcome>, Error> {
    let by_id: HashMap<Id, &ExistingRow> = existing.iter().map(|row| (row.id, row)).collect();
    let by_key: HashMap<(&str, &str), &ExistingRow> = existing
        .iter()
        .filter_map(|row| Some(((row.tenant.as_str(), row.idempotency_key.as_deref()?), row)))
        .collect();
    let mut answered = HashSet::new();
    runs.iter()
        .map(|run| {
            if let Some(&state) = created.get(&run.id)
                && answered.insert(run.id)
            {
                return Ok(SubmitOutcome::Created { id: run.id, state });
            }
            let digest = run.idempotency.as_ref().map(|i| i.digest.as_str());
            let found = match &run.idempotency {
                Some(key) => by_key.get(&(run.tenant.as_str(), key.key.as_str())),
                None => None,
            };
            // A submission that is repeated after its answer was lost carries the same ids.
            let row = match found.or_else(|| by_id.get(&Id::from(run.id))) {
                Some(row) if row.tenant == run.tenant.as_str() => row,
                _ => {
                    return Err(Error::Refused(format!(
                        "the id {} belongs to another run",
                        run.id
                    )));
                }
            };
            let id = RunId(row.id.0);
            if row.idempotency_digest.as_deref() != digest {
                return Ok(SubmitOutcome::Conflict { id });
            }
            let state = row
                .state
                .parse()
                .map_err(|_| Error::Data(format!("state is {:?}", row.state)))?;
            Ok(SubmitOutcome::Existing { id, state })
        })
        .collect()
}
