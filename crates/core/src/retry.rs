//! When a run that failed or was interrupted tries again. Pure: the random number is an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Interruptions after which a run asks for on-demand capacity.
pub const INTERRUPTIONS_BEFORE_ON_DEMAND: u32 = 2;

/// Interruptions after which a run fails: whatever kills its workers may well be the run itself.
pub const MAX_INTERRUPTIONS: u32 = 20;

/// Exponential backoff with full jitter over its upper half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Delay before the second attempt, in seconds.
    pub backoff_s: f64,
    /// Growth of the delay with each further attempt.
    pub factor: f64,
    /// The longest delay, in seconds.
    pub max_s: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            backoff_s: 2.0,
            factor: 2.0,
            max_s: 300.0,
        }
    }
}

/// Why a retry policy was refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BadPolicy {
    #[error("backoff_s must be between 0 and 86400, found {0}")]
    Backoff(f64),
    #[error("factor must be between 1 and 100, found {0}")]
    Factor(f64),
    #[error("max_s must be between backoff_s and 604800, found {0}")]
    Max(f64),
}

impl RetryPolicy {
    pub fn check(&self) -> Result<(), BadPolicy> {
        if !(0.0..=86_400.0).contains(&self.backoff_s) {
            return Err(BadPolicy::Backoff(self.backoff_s));
        }
        if !(1.0..=100.0).contains(&self.factor) {
            return Err(BadPolicy::Factor(self.factor));
        }
        if !(self.backoff_s..=604_800.0).contains(&self.max_s) {
            return Err(BadPolicy::Max(self.max_s));
        }
        Ok(())
    }

    /// How long to wait after attempt `attempt` (from 1) failed; `random` in `0..1` spreads the herd over the
    /// upper half of the delay. A server's `Retry-After` is a lower bound.
    pub fn delay(&self, attempt: u32, random: f64, retry_after: Option<Duration>) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let full = (self.backoff_s * self.factor.powi(exponent)).min(self.max_s);
        let jittered = full * (0.5 + 0.5 * random.clamp(0.0, 1.0));
        let delay = Duration::try_from_secs_f64(jittered).unwrap_or(Duration::from_secs(604_800));
        delay.max(retry_after.unwrap_or_default())
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    RetryIn(Duration),
    Fail,
}

/// Decides after attempt `attempt` (from 1) of `max_attempts` failed.
pub fn after_failure(
    policy: &RetryPolicy,
    attempt: u32,
    max_attempts: u32,
    retryable: bool,
    random: f64,
    retry_after: Option<Duration>,
) -> AfterFailure {
    if retryable && attempt < max_attempts {
        AfterFailure::RetryIn(policy.delay(attempt, random, retry_after))
    } else {
        AfterFailure::Fail
    }
}

/// What follows an interruption, `interruptions` counting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterInterruption {
    Requeue { on_demand: bool },
    Fail,
}

/// Decides after a machine was lost or drained (invariant I4).
pub fn after_interruption(interruptions: u32) -> AfterInterruption {
    if interruptions > MAX_INTERRUPTIONS {
        AfterInterruption::Fail
    } else {
        AfterInterruption::Requeue {
            on_demand: interruptions >= INTERRUPTIONS_BEFORE_ON_DEMAND,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_table() {
        let policy = RetryPolicy {
            backoff_s: 2.0,
            factor: 3.0,
            max_s: 30.0,
        };
        let seconds = |attempt, random| policy.delay(attempt, random, None).as_secs_f64();
        assert_eq!(seconds(1, 1.0), 2.0);
        assert_eq!(seconds(1, 0.0), 1.0);
        assert_eq!(seconds(2, 1.0), 6.0);
        assert_eq!(seconds(3, 1.0), 18.0);
        assert_eq!(seconds(4, 1.0), 30.0);
        assert_eq!(seconds(u32::MAX, 1.0), 30.0);
        assert_eq!(
            policy.delay(1, 0.0, Some(Duration::from_secs(9))),
            Duration::from_secs(9)
        );
    }

    #[test]
    fn decisions_table() {
        let policy = RetryPolicy {
            backoff_s: 0.0,
            factor: 1.0,
            max_s: 0.0,
        };
        let decide = |attempt, retryable| after_failure(&policy, attempt, 3, retryable, 0.5, None);
        assert_eq!(decide(1, true), AfterFailure::RetryIn(Duration::ZERO));
        assert_eq!(decide(2, true), AfterFailure::RetryIn(Duration::ZERO));
        assert_eq!(decide(3, true), AfterFailure::Fail);
        assert_eq!(decide(1, false), AfterFailure::Fail);
        assert_eq!(
            after_interruption(1),
            AfterInterruption::Requeue { on_demand: false }
        );
        assert_eq!(
            after_interruption(2),
            AfterInterruption::Requeue { on_demand: true }
        );
        assert_eq!(
            after_interruption(MAX_INTERRUPTIONS),
            AfterInterruption::Requeue { on_demand: true }
        );
        assert_eq!(after_interruption(MAX_INTERRUPTIONS + 1), AfterInterruption::Fail);
    }

    proptest! {
        #[test]
        fn a_checked_policy_never_waits_longer_than_its_maximum(
            backoff_s in -1.0f64..1e6, factor in 0.0f64..200.0, max_s in -1.0f64..1e7,
            attempt in 0u32.., random in -1.0f64..2.0,
        ) {
            let policy = RetryPolicy { backoff_s, factor, max_s };
            if policy.check().is_ok() {
                let delay = policy.delay(attempt, random, None).as_secs_f64();
                prop_assert!(delay <= max_s + 1e-6);
                prop_assert!(delay >= 0.5 * backoff_s - 1e-6);
            }
        }

        #[test]
        fn attempts_are_bounded(max in 1u32..50, retryable in any::<bool>()) {
            let mut attempt = 1;
            while let AfterFailure::RetryIn(_) =
                after_failure(&RetryPolicy::default(), attempt, max, retryable, 0.3, None)
            {
                attempt += 1;
                prop_assert!(attempt <= max);
            }
            prop_assert_eq!(attempt, if retryable { max } else { 1 });
        }
    }
}
