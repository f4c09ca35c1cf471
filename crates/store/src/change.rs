//! What a batch of writes changes: decided here, once for both databases, from rows that are locked.
//!
//! Every decision goes through [`flowfleet_core::run::apply`] and [`flowfleet_core::retry`]; the statements that
//! carry a [`Batch`] out name the state and the epoch they start from once more.

use flowfleet_core::clock::later;
use flowfleet_core::port::{Envelope, Fenced};
use flowfleet_core::retry::{AfterInterruption, MAX_INTERRUPTIONS, after_interruption};
use flowfleet_core::run::{
    EndedBecause, Ending, Event, Finish, NodeCheckpoint, Progress, Release, RunError, RunErrorKind, Usage,
    apply,
};
use flowfleet_core::{
    EventData, EventKind, Lease, NewEvent, Payload, Pool, Priority, RunEvent, RunId, RunMessage, RunState,
    TraceContext, WorkerId, lease,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::batch::{Append, AttemptRow, Batch, CheckpointRow, RunUpdate, int, long};
use crate::error::Error;
use crate::events;
use crate::value::Time;

/// A row of `runs` that the transaction holds locked.
#[derive(Debug, Clone)]
pub(crate) struct Locked {
    pub(crate) id: RunId,
    pub(crate) state: RunState,
    pub(crate) epoch: u64,
    pub(crate) attempt: u32,
    pub(crate) failures: u32,
    pub(crate) interruptions: u32,
    pub(crate) last_seq: u64,
    /// The event that began the attempt that goes on.
    pub(crate) started_seq: Option<u64>,
    pub(crate) cancel_requested: bool,
    pub(crate) pool: Pool,
    pub(crate) priority: Priority,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) attempt_started_at: Option<Timestamp>,
    pub(crate) trace: Option<TraceContext>,
    /// The time of the transaction.
    pub(crate) now: Timestamp,
}

/// How an attempt ended.
struct Ended<'a> {
    because: EndedBecause,
    usage: Usage,
    nodes_reused: u32,
    error: Option<&'a RunError>,
    /// `(output, outputs)`, if the run ends with this attempt.
    answer: Option<(&'a Payload, &'a Payload)>,
}

fn event(at: Timestamp, kind: EventKind, data: impl Into<EventData>) -> NewEvent {
    let data = data.into();
    NewEvent { kind, at, data }
}

/// What `submit` and requeues publish.
pub(crate) fn envelope(
    pool: &Pool,
    priority: Priority,
    run: RunId,
    trace: Option<&TraceContext>,
) -> Envelope {
    Envelope {
        pool: pool.clone(),
        priority,
        message: RunMessage::new(run, trace.cloned()),
    }
}

/// Gives new events of a run their sequences.
fn number(run: &mut Locked, new: Vec<NewEvent>) -> Vec<RunEvent> {
    let events = events::sequence(run.id, run.last_seq, new);
    run.last_seq += events.len() as u64;
    events
}

/// Why an attempt that finishes its run ended, and the event that says so.
pub(crate) fn ended_as(finish: &Finish) -> (EndedBecause, EventKind) {
    let timed_out = finish
        .error
        .as_ref()
        .is_some_and(|error| error.kind == RunErrorKind::Timeout);
    match finish.ending {
        Ending::Succeeded => (EndedBecause::Succeeded, EventKind::RunSucceeded),
        Ending::Failed if timed_out => (EndedBecause::TimedOut, EventKind::RunFailed),
        Ending::Failed => (EndedBecause::Failed, EventKind::RunFailed),
        Ending::Cancelled => (EndedBecause::Cancelled, EventKind::RunCancelled),
    }
}

/// What the last event of a run says.
#[derive(Serialize)]
struct EndingData<'a> {
    attempt: u32,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RunError>,
}

pub(crate) fn ending_data(finish: &Finish) -> Result<EventData, Error> {
    Ok(EventData::of(&EndingData {
        attempt: finish.lease.attempt,
        usage: finish.usage,
        error: finish.error.as_ref(),
    })?)
}

impl Locked {
    fn holds(&self, held: &Lease) -> bool {
        held.run == self.id && lease::fences(held.epoch, self.epoch, self.state == RunState::Running)
    }
}

impl Batch {
    /// Progress under a lease: events and checkpoints, the state stays. Nobody else appends to a running run, so the
    /// sequence after which it comes says whether it was written before.
    pub(crate) fn checkpoint(&mut self, run: &mut Locked, progress: &Progress) -> Result<Fenced, Error> {
        if !run.holds(&progress.lease) {
            return Ok(Fenced::Stale);
        }
        let (after, last) = (progress.after_seq, run.last_seq);
        if last != after {
            let events = events::sequence(run.id, after, progress.events.clone());
            if last > after && last - after >= events.len() as u64 {
                return Ok(Fenced::Applied { events });
            }
            return Err(Error::Data(format!(
                "progress of run {} comes after event {after} with {} events, and the last event is {last}",
                run.id,
                events.len()
            )));
        }
        let events = number(run, progress.events.clone());
        self.events.extend(events::to_row(&events)?);
        self.keep(run.id, &progress.nodes)?;
        if !events.is_empty() {
            let id = run.id.into();
            let (epoch, last_seq) = (long(run.epoch), long(run.last_seq));
            self.appends.insert(id, Append { id, epoch, last_seq });
        }
        Ok(Fenced::Applied { events })
    }

