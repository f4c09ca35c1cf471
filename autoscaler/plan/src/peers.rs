//! How others size a pool, so that a user may choose or compare: each rule as its documentation states it.
//!
//! - `backlog-per-instance`: <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-using-sqs-queue.html>, target tracking on
//!   messages per running instance, one-minute data, 3 of 3 points to grow and 15 of 15 to shrink.
//! - `keda-hpa`: <https://keda.sh/docs/latest/scalers/rabbitmq-queue/> and
//!   <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>, tolerance of 10 %, at most the larger of 4 and
//!   a doubling every 15 s, 300 s stabilisation downward. Messages that executing workers hold count: they are unacknowledged.
//! - `ecs-managed`: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-auto-scaling.html>, target tracking on
//!   `CapacityProviderReservation`.
//! - `buildkite`: <https://github.com/buildkite/buildkite-agent-scaler>, jobs scheduled and running per instance.

use crate::history::History;
use crate::observation::Observation;
use crate::policy::{Policy, Rule};

const TOLERANCE: f64 = 0.1;
const KEDA_DOWN_S: f64 = 300.0;
const TRACKING_UP_S: f64 = 180.0;
const TRACKING_DOWN_S: f64 = 900.0;
const AGENT_IDLE_S: f64 = 600.0;

/// How long a rule keeps surplus machines.
pub(crate) fn hold_s(policy: &Policy, past: &History) -> f64 {
    match &policy.rule {
        Rule::SloStaffing(rule) => crate::staffing::hold_s(policy, rule, past),
        Rule::Step { .. } => policy.hold_s,
        Rule::KedaHpa { .. } => KEDA_DOWN_S,
        Rule::BacklogPerInstance { .. } | Rule::EcsManaged { .. } => TRACKING_DOWN_S,
        Rule::Buildkite { .. } => AGENT_IDLE_S,
    }
}

/// Machines wanted by a peer's rule; `None` for ours.
pub(crate) fn machines(policy: &Policy, seen: &Observation, past: &History) -> Option<f64> {
    let running: usize = seen.workers.iter().map(|worker| worker.ages_s.len()).sum();
    let running = (running + seen.elsewhere_ages_s.len()) as f64;
    let queued = seen.queued as f64;
    let have = seen.workers.iter().filter(|worker| worker.counts()).count() as f64;
    let accepting = seen
        .workers
        .iter()
        .filter(|worker| worker.state == crate::observation::WorkerState::Accepting)
        .count() as f64;
    let slots = f64::from(policy.machines.slots);
    Some(match &policy.rule {
        Rule::SloStaffing(_) => return None,
        Rule::BacklogPerInstance { target } => {
            // No instance, no metric: the usual setup has a step alarm on the queue for the first one.
            if have == 0.0 {
                return Some(if queued > 0.0 { 1.0 } else { 0.0 });
            }
            let metric = queued / accepting.max(1.0);
            // Instances that warm up are in the capacity, not yet in the metric.
            let wanted = (accepting.max(1.0) * metric / target).ceil();
            if metric > *target {
                let since = past.peer.above_since_s.map_or(0.0, |since| seen.at_s - since);
                if since >= TRACKING_UP_S {
                    wanted.max(have)
                } else {
                    have
                }
            } else if metric < target * (1.0 - TOLERANCE) {
                // What executes is not in the metric; instances protect themselves while they are busy.
                wanted.max((running / slots).ceil())
            } else {
                have
            }
        }
        Rule::KedaHpa { target } => {
            let ratio = (queued + running) / target / have.max(1.0);
            if have > 0.0 && (ratio - 1.0).abs() <= TOLERANCE {
                have
            } else {
                let wanted = ((queued + running) / target).ceil();
                wanted.min((have + 4.0).max(have * 2.0))
            }
        }
        Rule::EcsManaged { target } => {
            let needed = ((queued + running) / slots).ceil();
            if needed == 0.0 {
                0.0
            } else {
                (needed * 100.0 / target).ceil()
            }
        }
        Rule::Buildkite { buffer } => ((queued + running + buffer) / slots).ceil(),
        Rule::Step { steps } => {
            let step = steps.iter().rev().find(|(messages, _)| seen.queued >= *messages);
            f64::from(step.map_or(0, |(_, machines)| *machines)).max((running / slots).ceil())
        }
    })
}

/// Remembers since when a tracked metric is above its target.
pub(crate) fn remember(policy: &Policy, seen: &Observation, past: &mut History) {
    let Rule::BacklogPerInstance { target } = &policy.rule else {
        return;
    };
    let accepting = seen
        .workers
        .iter()
        .filter(|worker| worker.state == crate::observation::WorkerState::Accepting)
        .count() as f64;
    if seen.queued as f64 / accepting.max(1.0) > *target {
        past.peer.above_since_s.get_or_insert(seen.at_s);
    } else {
        past.peer.above_since_s = None;
    }
}
