//! Which backends the services would use from here: flags, environment, and a configuration file of theirs.

use std::path::Path;

use flowfleet_runtime::settings::{self, Backends};
use toml::Table;

use crate::failure::{Failure, Result};

const KEYS: [&str; 4] = ["store_url", "queue_url", "bus_url", "blob_url"];

/// Loads them in the services' order: defaults, file, environment, flags. The file may be any service's: its other
/// keys are left alone.
pub(super) fn load(file: Option<&Path>, mut flags: Table) -> Result<Backends> {
    if let Some(path) = file {
        let refused = |why: String| Failure::usage(format!("cannot use {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let mut table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| refused(error.to_string()))?;
        for key in KEYS {
            if let Some(value) = table
                .remove(key)
                .filter(|_| !flags.contains_key(key) && !in_environment(key))
            {
                flags.insert(key.to_owned(), value);
            }
        }
    }
    settings::load(None, flags).map_err(|error| Failure::usage(error.to_string()))
}

fn in_environment(key: &str) -> bool {
    let name = format!("{}{}", settings::PREFIX, key.to_ascii_uppercase());
    std::env::var_os(&name).is_some() || std::env::var_os(format!("{name}_FILE")).is_some()
}
