//! How long and how often a model server is asked.

use std::time::Duration;

/// Timeouts and retries of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
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

impl Default for Settings {
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

const LONGEST: Duration = Duration::from_secs(24 * 3600);
const MOST_RETRIES: u32 = 10;

impl Settings {
    /// The defaults, changed by variables. What is not a sensible number is ignored with a warning.
    pub(crate) fn from_variables(variables: &dyn Fn(&str) -> Option<String>) -> Self {
        let defaults = Self::default();
        let seconds = |name: &str, default: Duration| {
            number(variables, name).map_or(default, |seconds| duration(seconds).unwrap_or(default))
        };
        Self {
            total: seconds("FLOWFLEET_MODEL_TIMEOUT_S", defaults.total),
            first_byte: seconds("FLOWFLEET_MODEL_FIRST_BYTE_TIMEOUT_S", defaults.first_byte),
            idle: seconds("FLOWFLEET_MODEL_IDLE_TIMEOUT_S", defaults.idle),
            max_retries: number(variables, "FLOWFLEET_MODEL_MAX_RETRIES")
                .map_or(defaults.max_retries, |retries| clamp_retries(retries as i64)),
            max_wait: seconds("FLOWFLEET_MODEL_MAX_WAIT_S", defaults.max_wait),
        }
    }

    /// What the node's own fields say, within the same bounds.
    pub(crate) fn with_node(mut self, timeout_s: Option<f64>, max_retries: Option<i64>) -> Self {
        if let Some(timeout) = timeout_s.and_then(duration) {
            self.total = timeout;
        }
        if let Some(retries) = max_retries {
            self.max_retries = clamp_retries(retries);
        }
        self
    }
}

fn clamp_retries(retries: i64) -> u32 {
    u32::try_from(retries.max(0))
        .unwrap_or(MOST_RETRIES)
        .min(MOST_RETRIES)
}

fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .map(|d| d.min(LONGEST))
}

fn number(variables: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<f64> {
    let text = variables(name)?;
    let number = text
        .trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0);
    if number.is_none() {
        tracing::warn!(name, "not a number of zero or more; using the default");
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_change_the_defaults_within_bounds() {
        let settings = Settings::from_variables(&|name| match name {
            "FLOWFLEET_MODEL_TIMEOUT_S" => Some("1.5".to_owned()),
            "FLOWFLEET_MODEL_FIRST_BYTE_TIMEOUT_S" => Some("0".to_owned()),
            "FLOWFLEET_MODEL_IDLE_TIMEOUT_S" => Some("soon".to_owned()),
            "FLOWFLEET_MODEL_MAX_RETRIES" => Some("1000".to_owned()),
            "FLOWFLEET_MODEL_MAX_WAIT_S" => Some("1e300".to_owned()),
            _ => None,
        });
        let defaults = Settings::default();
        assert_eq!(settings.total, Duration::from_millis(1500));
        assert_eq!(settings.first_byte, defaults.first_byte);
        assert_eq!(settings.idle, defaults.idle);
        assert_eq!(settings.max_retries, MOST_RETRIES);
        assert_eq!(settings.max_wait, defaults.max_wait);
        let node = defaults.with_node(Some(-1.0), Some(-5));
        assert_eq!((node.total, node.max_retries), (Duration::from_secs(600), 0));
    }
}
