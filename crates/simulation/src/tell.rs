//! How calls of the store and their answers read in a trace.

use std::fmt;

use flowfleet_core::Lease;
use flowfleet_core::port::{OutboxRow, Renewal, SubmitOutcome};

use crate::model::number;
use crate::wire::{NodeEvent, StoreOp, Stored};

/// Items with commas between them.
struct List<I>(I);

impl<I: Iterator<Item: fmt::Display> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.clone().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    }
}

fn under(lease: &Lease) -> String {
    format!("run {} epoch {}", number(lease.run), lease.epoch)
}

fn noted(nodes: u8, events: &[NodeEvent]) -> String {
    let events = events
        .iter()
        .map(|(kind, node)| format!("{} {node}", kind.as_str()));
    format!("nodes {nodes:04b}, events [{}]", List(events))
}

fn row(row: Option<&OutboxRow>) -> String {
    row.map_or_else(String::new, |row| {
        let runs = row.envelopes.iter().map(|e| number(e.message.run));
        format!("; outbox row {} for runs {}", row.id, List(runs))
    })
}

impl fmt::Display for StoreOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(runs) => {
                let runs = runs.iter().map(|new| match new.key {
                    Some(key) => format!("run {} with key {key}", number(new.id)),
                    None => format!("run {}", number(new.id)),
                });
                write!(f, "submit {}", List(runs))
            }
            Self::Cancel(run) => write!(f, "cancel run {}", number(*run)),
            Self::Claim { runs, .. } => {
                write!(f, "claim runs {}", List(runs.iter().map(|run| number(*run))))
            }
            Self::Renew { leases, .. } => write!(f, "renew {}", List(leases.iter().map(under))),
            Self::Checkpoint(items) => {
                let items = items.iter();
                let items = items.map(|i| {
                    let noted = noted(i.nodes, &i.events);
                    format!("{} after event {}: {noted}", under(&i.lease), i.after_seq)
                });
                write!(f, "checkpoint {}", List(items))
            }
            Self::Finish(items) => {
                let items = items.iter();
                let items =
                    items.map(|i| format!("{}: {:?}, {}", under(&i.lease), i.ending, noted(0, &i.events)));
                write!(f, "finish {}", List(items))
            }
            Self::Release(items) => {
                let items = items.iter().map(|i| {
                    let noted = noted(i.nodes, &i.events);
                    format!(
                        "{}: {:?}, retry in {:?} ms, {noted}",
                        under(&i.lease),
                        i.because,
                        i.retry_in
                    )
                });
                write!(f, "release {}", List(items))
            }
            Self::OutboxDone(ids) => write!(f, "delete outbox rows {}", List(ids.iter())),
            Self::Republish(limit) => write!(f, "republish up to {limit}"),
            Self::Lead(who) => write!(f, "lead {who}"),
            Self::Holds(who) => write!(f, "does {who} lead"),
            Self::Leftover => f.write_str("leftover outbox rows"),
            Self::Promote => f.write_str("promote due runs"),
            Self::Expire => f.write_str("expire late runs"),
            Self::Reap => f.write_str("reap leases"),
            Self::Backlog => f.write_str("backlog"),
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted(outcomes, outbox) => {
                let outcomes = outcomes.iter().map(|outcome| match outcome {
                    SubmitOutcome::Created { id, state } => format!("run {} {}", number(*id), state.as_str()),
                    SubmitOutcome::Existing { id, .. } => format!("exists as run {}", number(*id)),
                    SubmitOutcome::Conflict { id } => format!("conflict with run {}", number(*id)),
                });
                write!(f, "{}{}", List(outcomes), row(outbox.as_ref()))
            }
            Self::Cancelled(outcome) => write!(f, "{outcome:?}"),
            Self::Claims(claims) => {
                let claims = claims.iter().map(|claim| match claim {
                    Some(granted) => {
                        let lease = &granted.lease;
                        format!(
                            "{} attempt {}, from {:?}",
                            under(lease),
                            lease.attempt,
                            granted.outputs
                        )
                    }
                    None => "not claimable".to_owned(),
                });
                write!(f, "{}", List(claims))
            }
            Self::Renewals(renewals) => {
                let renewals = renewals.iter().map(|renewal| match renewal {
                    Renewal::Held { cancel: false } => "held",
                    Renewal::Held { cancel: true } => "held, to be cancelled",
                    Renewal::Lost => "lost",
                });
                write!(f, "{}", List(renewals))
            }
            Self::Written(applied, outbox) => {
                let applied = applied
                    .iter()
                    .map(|applied| if *applied { "applied" } else { "stale" });
                write!(f, "{}{}", List(applied), row(outbox.as_ref()))
            }
            Self::Done => f.write_str("done"),
            Self::Rows(rows) => write!(f, "rows {}", List(rows.iter().map(|row| row.id))),
            Self::Moved(moved, outbox) => write!(f, "{moved} runs{}", row(outbox.as_ref())),
            Self::Backlog(queued) => write!(f, "{queued} queued"),
            Self::Leads(leads) => f.write_str(if *leads { "yes" } else { "no" }),
        }
    }
}
