//! Fuzz target of the settings: what holds for any file and environment. Compiled for tests and for `fuzz/` only.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::settings::{layered, print_redacted};

/// Stands between the file and lines of the environment, `NAME=value`.
const ENVIRONMENT: &str = "\n---\n";

/// Settings are refused with a reason, or survive being written; printed, they are a file that can be read.
pub fn settings<T>(bytes: &[u8]) -> Option<T>
where
    T: DeserializeOwned + Serialize + Default + PartialEq + std::fmt::Debug,
{
    let text = std::str::from_utf8(bytes).ok()?;
    let (file, environment) = text.split_once(ENVIRONMENT).unwrap_or((text, ""));
    let variable = |wanted: &str| {
        let pairs = environment.lines().filter_map(|line| line.split_once('='));
        // A variable that names a file would let the input choose what is read.
        let mut values = pairs.filter(|(name, _)| *name == wanted && !name.ends_with("_FILE"));
        values.next().map(|(_, value)| value.to_owned())
    };
    let settings: T = match layered(Some((Path::new("f.toml"), file)), &variable, Table::new()) {
        Ok(settings) => settings,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let printed = print_redacted(&settings);
    let table = printed.parse::<Table>();
    assert!(table.is_ok(), "what is printed is no TOML: {printed}\n{table:?}");
    // Secrets are masked when settings are written: it is from then on that they stay the same.
    if let Ok(written) = toml::to_string(&settings) {
        let again = layered::<T>(Some((Path::new("f.toml"), &written)), &|_| None, Table::new());
        let again = again.ok().and_then(|again| toml::to_string(&again).ok());
        assert_eq!(again.as_ref(), Some(&written), "not read as it was written");
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use flowfleet_mutate::Driver;
    use serde::Deserialize;

    use super::*;
    use crate::redact::{Secret, SecretUrl};
    use crate::telemetry::LogFormat;

    /// One key of each kind that services have.
    #[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        listen: Option<std::net::SocketAddr>,
        store_url: SecretUrl,
        api_key: Secret,
        queues: Vec<String>,
        log_format: LogFormat,
        drain_s: f64,
        limits: Limits,
    }

    #[derive(Debug, PartialEq, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        body_bytes: usize,
        strict: bool,
    }

    #[test]
    fn files_and_environments() {
        let seeds = [
            "listen = \"127.0.0.1:1\"\nstore_url = \"postgres://u:p@h/d\"\ndrain_s = 1\nqueues = [\"a\"]\n[limits]\nbody_bytes = 3",
            "log_format = \"json\"\n---\nFLOWFLEET_LIMITS_BODY_BYTES=4096\nFLOWFLEET_DRAIN_S=3\nFLOWFLEET_QUEUES=a, b",
            "api_key = \"secret\"\n---\nFLOWFLEET_STORE_URL=redis://:secret@h\nFLOWFLEET_LIMITS_STRICT=yes",
        ];
        for seed in seeds {
            assert!(settings::<Config>(seed.as_bytes()).is_some(), "{seed}");
        }
        Driver::new("settings")
            .seeds(seeds)
            .cases(10_000)
            .run(|bytes| drop(settings::<Config>(bytes)));
    }
}
