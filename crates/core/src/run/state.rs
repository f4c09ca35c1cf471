//! The run's state machine: one total function, its diagram in `docs/state-machine.md`.

use serde::{Deserialize, Serialize};

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for a time: a delay, or the backoff before a retry.
    Scheduled,
    /// Waits for another run or for a concurrency key.
    Blocked,
    /// Wants a worker.
    Queued,
    /// A worker holds its lease.
    Running,
    Succeeded,
    Failed,
    Cancelled,
    /// Did not start in time.
    Expired,
}

impl RunState {
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing can happen to it any more.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired
        )
    }
}

impl std::str::FromStr for RunState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|s| s.as_str()).collect();
            format!("state {text:?} is not known: use one of {}", known.join(", "))
        })
    }
}

/// How a run that was executed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Succeeded,
    Failed,
    Cancelled,
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Its time came.
    Due,
    /// What it waited for is done.
    Unblocked,
    /// A worker took its lease.
    Claimed,
    /// The holder of the lease ended it.
    Finished(Ending),
    /// The holder failed it and it may try again later.
    RetryLater,
    /// The holder gave it back.
    Interrupted,
    /// The lease ran out.
    LeaseExpired,
    /// The lease ran out or was given back once too often.
    InterruptedTooOften,
    /// Somebody asked to cancel it.
    CancelRequested,
    /// `expires_at` passed.
    Expired,
}

impl Event {
    pub const ALL: [Self; 12] = [
        Self::Due,
        Self::Unblocked,
        Self::Claimed,
        Self::Finished(Ending::Succeeded),
        Self::Finished(Ending::Failed),
        Self::Finished(Ending::Cancelled),
        Self::RetryLater,
        Self::Interrupted,
        Self::LeaseExpired,
        Self::InterruptedTooOften,
        Self::CancelRequested,
        Self::Expired,
    ];
}

/// An event that cannot happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {} cannot take the event {event:?}", state.as_str())]
pub struct IllegalTransition {
    pub state: RunState,
    pub event: Event,
}

/// The next state of a run. Total: every pair is either a transition or refused.
///
/// A running run stays running when its cancellation is asked for: the request is a flag beside the state,
/// and only the holder of the lease, or the reaper once the lease is over, may end it.
pub fn apply(state: RunState, event: Event) -> Result<RunState, IllegalTransition> {
    use RunState::{Blocked, Cancelled, Expired, Failed, Queued, Running, Scheduled, Succeeded};
    let next = match (state, event) {
        (Scheduled, Event::Due) | (Blocked, Event::Unblocked) => Queued,
        (Queued, Event::Claimed) => Running,
        (Running, Event::Finished(Ending::Succeeded)) => Succeeded,
        (Running, Event::Finished(Ending::Failed) | Event::InterruptedTooOften) => Failed,
        (Running, Event::Finished(Ending::Cancelled)) => Cancelled,
        (Running, Event::RetryLater) => Scheduled,
        (Running, Event::Interrupted | Event::LeaseExpired) => Queued,
        (Running, Event::CancelRequested) => Running,
        (Scheduled | Blocked | Queued, Event::CancelRequested) => Cancelled,
        (Scheduled | Blocked | Queued, Event::Expired) => Expired,
        _ => return Err(IllegalTransition { state, event }),
    };
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    /// The whole table, state by event, written out: a change of the machine must change this text.
    #[test]
    fn every_state_and_event() {
        let mut table = String::new();
        for state in RunState::ALL {
            for event in Event::ALL {
                if let Ok(next) = apply(state, event) {
                    writeln!(table, "{} + {event:?} -> {}", state.as_str(), next.as_str()).unwrap();
                }
            }
        }
        let expected = "\
scheduled + Due -> queued
scheduled + CancelRequested -> cancelled
scheduled + Expired -> expired
blocked + Unblocked -> queued
blocked + CancelRequested -> cancelled
blocked + Expired -> expired
queued + Claimed -> running
queued + CancelRequested -> cancelled
queued + Expired -> expired
running + Finished(Succeeded) -> succeeded
running + Finished(Failed) -> failed
running + Finished(Cancelled) -> cancelled
running + RetryLater -> scheduled
running + Interrupted -> queued
running + LeaseExpired -> queued
running + InterruptedTooOften -> failed
running + CancelRequested -> running
";
        assert_eq!(table, expected);
    }

    #[test]
    fn states_parse_back() {
        for state in RunState::ALL {
            assert_eq!(state.as_str().parse::<RunState>().unwrap(), state);
        }
        assert!("done".parse::<RunState>().unwrap_err().contains("succeeded"));
    }

    proptest! {
        /// Whatever happens in whatever order, a run ends at most once and never leaves its end.
        #[test]
        fn final_states_are_final(events in proptest::collection::vec(0usize..Event::ALL.len(), 0..60)) {
            let mut state = RunState::Scheduled;
            let mut ended = 0;
            for index in events {
                match apply(state, Event::ALL[index]) {
                    Ok(next) => {
                        prop_assert!(!state.is_final());
                        if next.is_final() {
                            ended += 1;
                        }
                        state = next;
                    }
                    Err(refused) => prop_assert_eq!(refused.state, state),
                }
            }
            prop_assert!(ended <= 1);
        }
    }
}
