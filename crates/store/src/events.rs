//! Events as rows: one row an append, holding all its events as one JSON text.

use flowfleet_core::{EventData, EventKind, NewEvent, RunEvent, RunId};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::value::{Id, Time};

/// One event as it is stored. Statements write this shape too, for events that other rows tell.
#[derive(Serialize, Deserialize)]
struct Stored {
    k: EventKind,
    t: i64,
    #[serde(default, skip_serializing_if = "EventData::is_null")]
    d: EventData,
}

/// One row of `run_events`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EventRow {
    pub(crate) run: Id,
    pub(crate) first_seq: i64,
    pub(crate) count: i32,
    pub(crate) events: String,
}

/// Gives events their sequences after `last_seq`, and their times the precision of the store.
pub(crate) fn sequence(run: RunId, last_seq: u64, events: Vec<NewEvent>) -> Vec<RunEvent> {
    (last_seq + 1..)
        .zip(events)
        .map(|(seq, event)| RunEvent {
            run,
            seq,
            kind: event.kind,
            at: crate::value::whole_micros(event.at),
            data: event.data,
        })
        .collect()
}

/// The row that holds these events; `None` for none.
pub(crate) fn to_row(events: &[RunEvent]) -> Result<Option<EventRow>, Error> {
    let Some(first) = events.first() else {
        return Ok(None);
    };
    Ok(Some(EventRow {
        run: first.run.into(),
        first_seq: i64::try_from(first.seq).unwrap_or(i64::MAX),
        count: i32::try_from(events.len()).unwrap_or(i32::MAX),
        events: to_text(events)?,
    }))
}

/// Events as a column.
pub(crate) fn to_text(events: &[RunEvent]) -> Result<String, Error> {
    let stored: Vec<_> = events
        .iter()
        .map(|event| Stored {
            k: event.kind,
            t: Time::from(event.at).0,
            d: event.data.clone(),
        })
        .collect();
    Ok(serde_json::to_string(&stored)?)
}

/// Events as a column whose statement adds the time of the last one, its own, and the brackets that close.
pub(crate) fn to_open_text(before: &[RunEvent], last: EventKind, data: &EventData) -> Result<String, Error> {
    let mut text = to_text(before)?;
    text.pop();
    if !before.is_empty() {
        text.push(',');
    }
    text.push_str("{\"k\":\"");
    text.push_str(last.as_str());
    text.push_str("\",\"d\":");
    text.push_str(data.text());
    text.push_str(",\"t\":");
    Ok(text)
}

/// The events of one row.
pub(crate) fn from_row(run: RunId, first_seq: i64, text: &str) -> Result<Vec<RunEvent>, Error> {
    let stored: Vec<Stored> = serde_json::from_str(text)?;
    let first = u64::try_from(first_seq).map_err(|_| Error::Data(format!("event sequence {first_seq}")))?;
    Ok((first..)
        .zip(stored)
        .map(|(seq, event)| RunEvent {
            run,
            seq,
            kind: event.k,
            at: Time(event.t).stamp(),
            data: event.d,
        })
        .collect())
}

/// The events after `after` from rows `(first_seq, events)` in order, at most `limit`.
pub(crate) fn flatten(
    run: RunId,
    rows: &[(Option<i64>, Option<String>)],
    after: u64,
    limit: u32,
) -> Result<Vec<RunEvent>, Error> {
    let mut events = Vec::new();
    for (first_seq, text) in rows {
        let (Some(first_seq), Some(text)) = (first_seq, text) else {
            continue;
        };
        events.extend(
            from_row(run, *first_seq, text)?
                .into_iter()
                .filter(|e| e.seq > after),
        );
        if events.len() >= limit as usize {
            break;
        }
    }
    events.truncate(limit as usize);
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_window_of_the_rows_is_the_window_of_the_events(
            sizes in proptest::collection::vec(1usize..5, 0..6), after in 0u64..20, limit in 1u32..20,
        ) {
            let run = RunId::generate();
            let mut all = Vec::new();
            let mut rows = Vec::new();
            for size in sizes {
                let new = vec![
                    NewEvent { kind: EventKind::NodeStarted, at: jiff::Timestamp::now(), data: EventData::default() };
                    size
                ];
                let last = all.len() as u64;
                let events = sequence(run, last, new);
                let row = to_row(&events).unwrap().unwrap();
                rows.push((Some(row.first_seq), Some(row.events)));
                all.extend(events);
            }
            let expected: Vec<_> =
                all.into_iter().filter(|e| e.seq > after).take(limit as usize).collect();
            prop_assert_eq!(flatten(run, &rows, after, limit).unwrap(), expected);
        }
    }
}
