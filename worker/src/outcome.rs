//! How an attempt ends: from what happened to what is written. Pure: the random number is an argument.

use flowfleet_core::event::NewEvent;
use flowfleet_core::payload::Payload;
use flowfleet_core::retry::{AfterFailure, after_failure};
use flowfleet_core::run::{
    ClaimedRun, EndedBecause, Ending, Finish, NodeCheckpoint, Release, RunError, RunErrorKind, Usage,
};

use crate::held::Stop;
use crate::journal::End;
use crate::progress::clean;

/// Characters of an error's message.
const MESSAGE: usize = 4_000;

/// What happened.
#[derive(Debug)]
pub(crate) enum Verdict {
    Done {
        output: Payload,
        outputs: Payload,
    },
    Failed {
        error: RunError,
        retryable: bool,
    },
    TimedOut,
    /// Stopped from outside; never [`Stop::Lost`], after which nothing is written.
    Stopped(Stop),
}

/// What an attempt leaves behind beside its verdict.
#[derive(Debug, Default)]
pub(crate) struct Leavings {
    pub(crate) nodes: Vec<NodeCheckpoint>,
    pub(crate) events: Vec<NewEvent>,
    /// Of all finished nodes, those of earlier attempts included.
    pub(crate) usage: Usage,
    pub(crate) nodes_reused: u32,
}

/// An error of this program or of its surroundings, not of the flow.
pub(crate) fn internal(code: &str, message: &str) -> Verdict {
    Verdict::Failed {
        error: error(RunErrorKind::Internal, code, message, None),
        retryable: false,
    }
}

/// How the engine's errors read.
pub(crate) fn failed(failure: &flowfleet_engine::RunError) -> Verdict {
    use flowfleet_engine::RunError as Engine;
    let kind = match failure {
        Engine::Host(error) if error.interrupted => return Verdict::Stopped(Stop::Interrupted),
        Engine::Host(error) if error.code == "python_timeout" => RunErrorKind::Timeout,
        Engine::Host(error) if error.code == "python_unavailable" => RunErrorKind::Internal,
        Engine::Node { .. } | Engine::Host(_) => RunErrorKind::Node,
        Engine::Request(_) | Engine::Unsupported(_) => RunErrorKind::Request,
        Engine::Cancelled | Engine::Held | Engine::Deadlock(_) => RunErrorKind::Internal,
    };
    let error = error(kind, failure.code(), &failure.to_string(), failure.node());
    Verdict::Failed {
        error,
        retryable: failure.retryable(),
    }
}

fn error(kind: RunErrorKind, code: &str, message: &str, node: Option<&str>) -> RunError {
    RunError {
        kind,
        code: code.to_owned(),
        message: clean(message, MESSAGE).into_owned(),
        node: node.map(str::to_owned),
    }
}

/// Whether checkpoints of the attempt are of any use after `verdict`.
pub(crate) fn keeps_checkpoints(verdict: &Verdict) -> bool {
    !matches!(
        verdict,
        Verdict::Done { .. } | Verdict::Stopped(Stop::Cancelled | Stop::Lost)
    )
}

