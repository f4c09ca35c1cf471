//! The check of one run.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::timeline::Timeline;
use super::{Invariant, RunHistory, Violation, nodes};
use crate::clock::later;
use crate::lease::expired;
use crate::run::RunState;

/// What is wrong with a history at `now`, by the clock of the store it was read from. Things may be late by `slack`.
/// Several invariants may speak of one fault.
pub fn check(history: &RunHistory, now: Timestamp, slack: Duration) -> Vec<Violation> {
    let mut found = Vec::new();
    if history.damage.is_empty() {
        let timeline = Timeline::of(history);
        ends(history, &timeline, &mut found);
        sequence(history, &mut found);
        attempts(history, &timeline, &mut found);
        nodes::check(history, &mut found);
        stuck(history, now, slack, &mut found);
        found.extend(timeline.faults);
    } else {
        found.extend(
            history
                .damage
                .iter()
                .map(|why| (Invariant::Readable, why.clone())),
        );
    }
    let of = |(invariant, detail)| Violation {
        invariant,
        run: Some(history.run),
        detail,
    };
    found.into_iter().map(of).collect()
}

type Found = Vec<(Invariant, String)>;

/// The row and the events agree on whether and how the run ended.
fn ends(history: &RunHistory, timeline: &Timeline, found: &mut Found) {
    let state = history.state;
    if timeline.ends > 1 {
        found.push((
            Invariant::EndedOnce,
            format!("the run has {} final events", timeline.ends),
        ));
    }
    if state.is_final() != history.finished_at.is_some() {
        let has = if state.is_final() {
            "no time of its end"
        } else {
            "a time of its end"
        };
        found.push((
            Invariant::EndedOnce,
            format!("the run is {} and has {has}", state.as_str()),
        ));
    }
    let said = timeline.state;
    if said == Some(state) {
        return;
    }
    let over = state.is_final() || said.is_some_and(RunState::is_final);
    let invariant = if over {
        Invariant::EndedOnce
    } else {
        Invariant::LegalSteps
    };
    let said = said.map_or("that nothing happened", RunState::as_str);
    found.push((
        invariant,
        format!("the run is {}, its events say {said}", state.as_str()),
    ));
}

fn sequence(history: &RunHistory, found: &mut Found) {
    let mut last = 0;
    for event in &history.events {
        if event.seq <= last {
            found.push((
                Invariant::SequenceWhole,
                format!("event {} comes after event {last}", event.seq),
            ));
        } else if event.seq > last + 1 {
            let hole = format!("events {} to {} are missing", last + 1, event.seq - 1);
            found.push((Invariant::SequenceWhole, hole));
        }
        last = last.max(event.seq);
    }
    if last != history.last_seq {
        let detail = format!("the last event is {last}, the run says {}", history.last_seq);
        found.push((Invariant::SequenceWhole, detail));
    }
}

/// Claims, epochs, failures and interruptions are those of the events, and every epoch but a running one has ended.
fn attempts(history: &RunHistory, timeline: &Timeline, found: &mut Found) {
    let mut differ = |what: &str, row: u64, events: u64| {
        if row != events {
            let detail = format!("the run counts {row} {what}, its events {events}");
            found.push((Invariant::AttemptsAddUp, detail));
        }
    };
    differ("claims", history.epoch, timeline.epoch);
    differ("failures", history.failures.into(), timeline.failures.into());
    differ(
        "interruptions",
        history.interruptions.into(),
        timeline.interruptions.into(),
    );
    differ("attempts", history.attempt.into(), timeline.attempt.into());
    let running = u64::from(history.state == RunState::Running);
    let expected: BTreeSet<u64> = (1..=history.epoch.saturating_sub(running)).collect();
    let ended: BTreeSet<u64> = history.attempts.iter().map(|attempt| attempt.epoch).collect();
    for epoch in expected.difference(&ended) {
        let detail = format!("nothing says how the attempt under epoch {epoch} ended");
        found.push((Invariant::AttemptsAddUp, detail));
    }
    for epoch in ended.difference(&expected) {
        let detail = format!("the attempt under epoch {epoch} has ended, although no such attempt is over");
        found.push((Invariant::AttemptsAddUp, detail));
    }
    if ended.len() != history.attempts.len() {
        found.push((Invariant::AttemptsAddUp, "an attempt ended twice".to_owned()));
    }
}

/// What should have happened by now.
fn stuck(history: &RunHistory, now: Timestamp, slack: Duration, found: &mut Found) {
    let late = |at: Option<Timestamp>| at.filter(|&at| expired(later(at, slack), now));
    let mut say = |detail: String| found.push((Invariant::NotStuck, detail));
    match history.state {
        RunState::Running => {
            if let Some(at) = late(history.lease_until) {
                say(format!("its lease ran out at {at} and nobody took the run back"));
            }
            let timeout = Duration::try_from_secs_f64(history.timeout_s).unwrap_or(Duration::MAX);
            if let Some(began) = history.attempt_started_at
                && late(Some(later(began, timeout))).is_some()
            {
                let limit = history.timeout_s;
                say(format!(
                    "its attempt began at {began} and still runs, {limit} s being the most allowed"
                ));
            }
        }
        RunState::Scheduled => match (history.run_at, late(history.run_at)) {
            (None, _) => say("it is scheduled for no time".to_owned()),
            (_, Some(at)) => say(format!("it was due at {at} and was not queued")),
            _ => {}
        },
        // How long a queued run waits depends on the capacity there is: that is no fault. One that was never queued or
        // published is found by nobody.
        RunState::Queued if history.queued_at.is_none() || history.published_at.is_none() => {
            say("it is queued without a time, so that nobody will publish it again".to_owned());
        }
        _ => {}
    }
    let waits = matches!(
        history.state,
        RunState::Scheduled | RunState::Blocked | RunState::Queued
    );
    if waits
        && history.started_at.is_none()
        && let Some(at) = late(history.expires_at)
    {
        say(format!("it expired at {at} and still waits"));
    }
}