    /// The end of a run under its lease.
    pub(crate) fn finish(&mut self, run: &mut Locked, finish: &Finish) -> Result<Fenced, Error> {
        if !run.holds(&finish.lease) {
            return Ok(Fenced::Stale);
        }
        let Ok(next) = apply(run.state, Event::Finished(finish.ending)) else {
            return Ok(Fenced::Stale);
        };
        let (because, kind) = ended_as(finish);
        let mut new = finish.events.clone();
        new.push(event(run.now, kind, ending_data(finish)?));
        let ended = Ended {
            because,
            usage: finish.usage,
            nodes_reused: finish.nodes_reused,
            error: finish.error.as_ref(),
            answer: Some((&finish.output, &finish.outputs)),
        };
        let events = self.end_attempt(run, &ended, new)?;
        self.transition(run, next, None, finish.usage);
        Ok(Fenced::Applied { events })
    }

    /// A run given back under its lease: a retry or an interruption.
    pub(crate) fn release(&mut self, run: &mut Locked, release: &Release) -> Result<Fenced, Error> {
        if !run.holds(&release.lease) {
            return Ok(Fenced::Stale);
        }
        let ended = Ended {
            because: release.because,
            usage: release.usage,
            nodes_reused: release.nodes_reused,
            error: release.error.as_ref(),
            answer: None,
        };
        let events = match release.retry_in {
            // It failed, and whoever wanted it no longer does.
            Some(_) if run.cancel_requested => {
                let Ok(next) = apply(run.state, Event::Finished(Ending::Cancelled)) else {
                    return Ok(Fenced::Stale);
                };
                let mut new = release.events.clone();
                let data = json!({ "attempt": run.attempt });
                new.push(event(run.now, EventKind::RunCancelled, data));
                let events = self.end_attempt(run, &ended, new)?;
                self.transition(run, next, None, release.usage);
                events
            }
            Some(delay) => {
                let Ok(next) = apply(run.state, Event::RetryLater) else {
                    return Ok(Fenced::Stale);
                };
                let mut data = json!({ "attempt": run.attempt, "delay_s": delay.as_secs_f64() });
                if let Some(error) = &release.error {
                    data["error"] = serde_json::to_value(error)?;
                }
                let mut new = release.events.clone();
                new.push(event(run.now, EventKind::RunRetrying, data));
                let events = self.end_attempt(run, &ended, new)?;
                run.failures += 1;
                self.transition(run, next, Some(later(run.now, delay)), release.usage);
                events
            }
            None => match self.interrupt(run, Event::Interrupted, &ended, release.events.clone())? {
                Some(events) => events,
                None => return Ok(Fenced::Stale),
            },
        };
        if !run.state.is_final() {
            self.keep(run.id, &release.nodes)?;
        }
        Ok(Fenced::Applied { events })
    }

    /// A lease that ran out.
    pub(crate) fn reap(&mut self, run: &mut Locked) -> Result<Vec<RunEvent>, Error> {
        let ended = Ended {
            because: EndedBecause::WorkerLost,
            usage: Usage::default(),
            nodes_reused: 0,
            error: None,
            answer: None,
        };
        Ok(self
            .interrupt(run, Event::LeaseExpired, &ended, Vec::new())?
            .unwrap_or_default())
    }

    /// A scheduled run whose time came. `None` when it does not wait for a time.
    pub(crate) fn promote(&mut self, run: &mut Locked) -> Result<Option<Vec<RunEvent>>, Error> {
        self.leave_waiting(run, Event::Due, EventKind::RunQueued, Value::Null)
    }

    /// A waiting run that was not started in time.
    pub(crate) fn expire(&mut self, run: &mut Locked) -> Result<Option<Vec<RunEvent>>, Error> {
        self.leave_waiting(run, Event::Expired, EventKind::RunExpired, Value::Null)
    }

    /// A waiting run that somebody cancelled.
    pub(crate) fn cancel(&mut self, run: &mut Locked) -> Result<Option<Vec<RunEvent>>, Error> {
        if run.state == RunState::Running {
            return Ok(None);
        }
        self.leave_waiting(run, Event::CancelRequested, EventKind::RunCancelled, Value::Null)
    }

    fn leave_waiting(
        &mut self,
        run: &mut Locked,
        cause: Event,
        kind: EventKind,
        data: Value,
    ) -> Result<Option<Vec<RunEvent>>, Error> {
        let Ok(next) = apply(run.state, cause) else {
            return Ok(None);
        };
        let events = number(run, vec![event(run.now, kind, data)]);
        self.events.extend(events::to_row(&events)?);
        self.transition(run, next, None, Usage::default());
        Ok(Some(events))
    }

