//! How the server behaves.

use std::time::Duration;

/// Settings. The default answers at once and never fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Before the first token, in milliseconds.
    pub latency_ms: u64,
    /// At most this much more, chosen by the seed and the message, so that a run of tests can be repeated.
    pub jitter_ms: u64,
    /// Tokens a second after the first one; zero or less sends them at once.
    pub tokens_per_s: f64,
    /// Changes jitter and which requests fail.
    pub seed: u64,
    /// Every n-th request fails; zero for none. The first one to fail is number n, less the seed.
    pub fail_every: u64,
    /// The first so many requests fail.
    pub fail_first: u64,
    /// The HTTP status of failures.
    pub fail_status: u16,
    /// `Retry-After` of failures, in seconds.
    pub retry_after_s: Option<u64>,
    /// Requests without this bearer token are refused with 401.
    pub api_key: Option<String>,
    /// So many of the last requests' bodies are kept, for tests that look at them.
    pub keep: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            jitter_ms: 0,
            tokens_per_s: 0.0,
            seed: 0,
            fail_every: 0,
            fail_first: 0,
            fail_status: 429,
            retry_after_s: None,
            api_key: None,
            keep: 0,
        }
    }
}

impl Config {
    /// Before the first token of the answer to this message.
    pub(crate) fn latency(&self, message: &str) -> Duration {
        let jitter = match self.jitter_ms {
            0 => 0,
            most => hash(self.seed, message) % most.saturating_add(1),
        };
        Duration::from_millis(self.latency_ms.saturating_add(jitter))
    }

    /// Between two tokens; none if they are sent at once.
    pub(crate) fn pace(&self) -> Option<Duration> {
        (self.tokens_per_s > 0.0)
            .then(|| Duration::try_from_secs_f64(1.0 / self.tokens_per_s).ok())
            .flatten()
    }

    /// Whether the request with this number, counted from one, fails.
    pub(crate) fn fails(&self, number: u64) -> bool {
        number <= self.fail_first
            || (self.fail_every > 0 && number.wrapping_add(self.seed).is_multiple_of(self.fail_every))
    }
}

/// FNV-1a: the same on every machine and in every release.
fn hash(seed: u64, text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = text.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_bounded_and_repeatable() {
        let config = Config {
            latency_ms: 10,
            jitter_ms: 5,
            seed: 7,
            ..Config::default()
        };
        let latencies: Vec<u128> = (0..200)
            .map(|n| config.latency(&format!("m{n}")).as_millis())
            .collect();
        assert!(latencies.iter().all(|ms| (10..=15).contains(ms)));
        for ms in 10..=15 {
            assert!(latencies.contains(&ms), "{ms} never came");
        }
        assert_eq!(config.latency("m1"), config.latency("m1"));
        assert_eq!(
            Config {
                jitter_ms: u64::MAX,
                latency_ms: u64::MAX,
                ..config
            }
            .latency("m")
            .as_millis(),
            u128::from(u64::MAX)
        );
    }

    #[test]
    fn failures_are_the_first_ones_and_every_nth() {
        let failing = |config: Config| (1..=6).filter(|n| config.fails(*n)).collect::<Vec<_>>();
        assert_eq!(failing(Config::default()), [0; 0]);
        assert_eq!(
            failing(Config {
                fail_every: 3,
                ..Config::default()
            }),
            [3, 6]
        );
        assert_eq!(
            failing(Config {
                fail_every: 3,
                seed: 1,
                ..Config::default()
            }),
            [2, 5]
        );
        assert_eq!(
            failing(Config {
                fail_first: 2,
                ..Config::default()
            }),
            [1, 2]
        );
    }

    #[test]
    fn no_rate_means_no_pace() {
        for rate in [0.0, -1.0, f64::NAN, 1e-300] {
            assert_eq!(
                Config {
                    tokens_per_s: rate,
                    ..Config::default()
                }
                .pace(),
                None,
                "{rate}"
            );
        }
        assert_eq!(
            Config {
                tokens_per_s: 50.0,
                ..Config::default()
            }
            .pace(),
            Some(Duration::from_millis(20))
        );
    }
}
