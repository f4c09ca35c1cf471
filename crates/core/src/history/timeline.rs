//! A run's events replayed on the state machine: where they lead, what they count, and which cannot have happened.

use super::{Invariant, RunHistory};
use crate::event::{EventKind, RunEvent};
use crate::run::{EndedBecause, Ending, Event, RunState, apply};

/// What the events of a run add up to.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// `None` before the first event.
    pub(super) state: Option<RunState>,
    /// Claims so far: each makes an epoch and one `run.started`.
    pub(super) epoch: u64,
    pub(super) attempt: u32,
    pub(super) failures: u32,
    pub(super) interruptions: u32,
    /// Final events.
    pub(super) ends: u32,
    /// `run.interrupted` came, and what follows from it is the next event.
    interrupted: bool,
    pub(super) faults: Vec<(Invariant, String)>,
}

impl Timeline {
    pub(super) fn of(history: &RunHistory) -> Self {
        let mut timeline = Self::default();
        for event in &history.events {
            timeline.step(event);
        }
        if timeline.interrupted {
            let last = "the last event is run.interrupted: it must be followed by run.queued or run.failed";
            timeline.faults.push((Invariant::LegalSteps, last.to_owned()));
        }
        timeline
    }

    fn step(&mut self, event: &RunEvent) {
        if event.kind.is_final() {
            self.ends += 1;
        }
        let before = self.state;
        if let Some(next) = self.next(event) {
            self.state = Some(next);
        } else {
            let (kind, seq) = (event.kind.as_str(), event.seq);
            let fault = match before {
                Some(state) if state.is_final() => {
                    let detail = format!("event {seq} is {kind}, after the run was {}", state.as_str());
                    (Invariant::EndedOnce, detail)
                }
                Some(state) => {
                    let detail = format!("event {seq} is {kind}, while the run was {}", state.as_str());
                    (Invariant::LegalSteps, detail)
                }
                None => (
                    Invariant::LegalSteps,
                    format!("the first event is {kind}: it must be run.queued or run.scheduled"),
                ),
            };
            self.faults.push(fault);
            // On as if it had been right, so that one fault is told once.
            self.state = assumed(event.kind).or(before);
            self.interrupted = false;
        }
        self.count(event);
    }

    /// Where an event leads; `None` when it cannot happen here.
    fn next(&mut self, event: &RunEvent) -> Option<RunState> {
        let Some(state) = self.state else {
            return match event.kind {
                EventKind::RunQueued => Some(RunState::Queued),
                EventKind::RunScheduled => Some(RunState::Scheduled),
                _ => None,
            };
        };
        if std::mem::take(&mut self.interrupted) {
            return match event.kind {
                EventKind::RunQueued => apply(state, Event::Interrupted).ok(),
                EventKind::RunFailed => apply(state, Event::InterruptedTooOften).ok(),
                _ => None,
            };
        }
        let cause = match event.kind {
            EventKind::RunQueued if state == RunState::Blocked => Event::Unblocked,
            EventKind::RunQueued => Event::Due,
            EventKind::RunStarted => Event::Claimed,
            EventKind::RunRetrying => Event::RetryLater,
            EventKind::RunSucceeded => Event::Finished(Ending::Succeeded),
            EventKind::RunFailed => Event::Finished(Ending::Failed),
            EventKind::RunCancelled if state == RunState::Running => Event::Finished(Ending::Cancelled),
            EventKind::RunCancelled => Event::CancelRequested,
            EventKind::RunExpired => Event::Expired,
            EventKind::RunInterrupted
            | EventKind::NodeStarted
            | EventKind::NodeFinished
            | EventKind::NodeFailed => {
                self.interrupted = event.kind == EventKind::RunInterrupted && state == RunState::Running;
                return (state == RunState::Running).then_some(state);
            }
            // Tokens are not stored, and a run is scheduled first or by a retry.
            EventKind::NodeToken | EventKind::RunScheduled => return None,
        };
        apply(state, cause).ok()
    }

    fn count(&mut self, event: &RunEvent) {
        match event.kind {
            EventKind::RunStarted => {
                self.epoch += 1;
                self.attempt = self.failures + 1;
                let said = event.data.get("attempt").and_then(|said| said.as_u64());
                if said != Some(u64::from(self.attempt)) {
                    let said = said.map_or_else(|| "none".to_owned(), |n| n.to_string());
                    self.faults.push((
                        Invariant::AttemptsAddUp,
                        format!(
                            "event {} starts attempt {said}, but {} is next",
                            event.seq, self.attempt
                        ),
                    ));
                }
            }
            EventKind::RunRetrying => self.failures += 1,
            EventKind::RunInterrupted if !handed_off(event) => self.interruptions += 1,
            // A run that was interrupted or lost after its cancellation was asked for; a holder that stops because of
            // the cancellation gives no reason.
            EventKind::RunCancelled if event.data.get("reason").is_some() && !handed_off(event) => {
                self.interruptions += 1;
            }
            _ => {}
        }
    }
}

/// Whether the worker gave the run away because it was told to: that counts as no interruption.
fn handed_off(event: &RunEvent) -> bool {
    let reason = event.data.get("reason");
    reason.is_some_and(|reason| reason.as_str() == Some(EndedBecause::HandedOff.as_str()))
}

/// The state after an event that could not happen.
fn assumed(kind: EventKind) -> Option<RunState> {
    match kind {
        EventKind::RunScheduled | EventKind::RunRetrying => Some(RunState::Scheduled),
        EventKind::RunQueued => Some(RunState::Queued),
        EventKind::RunStarted => Some(RunState::Running),
        EventKind::RunSucceeded => Some(RunState::Succeeded),
        EventKind::RunFailed => Some(RunState::Failed),
        EventKind::RunCancelled => Some(RunState::Cancelled),
        EventKind::RunExpired => Some(RunState::Expired),
        EventKind::RunInterrupted
        | EventKind::NodeStarted
        | EventKind::NodeToken
        | EventKind::NodeFinished
        | EventKind::NodeFailed => None,
    }
}
