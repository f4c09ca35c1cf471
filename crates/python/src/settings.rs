//! What an operator says about Python: whether, where, how many, and how much of it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings under `[python]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether flows may run in Python at all.
    pub enabled: bool,
    /// The virtual environment with lfx, or its interpreter; empty for where `flowfleet python install` puts it.
    pub venv: PathBuf,
    /// Processes that run flows side by side.
    pub children: u32,
    /// Runs that share a process.
    pub runs_per_child: u32,
    /// A process that has run this many is replaced.
    pub recycle_after_runs: u32,
    /// A process with more memory than this is replaced after its run.
    pub recycle_mib: u32,
    /// A process with more memory than this is killed; 0 for no limit.
    pub memory_mib: u32,
    /// What one run may say: its longest line, and a quarter of all of it.
    pub output_mib: u32,
    /// The longest a run may take, whatever the run itself allows.
    pub run_timeout_s: f64,
    /// How long lfx may take to load.
    pub start_timeout_s: f64,
    /// How long a cancelled run may take to end by itself.
    pub cancel_grace_s: f64,
    /// The user the processes run as, by name or number; empty for this process's own.
    pub user: String,
    /// A program and its arguments that the interpreter is started with, such as `unshare`.
    pub wrapper: Vec<String>,
    /// What the processes have in their environment besides: `NAME=VALUE`, or `NAME` for this process's own.
    pub environment: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            venv: PathBuf::new(),
            children: 4,
            runs_per_child: 1,
            recycle_after_runs: 250,
            recycle_mib: 700,
            memory_mib: 1_024,
            output_mib: 32,
            run_timeout_s: 3_600.0,
            start_timeout_s: 180.0,
            cancel_grace_s: 5.0,
            user: String::new(),
            wrapper: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSettings {
    #[error("python.{key} must be between {least} and {most}, found {found}")]
    Range {
        key: &'static str,
        least: String,
        most: String,
        found: String,
    },
    #[error("python.environment: {0:?} is a setting of the fleet and is never passed on")]
    OwnSetting(String),
    #[error("python.wrapper: its first word is the program to start, found an empty one")]
    EmptyWrapper,
}

impl Settings {
    pub fn check(&self) -> Result<(), BadSettings> {
        let numbers = [
            ("children", f64::from(self.children), 1.0, 256.0),
            ("runs_per_child", f64::from(self.runs_per_child), 1.0, 64.0),
            ("recycle_after_runs", f64::from(self.recycle_after_runs), 1.0, 1e6),
            ("recycle_mib", f64::from(self.recycle_mib), 64.0, 1e6),
            ("memory_mib", f64::from(self.memory_mib), 0.0, 1e6),
            ("output_mib", f64::from(self.output_mib), 1.0, 256.0),
            ("run_timeout_s", self.run_timeout_s, 0.1, 604_800.0),
            ("start_timeout_s", self.start_timeout_s, 1.0, 3_600.0),
            ("cancel_grace_s", self.cancel_grace_s, 0.0, 60.0),
        ];
        for (key, found, least, most) in numbers {
            if !(least..=most).contains(&found) {
                return Err(BadSettings::Range {
                    key,
                    least: least.to_string(),
                    most: most.to_string(),
                    found: found.to_string(),
                });
            }
        }
        // lfx alone takes a quarter of this.
        if (1..256).contains(&self.memory_mib) {
            return Err(BadSettings::Range {
                key: "memory_mib",
                least: "256 (or 0 for no limit)".to_owned(),
                most: "1000000".to_owned(),
                found: self.memory_mib.to_string(),
            });
        }
        if let Some(name) = self.environment.iter().find(|name| is_own(name)) {
            return Err(BadSettings::OwnSetting(name.clone()));
        }
        if self.wrapper.first().is_some_and(|program| program.is_empty()) {
            return Err(BadSettings::EmptyWrapper);
        }
        Ok(())
    }

    /// Where the virtual environment is: the setting, or the place `flowfleet python install` chooses.
    pub fn venv(&self) -> PathBuf {
        if self.venv.as_os_str().is_empty() {
            default_venv()
        } else {
            self.venv.clone()
        }
    }

    pub(crate) fn run_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.run_timeout_s)
    }

    pub(crate) fn start_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.start_timeout_s)
    }

    pub(crate) fn cancel_grace(&self) -> Duration {
        Duration::from_secs_f64(self.cancel_grace_s)
    }

    pub(crate) fn line_bytes(&self) -> usize {
        (self.output_mib as usize) << 20
    }
}

fn is_own(name: &str) -> bool {
    name.to_ascii_uppercase().starts_with("FLOWFLEET_")
}

/// `$XDG_DATA_HOME/flowfleet/python`, or under `~/.local/share`.
pub fn default_venv() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    folder("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(folder("HOME")?).join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("flowfleet/python")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_table() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().map_err(|error| error.to_string())
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|s| s.memory_mib = 0), Ok(()));
        for (refused, said) in [
            (
                with(|s| s.children = 0),
                "python.children must be between 1 and 256, found 0",
            ),
            (
                with(|s| s.memory_mib = 64),
                "python.memory_mib must be between 256",
            ),
            (with(|s| s.run_timeout_s = f64::NAN), "python.run_timeout_s"),
            (with(|s| s.cancel_grace_s = -1.0), "python.cancel_grace_s"),
            (
                with(|s| s.environment = vec!["flowfleet_store_url".into()]),
                "never passed on",
            ),
            (with(|s| s.wrapper = vec![String::new()]), "python.wrapper"),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
