//! Settings that are read from the process's environment alone, once, with everything that is wrong said at once.

use std::time::Duration;

use crate::outbound::Host;

/// The longest time a setting can ask for.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);
pub(crate) const MOST_RETRIES: u32 = 10;

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct InvalidSettings(pub Vec<String>);

/// Reads settings and gathers what is wrong, so that all of it is said at once.
pub(crate) struct Reader<'e> {
    environment: &'e dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl<'e> Reader<'e> {
    pub(crate) fn of(environment: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            environment,
            problems: Vec::new(),
        }
    }

    /// What was read, unless something was wrong.
    pub(crate) fn end<T>(self, settings: T) -> Result<T, InvalidSettings> {
        match self.problems.is_empty() {
            true => Ok(settings),
            false => Err(InvalidSettings(self.problems)),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = (self.environment)(name)?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    pub(crate) fn seconds(&mut self, name: &str, default: Duration) -> Duration {
        let Some(text) = self.text(name) else {
            return default;
        };
        let seconds = text
            .parse()
            .ok()
            .and_then(|s| Duration::try_from_secs_f64(s).ok());
        seconds
            .filter(|seconds| !seconds.is_zero() && *seconds <= LONGEST)
            .unwrap_or_else(|| {
                let most = LONGEST.as_secs();
                self.problems.push(format!(
                    "{name} must be a number of seconds above 0 and at most {most}, not {text:?}"
                ));
                default
            })
    }

    pub(crate) fn retries(&mut self, name: &str, default: u32) -> u32 {
        let Some(text) = self.text(name) else {
            return default;
        };
        let retries = text.parse().ok().filter(|retries| *retries <= MOST_RETRIES);
        retries.unwrap_or_else(|| {
            self.problems.push(format!(
                "{name} must be a whole number from 0 to {MOST_RETRIES}, not {text:?}"
            ));
            default
        })
    }

    pub(crate) fn hosts(&mut self, name: &str) -> Vec<Host> {
        let text = self.text(name).unwrap_or_default();
        let mut hosts = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry.parse() {
                Ok(host) => hosts.push(host),
                Err(error) => self.problems.push(format!("{name}: {error}")),
            }
        }
        hosts
    }

    /// The address of a service.
    pub(crate) fn url(&mut self, name: &str, default: String) -> String {
        let Some(text) = self.text(name) else {
            return default;
        };
        match reqwest::Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => text,
            _ => {
                self.problems.push(format!(
                    "{name} must be a URL such as https://host/path, not {text:?}"
                ));
                default
            }
        }
    }
}
