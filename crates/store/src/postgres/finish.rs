//! Ends of runs as they nearly always come: under a lease that holds, from a worker that knows the last event. Then
//! everything that is written is known before the row is read, and one statement does it all. Others go the long way.

use std::collections::{HashMap, HashSet};

use flowfleet_core::port::Fenced;
use flowfleet_core::run::{Event, Finish, apply};
use flowfleet_core::{EventData, EventKind, RunEvent, RunId, RunState};

use super::Postgres;
use super::write::column;
use crate::batch::{int, long};
use crate::change::{ended_as, ending_data};
use crate::error::Error;
use crate::events;
use crate::value::{Id, Time};

/// Rows are locked in the order of the arrays, which is that of ids, and their states compared, as the module `write`
/// explains. For a plain join the planner may walk the arrays once for each run, or all runs once. `(SELECT $1)` is what
/// it is in the claim: a plan for every number of ids.
const FINISH: &str = "
WITH held AS MATERIALIZED (
    SELECT r.*, i.after_seq, i.state, i.ended_because, i.count, i.events, i.nodes_reused, i.error, i.output, i.outputs,
        i.input_tokens, i.output_tokens
    FROM unnest(
        (SELECT $1::uuid[]), $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::integer[],
        $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[]
    ) AS i (
        id, epoch, after_seq, state, ended_because, count, events, nodes_reused, error, output, outputs,
        input_tokens, output_tokens
    ) CROSS JOIN LATERAL (
        SELECT id, epoch, attempt, worker, attempt_started_at, started_seq FROM runs
        WHERE id = i.id AND epoch = i.epoch AND last_seq = i.after_seq AND state || '' = 'running'
        FOR UPDATE
    ) r
), ended AS (
    UPDATE runs r SET
        state = h.state, last_seq = h.after_seq + h.count, worker = NULL, lease_until = NULL,
        attempt_started_at = NULL, finished_at = now(), input_tokens = r.input_tokens + h.input_tokens,
        output_tokens = r.output_tokens + h.output_tokens
    FROM held h WHERE r.id = h.id
), written AS (
    INSERT INTO run_attempts (
        run_id, epoch, attempt, worker, started_at, started_seq, ended_at, ended_because, nodes_reused, error,
        first_seq, count, events, output, outputs
    )
    SELECT id, epoch, attempt, worker, attempt_started_at, started_seq, now(), ended_because, nodes_reused, error,
        after_seq + 1, count, events || (extract(epoch FROM now()) * 1000000)::bigint || '}]', output, outputs
    FROM held
), dropped AS (
    DELETE FROM checkpoints WHERE run_id = ANY(ARRAY(SELECT id FROM held))
)
SELECT id, now() AS now FROM held
";

/// One end as it is written.
struct EndRow<'a> {
    finish: &'a Finish,
    state: &'static str,
    because: &'static str,
    before: Vec<RunEvent>,
    last: EventKind,
    data: EventData,
    /// Those before and the last one.
    events: String,
    error: Option<String>,
    output: String,
    outputs: String,
}

impl<'a> EndRow<'a> {
    fn of(finish: &'a Finish) -> Result<Option<Self>, Error> {
        let Ok(state) = apply(RunState::Running, Event::Finished(finish.ending)) else {
            return Ok(None);
        };
        let (because, last) = ended_as(finish);
        let before = events::sequence(finish.lease.run, finish.after_seq, finish.events.clone());
        let data = ending_data(finish)?;
        Ok(Some(Self {
            finish,
            state: state.as_str(),
            because: because.as_str(),
            events: events::to_open_text(&before, last, &data)?,
            before,
            last,
            data,
            error: finish.error.as_ref().map(serde_json::to_string).transpose()?,
            output: serde_json::to_string(&finish.output)?,
            outputs: serde_json::to_string(&finish.outputs)?,
        }))
    }

    /// The events as they are, now that the time of the last one is known.
    fn written(self, at: Time) -> Fenced {
        let mut events = self.before;
        events.push(RunEvent {
            run: self.finish.lease.run,
            seq: self.finish.after_seq + events.len() as u64 + 1,
            kind: self.last,
            at: at.stamp(),
            data: self.data,
        });
        Fenced::Applied { events }
    }
}

impl Postgres {
    /// Ends those of `runs` that it can; `None` for the others.
    pub(super) async fn finish_known(&self, runs: &[Finish]) -> Result<Vec<Option<Fenced>>, Error> {
        let mut seen = HashSet::new();
        let mut rows = Vec::with_capacity(runs.len());
        for finish in runs.iter().filter(|finish| seen.insert(finish.lease.run)) {
            rows.extend(EndRow::of(finish)?);
        }
        rows.sort_unstable_by_key(|row| row.finish.lease.run);
        let ended: Vec<(Id, Time)> = sqlx::query_as(FINISH)
            .bind(column(&rows, |r| Id::from(r.finish.lease.run)))
            .bind(column(&rows, |r| long(r.finish.lease.epoch)))
            .bind(column(&rows, |r| long(r.finish.after_seq)))
            .bind(column(&rows, |r| r.state))
            .bind(column(&rows, |r| r.because))
            .bind(column(&rows, |r| int(r.before.len() + 1)))
            .bind(column(&rows, |r| r.events.as_str()))
            .bind(column(&rows, |r| int(r.finish.nodes_reused)))
            .bind(column(&rows, |r| r.error.as_deref()))
            .bind(column(&rows, |r| r.output.as_str()))
            .bind(column(&rows, |r| r.outputs.as_str()))
            .bind(column(&rows, |r| long(r.finish.usage.input_tokens)))
            .bind(column(&rows, |r| long(r.finish.usage.output_tokens)))
            .fetch_all(&self.pool)
            .await?;
        let times: HashMap<RunId, Time> = ended.into_iter().map(|(id, now)| (RunId(id.0), now)).collect();
        let mut written: HashMap<RunId, Fenced> = rows
            .into_iter()
            .filter_map(|row| {
                let run = row.finish.lease.run;
                Some((run, row.written(*times.get(&run)?)))
            })
            .collect();
        Ok(runs
            .iter()
            .map(|finish| written.remove(&finish.lease.run))
            .collect())
    }
}
