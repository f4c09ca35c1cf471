//! Histories from rows. What contradicts the code is damage to be told, not an error: a checker that stops at the
//! first broken row would not see the others.

use flowfleet_core::history::{EndedAttempt, RunHistory, Stray};
use flowfleet_core::port::Histories;
use flowfleet_core::run::{EndedBecause, RunSettings};
use flowfleet_core::{RunEvent, RunId};

use crate::columns::columns;
use crate::error::Error;
use crate::events;
use crate::row::{parse, unsigned};
use crate::value::{Id, Time};

/// Before every id, and after every id.
pub(crate) const FIRST: Id = Id(uuid::Uuid::nil());
pub(crate) const LAST: Id = Id(uuid::Uuid::max());

columns! {
    /// One run with all that happened to it.
    pub(crate) struct HistoryRow {
        id: Id,
        state: String,
        attempt: i32,
        failures: i32,
        interruptions: i32,
        epoch: i64,
        last_seq: i64,
        queued_at: Option<Time>,
        published_at: Option<Time>,
        started_at: Option<Time>,
        attempt_started_at: Option<Time>,
        lease_until: Option<Time>,
        run_at: Option<Time>,
        expires_at: Option<Time>,
        finished_at: Option<Time>,
        settings: Option<String>,
        /// A JSON array of `[first_seq, count, events]`, in order.
        events: Option<String>,
        /// A JSON array of `[epoch, attempt, ended_because]`, in order.
        attempts: Option<String>,
        /// A JSON array of names.
        checkpoints: Option<String>,
        now: Time,
    }
}

columns! {
    /// Rows of a run that is not there.
    pub(crate) struct StrayRow {
        place: String,
        run: Id,
    }
}

impl From<StrayRow> for Stray {
    fn from(row: StrayRow) -> Self {
        Self {
            table: row.place,
            run: RunId(row.run.0),
        }
    }
}

impl HistoryRow {
    fn history(self) -> RunHistory {
        let run = RunId(self.id.0);
        self.read(run)
            .unwrap_or_else(|error| RunHistory::unreadable(run, error.to_string()))
    }

    fn read(self, run: RunId) -> Result<RunHistory, Error> {
        let settings = self
            .settings
            .ok_or_else(|| Error::Data("the run has no row in run_data".to_owned()))?;
        let settings: RunSettings = serde_json::from_str(&settings)?;
        let mut history = RunHistory {
            attempt: unsigned("attempt", self.attempt.into())?,
            failures: unsigned("failures", self.failures.into())?,
            interruptions: unsigned("interruptions", self.interruptions.into())?,
            epoch: unsigned("epoch", self.epoch)?,
            last_seq: unsigned("last_seq", self.last_seq)?,
            queued_at: self.queued_at.map(Time::stamp),
            published_at: self.published_at.map(Time::stamp),
            started_at: self.started_at.map(Time::stamp),
            attempt_started_at: self.attempt_started_at.map(Time::stamp),
            lease_until: self.lease_until.map(Time::stamp),
            run_at: self.run_at.map(Time::stamp),
            expires_at: self.expires_at.map(Time::stamp),
            finished_at: self.finished_at.map(Time::stamp),
            timeout_s: settings.timeout_s,
            events: events_of(run, self.events.as_deref())?,
            ..RunHistory::empty(run, parse("state", &self.state)?)
        };
        if let Some(text) = &self.attempts {
            let rows: Vec<(i64, i64, EndedBecause)> = serde_json::from_str(text)?;
            for (epoch, attempt, because) in rows {
                history.attempts.push(EndedAttempt {
                    epoch: unsigned("epoch", epoch)?,
                    attempt: unsigned("attempt", attempt)?,
                    because,
                });
            }
        }
        if let Some(text) = &self.checkpoints {
            history.checkpoints = serde_json::from_str(text)?;
        }
        Ok(history)
    }
}

fn events_of(run: RunId, text: Option<&str>) -> Result<Vec<RunEvent>, Error> {
    let mut all = Vec::new();
    let rows: Vec<(i64, i64, String)> = text.map(serde_json::from_str).transpose()?.unwrap_or_default();
    for (first_seq, count, text) in rows {
        let events = events::from_row(run, first_seq, &text)?;
        if usize::try_from(count) != Ok(events.len()) {
            let found = events.len();
            return Err(Error::Data(format!(
                "the row of event {first_seq} counts {count} events and has {found}"
            )));
        }
        all.extend(events);
    }
    Ok(all)
}

/// What one statement read.
pub(crate) fn histories(rows: Vec<HistoryRow>) -> Histories {
    Histories {
        now: rows.first().map_or_else(Time::now, |row| row.now).stamp(),
        runs: rows.into_iter().map(HistoryRow::history).collect(),
    }
}