/// Decides what to write, and what the attempt ended because of.
///
/// Usage is reported once, when the run ends: the finished nodes' usage travels with their checkpoints, so that it is
/// also counted when the worker that paid for them was lost.
pub(crate) fn end(run: &ClaimedRun, verdict: Verdict, left: Leavings, random: f64) -> (End, EndedBecause) {
    let finish = |ending, output, outputs, error, left: Leavings| {
        End::Finish(Box::new(Finish {
            lease: run.lease,
            after_seq: run.last_seq,
            ending,
            events: left.events,
            output,
            outputs,
            error,
            usage: left.usage,
            nodes_reused: left.nodes_reused,
        }))
    };
    let release = |because, retry_in, error, left: Leavings| {
        End::Release(Box::new(Release {
            lease: run.lease,
            because,
            retry_in,
            error,
            nodes: left.nodes,
            events: left.events,
            usage: Usage::default(),
            nodes_reused: left.nodes_reused,
        }))
    };
    let none = Payload::null;
    let (error, retryable, because) = match verdict {
        Verdict::Done { output, outputs } => {
            return (
                finish(Ending::Succeeded, output, outputs, None, left),
                EndedBecause::Succeeded,
            );
        }
        Verdict::Stopped(Stop::Cancelled) => {
            return (
                finish(Ending::Cancelled, none(), none(), None, left),
                EndedBecause::Cancelled,
            );
        }
        Verdict::Stopped(why) => {
            let because = match why {
                Stop::Noticed => EndedBecause::SpotNotice,
                Stop::HandedOff => EndedBecause::HandedOff,
                Stop::Interrupted | Stop::Lost | Stop::Cancelled => EndedBecause::Interrupted,
            };
            return (release(because, None, None, left), because);
        }
        Verdict::Failed { error, retryable } => (error, retryable, EndedBecause::Failed),
        Verdict::TimedOut => {
            let message = format!(
                "the run took longer than its timeout_s of {} s",
                run.settings.timeout_s
            );
            (
                error(RunErrorKind::Timeout, "run_timeout", &message, None),
                true,
                EndedBecause::TimedOut,
            )
        }
    };
    let settings = &run.settings;
    let after = after_failure(
        &settings.retry,
        run.lease.attempt,
        settings.max_attempts,
        retryable,
        random,
        None,
    );
    let end = match after {
        AfterFailure::RetryIn(delay) => release(because, Some(delay), Some(error), left),
        AfterFailure::Fail => finish(Ending::Failed, none(), none(), Some(error), left),
    };
    (end, because)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowfleet_core::run::{Priority, RunSettings};
    use flowfleet_core::{FlowVersion, Lease, RunId, Tenant};
    use jiff::Timestamp;

    fn run(attempt: u32, max_attempts: u32) -> ClaimedRun {
        ClaimedRun {
            lease: Lease {
                run: RunId::generate(),
                attempt,
                epoch: 7,
            },
            tenant: Tenant::try_from("default".to_owned()).unwrap(),
            flow: FlowVersion {
                name: "f".parse().unwrap(),
                version: 1,
                digest: String::new(),
            },
            queue: "default".parse().unwrap(),
            priority: Priority::Normal,
            input: Payload::null(),
            settings: RunSettings {
                max_attempts,
                timeout_s: 2.5,
                ..RunSettings::default()
            },
            session_id: None,
            interruptions: 0,
            queued_at: Timestamp::UNIX_EPOCH,
            trace: None,
            last_seq: 2,
            checkpoints: Vec::new(),
        }
    }

    fn broken(retryable: bool) -> Verdict {
        Verdict::Failed {
            error: error(RunErrorKind::Node, "model_timeout", "slow", Some("n")),
            retryable,
        }
    }

    fn done() -> Verdict {
        Verdict::Done {
            output: Payload::null(),
            outputs: Payload::null(),
        }
    }

    /// Verdict, attempt of attempts: what is written, and why the attempt ended.
    #[test]
    fn table() {
        for (verdict, attempt, of, expected) in [
            (done(), 1, 3, "finish Succeeded Succeeded"),
            (broken(true), 1, 3, "retry Failed"),
            (broken(true), 3, 3, "finish Failed Failed"),
            (broken(false), 1, 3, "finish Failed Failed"),
            (Verdict::TimedOut, 1, 2, "retry TimedOut"),
            (Verdict::TimedOut, 2, 2, "finish Failed TimedOut"),
            (
                Verdict::Stopped(Stop::Cancelled),
                1,
                3,
                "finish Cancelled Cancelled",
            ),
            (Verdict::Stopped(Stop::Interrupted), 3, 3, "give back Interrupted"),
        ] {
            let said = format!("{verdict:?}");
            let (end, because) = end(&run(attempt, of), verdict, Leavings::default(), 0.5);
            let written = match end {
                End::Finish(finish) => {
                    assert_eq!(finish.error.is_some(), finish.ending == Ending::Failed);
                    format!("finish {:?} {because:?}", finish.ending)
                }
                End::Release(release) if release.retry_in.is_some() => format!("retry {because:?}"),
                End::Release(_) => format!("give back {because:?}"),
            };
            assert_eq!(written, expected, "{said}, attempt {attempt} of {of}");
        }
    }

    #[test]
    fn usage_is_reported_when_the_run_ends_and_only_then() {
        let usage = Usage {
            input_tokens: 3,
            output_tokens: 4,
        };
        let left = || Leavings {
            usage,
            nodes_reused: 2,
            ..Leavings::default()
        };
        let (End::Finish(finish), _) = end(&run(1, 1), broken(true), left(), 0.0) else {
            panic!("finish")
        };
        assert_eq!((finish.usage, finish.nodes_reused), (usage, 2));
        let (End::Release(release), _) = end(&run(1, 2), broken(true), left(), 0.0) else {
            panic!("release")
        };
        assert_eq!((release.usage, release.nodes_reused), (Usage::default(), 2));
    }

    #[test]
    fn a_timeout_says_how_long() {
        let (End::Finish(finish), _) = end(&run(1, 1), Verdict::TimedOut, Leavings::default(), 0.0) else {
            panic!("finish")
        };
        let error = finish.error.unwrap();
        assert_eq!(
            (error.kind, error.code.as_str()),
            (RunErrorKind::Timeout, "run_timeout")
        );
        assert!(error.message.contains("2.5 s"));
    }
}
