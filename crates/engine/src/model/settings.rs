//! The operator's settings of model calls: how long and how often a server is asked, and which hosts are trusted.
//!
//! They come from the process's environment alone, read once. A run's variables have no say in them: whoever submits
//! a run could otherwise lift the limits of the fleet, or trust a host of their own.

use std::time::Duration;

use crate::outbound::Host;
use crate::settings::{InvalidSettings, LONGEST, MOST_RETRIES, Reader};

const TIMEOUT: &str = "FLOWFLEET_MODEL_TIMEOUT_S";
const FIRST_BYTE: &str = "FLOWFLEET_MODEL_FIRST_BYTE_TIMEOUT_S";
const IDLE: &str = "FLOWFLEET_MODEL_IDLE_TIMEOUT_S";
const MAX_RETRIES: &str = "FLOWFLEET_MODEL_MAX_RETRIES";
const MAX_WAIT: &str = "FLOWFLEET_MODEL_MAX_WAIT_S";
pub(super) const HOSTS: &str = "FLOWFLEET_MODEL_HOSTS";

/// Timeouts and retries of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// One try, from connecting to the last byte.
    pub total: Duration,
    /// Until something of the answer arrives; reasoning models think first.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub idle: Duration,
    /// Tries after the first one.
    pub max_retries: u32,
    /// The longest wait before a retry, also if the server asks for more: then the call fails, and the run may be
    /// retried later without holding a slot.
    pub max_wait: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(600),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            max_retries: 3,
            max_wait: Duration::from_secs(60),
        }
    }
}

impl CallLimits {
    /// What the node's own fields say, within the same bounds.
    pub(crate) fn with_node(mut self, timeout_s: Option<f64>, max_retries: Option<i64>) -> Self {
        let timeout = timeout_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) {
            self.total = timeout.min(LONGEST);
        }
        if let Some(retries) = max_retries {
            self.max_retries = u32::try_from(retries.max(0)).map_or(MOST_RETRIES, |n| n.min(MOST_RETRIES));
        }
        self
    }
}

/// What the operator says about model servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelSettings {
    pub limits: CallLimits,
    /// Hosts that the environment's API keys may be sent to and that may have any address, besides OpenAI and the
    /// environment's own base URLs.
    pub hosts: Vec<Host>,
}

impl ModelSettings {
    /// The defaults, changed by the environment of this process.
    pub fn from_env() -> Result<Self, InvalidSettings> {
        // A value that is no Unicode must be noticed as a bad one, not taken for one that is not set.
        Self::read(&|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// A variable set to nothing is one that is not set.
    pub(crate) fn read(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, InvalidSettings> {
        let mut reader = Reader::of(environment);
        let defaults = CallLimits::default();
        let settings = Self {
            limits: CallLimits {
                total: reader.seconds(TIMEOUT, defaults.total),
                first_byte: reader.seconds(FIRST_BYTE, defaults.first_byte),
                idle: reader.seconds(IDLE, defaults.idle),
                max_retries: reader.retries(MAX_RETRIES, defaults.max_retries),
                max_wait: reader.seconds(MAX_WAIT, defaults.max_wait),
            },
            hosts: reader.hosts(HOSTS),
        };
        reader.end(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<ModelSettings, Vec<String>> {
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name);
        ModelSettings::read(&|name| find(name).map(|(_, value)| (*value).to_owned())).map_err(|error| error.0)
    }

    #[test]
    fn the_environment_changes_the_defaults() {
        assert_eq!(read(&[]).unwrap(), ModelSettings::default());
        assert_eq!(
            read(&[(TIMEOUT, ""), (HOSTS, " , ")]).unwrap(),
            ModelSettings::default()
        );
        let settings = read(&[
            (TIMEOUT, "1.5"),
            (FIRST_BYTE, " 2 "),
            (IDLE, "3"),
            (MAX_RETRIES, "0"),
            (MAX_WAIT, "86400"),
            (HOSTS, "models.example.com, other:9000,"),
        ])
        .unwrap();
        let limits = CallLimits {
            total: Duration::from_millis(1500),
            first_byte: Duration::from_secs(2),
            idle: Duration::from_secs(3),
            max_retries: 0,
            max_wait: LONGEST,
        };
        assert_eq!(settings.limits, limits);
        let hosts = ["models.example.com", "other:9000"].map(|host| host.parse().unwrap());
        assert_eq!(settings.hosts, hosts);
    }

    #[test]
    fn a_bad_value_is_named_with_what_it_must_be() {
        for (name, bad, said) in [
            (TIMEOUT, "soon", "seconds"),
            (TIMEOUT, "0", "above 0"),
            (TIMEOUT, "-1", "above 0"),
            (FIRST_BYTE, "nan", "seconds"),
            (IDLE, "1e300", "at most 86400"),
            (MAX_WAIT, "86401", "at most 86400"),
            (MAX_RETRIES, "11", "from 0 to 10"),
            (MAX_RETRIES, "1.5", "whole number"),
            (HOSTS, "https://a.example/v1", "host"),
        ] {
            let problems = read(&[(name, bad)]).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            let problem = &problems[0];
            assert!(
                problem.contains(name) && problem.contains(said) && problem.contains(bad),
                "{problem}"
            );
        }
        let all = read(&[(TIMEOUT, "x"), (MAX_RETRIES, "y"), (HOSTS, "*,ok,a b")]).unwrap_err();
        assert_eq!(all.len(), 4, "all at once: {all:?}");
    }

    #[test]
    fn a_node_changes_the_limits_within_bounds() {
        let node = |timeout, retries| {
            let limits = CallLimits::default().with_node(timeout, retries);
            (limits.total.as_secs(), limits.max_retries)
        };
        assert_eq!(node(None, None), (600, 3));
        assert_eq!(node(Some(5.0), Some(1)), (5, 1));
        assert_eq!(node(Some(-1.0), Some(-5)), (600, 0));
        assert_eq!(node(Some(f64::NAN), Some(i64::MAX)), (600, MOST_RETRIES));
        assert_eq!(node(Some(1e9), None), (LONGEST.as_secs(), 3));
    }
}