    /// Back to the queue, or to an end when that is where an interruption leads (invariant I4).
    fn interrupt(
        &mut self,
        run: &mut Locked,
        cause: Event,
        ended: &Ended<'_>,
        mut new: Vec<NewEvent>,
    ) -> Result<Option<Vec<RunEvent>>, Error> {
        let count = run.interruptions + u32::from(ended.because.counts_as_interruption());
        let after = after_interruption(count);
        let (cause, on_demand) = match after {
            _ if run.cancel_requested => (Event::Finished(Ending::Cancelled), false),
            AfterInterruption::Requeue { on_demand } => (cause, on_demand),
            AfterInterruption::Fail => (Event::InterruptedTooOften, false),
        };
        let Ok(next) = apply(run.state, cause) else {
            return Ok(None);
        };
        let mut interrupted = json!({
            "attempt": run.attempt, "reason": ended.because, "interruptions": count, "on_demand": on_demand,
        });
        if let Some(error) = ended.error {
            interrupted["error"] = serde_json::to_value(error)?;
        }
        let mut too_often = None;
        match next {
            RunState::Cancelled => {
                let data = json!({ "attempt": run.attempt, "reason": ended.because });
                new.push(event(run.now, EventKind::RunCancelled, data));
            }
            RunState::Failed => {
                let error = RunError {
                    kind: RunErrorKind::Infrastructure,
                    code: "too_many_interruptions".to_owned(),
                    message: format!(
                        "{count} workers were lost or drained while they ran it, more than the {MAX_INTERRUPTIONS} \
                         allowed; the run itself may be what ends them"
                    ),
                    node: None,
                };
                let data = json!({ "attempt": run.attempt, "error": error });
                new.push(event(run.now, EventKind::RunInterrupted, interrupted));
                new.push(event(run.now, EventKind::RunFailed, data));
                too_often = Some(error);
            }
            _ => {
                new.push(event(run.now, EventKind::RunInterrupted, interrupted));
                new.push(event(run.now, EventKind::RunQueued, Value::Null));
            }
        }
        let ended = Ended {
            error: too_often.as_ref().or(ended.error),
            ..*ended
        };
        let events = self.end_attempt(run, &ended, new)?;
        run.interruptions = count;
        self.transition(run, next, None, ended.usage);
        Ok(Some(events))
    }

    pub(crate) fn keep(&mut self, run: RunId, nodes: &[NodeCheckpoint]) -> Result<(), Error> {
        for NodeCheckpoint { node, output } in nodes {
            let row = CheckpointRow {
                run: run.into(),
                node: node.clone(),
                output: serde_json::to_string(output)?,
            };
            self.checkpoints.push(row);
        }
        Ok(())
    }

    fn end_attempt(
        &mut self,
        run: &mut Locked,
        ended: &Ended<'_>,
        new: Vec<NewEvent>,
    ) -> Result<Vec<RunEvent>, Error> {
        let (Some(worker), Some(started_at), Some(started_seq)) =
            (run.worker, run.attempt_started_at, run.started_seq)
        else {
            return Err(Error::Data(format!("run {} is running without a worker", run.id)));
        };
        let events = number(run, new);
        let (output, outputs) = match ended.answer {
            Some((output, outputs)) => (
                Some(serde_json::to_string(output)?),
                Some(serde_json::to_string(outputs)?),
            ),
            None => (None, None),
        };
        self.attempts.push(AttemptRow {
            run: run.id.into(),
            epoch: long(run.epoch),
            attempt: int(run.attempt),
            worker: worker.into(),
            started_at: started_at.into(),
            started_seq: long(started_seq),
            ended_at: run.now.into(),
            ended_because: ended.because.as_str(),
            nodes_reused: int(ended.nodes_reused),
            error: ended.error.map(serde_json::to_string).transpose()?,
            first_seq: long(run.last_seq - events.len() as u64 + 1),
            count: int(events.len()),
            events: events::to_text(&events)?,
            output,
            outputs,
        });
        Ok(events)
    }

    fn transition(&mut self, run: &mut Locked, next: RunState, run_at: Option<Timestamp>, usage: Usage) {
        let now = Time::from(run.now);
        self.updates.push(RunUpdate {
            id: run.id.into(),
            from_state: run.state.as_str(),
            epoch: long(run.epoch),
            state: next.as_str(),
            failures: int(run.failures),
            interruptions: int(run.interruptions),
            last_seq: long(run.last_seq),
            queued_at: (next == RunState::Queued).then_some(now),
            run_at: run_at.map(Time::from),
            finished_at: next.is_final().then_some(now),
            input_tokens: long(usage.input_tokens),
            output_tokens: long(usage.output_tokens),
        });
        run.state = next;
        if next.is_final() {
            self.ended.push(run.id.into());
        }
        if next == RunState::Queued {
            self.envelopes
                .push(envelope(&run.pool, run.priority, run.id, run.trace.as_ref()));
        }
    }
}
