//! Settings in layers: defaults, then a file, then the environment, then flags.
//!
//! A service describes its settings as one flat struct with `#[serde(default)]`; the keys and types of its
//! default value are the keys and types of the file (`key = value`), of the environment (`FLOWFLEET_<KEY>`, or
//! `FLOWFLEET_<KEY>_FILE` naming a file that holds the value) and of its flags. A struct inside it is a `[table]` of
//! the file, and `FLOWFLEET_<TABLE>_<KEY>` in the environment. A key of the file that nobody knows is an error; other
//! `FLOWFLEET_` variables are left alone, because processes share an environment. A reference to AWS Secrets Manager
//! (`aws-secret:NAME#key`), which this build cannot resolve, is refused rather than used as if it were the secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::redact;
pub use crate::redact::{Secret, SecretUrl};

/// What every name in the environment starts with.
pub const PREFIX: &str = "FLOWFLEET_";

/// Where a process keeps its things: the keys that every process knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backends {
    pub store_url: SecretUrl,
    pub queue_url: SecretUrl,
    pub bus_url: SecretUrl,
    pub blob_url: SecretUrl,
}

impl Default for Backends {
    fn default() -> Self {
        Self {
            store_url: "sqlite:.flowfleet/flowfleet.db".into(),
            queue_url: "memory:".into(),
            bus_url: "memory:".into(),
            blob_url: "file:.flowfleet/blobs".into(),
        }
    }
}

/// Why settings were refused. Each says where the value came from.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}{}: {source}", for_variable(.variable.as_deref()))]
    Read {
        path: PathBuf,
        /// The `..._FILE` variable that named it.
        variable: Option<String>,
        source: std::io::Error,
    },
    #[error("{path} is not valid TOML: {detail}")]
    Syntax { path: PathBuf, detail: String },
    #[error("{origin}: key {key:?} is not known{}", suggestion(.nearest.as_deref()))]
    UnknownKey {
        origin: String,
        key: String,
        nearest: Option<String>,
    },
    #[error("{origin}: {key}: {detail}")]
    Invalid {
        origin: String,
        key: String,
        detail: String,
    },
    #[error(
        "{origin}: {key}: a reference to AWS Secrets Manager (aws-secret:...) is not available in this build; use \
         {variable}_FILE or {variable}"
    )]
    Reference {
        origin: String,
        key: String,
        /// Where the value itself may be put.
        variable: String,
    },
    #[error("these settings have no valid defaults: {0}")]
    Defaults(String),
}

fn for_variable(variable: Option<&str>) -> String {
    variable
        .map(|name| format!(" (named by {name})"))
        .unwrap_or_default()
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest
        .map(|key| format!("; did you mean {key:?}?"))
        .unwrap_or_default()
}

/// Loads settings: defaults, `file`, the environment of this process, `flags` (only those that were given).
pub fn load<T>(file: Option<&Path>, flags: Table) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    load_from(file, &|name| std::env::var(name).ok(), flags)
}

/// [`load`] with the environment as an argument.
pub fn load_from<T>(
    file: Option<&Path>,
    environment: &dyn Fn(&str) -> Option<String>,
    flags: Table,
) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let Some(path) = file else {
        return layered(None, environment, flags);
    };
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        variable: None,
        source,
    })?;
    layered(Some((path, &text)), environment, flags)
}

/// [`load_from`] with the text of the file.
pub(crate) fn layered<T>(
    file: Option<(&Path, &str)>,
    environment: &dyn Fn(&str) -> Option<String>,
    flags: Table,
) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let known =
        serde_json::to_value(T::default()).map_err(|error| ConfigError::Defaults(error.to_string()))?;
    let mut layers = Layers::<T> {
        values: Table::new(),
        origins: BTreeMap::new(),
        kind: std::marker::PhantomData,
    };
    if let Some((path, text)) = file {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax {
                path: path.to_owned(),
                detail: error.to_string(),
            })?;
        let origin = path.display().to_string();
        known_keys(&table, &known, "", &origin)?;
        layers.merge(table, &origin)?;
    }
    for (key, value, variable) in from_environment(&known, environment)? {
        layers.merge_text(&key, &value, &known, &variable)?;
    }
    known_keys(&flags, &known, "", "flag")?;
    for (key, value) in flags {
        let origin = format!("flag --{}", key.replace('_', "-"));
        layers.merge(Table::from_iter([(key, value)]), &origin)?;
    }
    parse(layers.values).map_err(|detail| ConfigError::Invalid {
        origin: "settings".to_owned(),
        key: layers.origins.into_values().collect::<Vec<_>>().join(", "),
        detail,
    })
}

/// The settings as TOML with every secret masked: passwords in URLs, and keys named so.
pub fn print_redacted<T: Serialize>(settings: &T) -> String {
    match serde_json::to_value(settings) {
        Ok(mut json) => {
            mask("", &mut json);
            to_toml(&json)
        }
        Err(error) => format!("# cannot be printed: {error}\n"),
    }
}

struct Layers<T> {
    values: Table,
    /// Which layer set a key last, for errors.
    origins: BTreeMap<String, String>,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Layers<T> {
    /// Puts one layer over those before, checking each of its keys alone so that the error names its origin.
    fn merge(&mut self, layer: Table, origin: &str) -> Result<(), ConfigError> {
        for (key, value) in layer {
            if let Some(key) = reference_in(&key, &value) {
                return Err(ConfigError::Reference {
                    origin: origin.to_owned(),
                    variable: format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase()),
                    key,
                });
            }
            parse::<T>(Table::from_iter([(key.clone(), value.clone())])).map_err(|detail| {
                ConfigError::Invalid {
                    origin: origin.to_owned(),
                    key: key.clone(),
                    detail,
                }
            })?;
            overlay(&mut self.values, &key, value);
            self.origins.insert(key, origin.to_owned());
        }
        Ok(())
    }

    /// The same for text from the environment, read as the type of the default at `path`.
    fn merge_text(
        &mut self,
        path: &[String],
        text: &str,
        known: &Json,
        origin: &str,
    ) -> Result<(), ConfigError> {
        let default = path
            .iter()
            .try_fold(known, |value, key| value.get(key))
            .unwrap_or(&Json::Null);
        let mut refused = None;
        for value in readings(text, default) {
            let table = nest(path, value);
            match self.merge(table, origin) {
                Ok(()) => return Ok(()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

/// Whether a value names a secret of AWS Secrets Manager instead of being one.
pub fn is_reference(text: &str) -> bool {
    const SCHEME: &str = "aws-secret:";
    let start = text.trim_start().get(..SCHEME.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
}

/// The key below `key` whose value is such a reference.
fn reference_in(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => is_reference(text).then(|| key.to_owned()),
        Value::Array(items) => items.iter().find_map(|item| reference_in(key, item)),
        Value::Table(table) => table
            .iter()
            .find_map(|(inner, value)| reference_in(&format!("{key}.{inner}"), value)),
        _ => None,
    }
}

/// A table as `T`, with an error of one line.
fn parse<T: DeserializeOwned>(table: Table) -> Result<T, String> {
    Value::Table(table).try_into::<T>().map_err(|error| {
        let text = error.to_string();
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    })
}

/// Sets `key`; tables are merged key by key.
fn overlay(under: &mut Table, key: &str, value: Value) {
    match (under.get_mut(key), value) {
        (Some(Value::Table(below)), Value::Table(above)) => {
            for (key, value) in above {
                overlay(below, &key, value);
            }
        }
        (_, value) => {
            under.insert(key.to_owned(), value);
        }
    }
}

fn nest(path: &[String], value: Value) -> Table {
    match path {
        [] => Table::new(),
        [key] => Table::from_iter([(key.clone(), value)]),
        [key, rest @ ..] => Table::from_iter([(key.clone(), Value::Table(nest(rest, value)))]),
    }
}

/// What `text` may mean for a key whose default is `default`, likeliest first.
fn readings(text: &str, default: &Json) -> Vec<Value> {
    let trimmed = text.trim();
    let number = || -> Option<Value> {
        trimmed
            .parse::<i64>()
            .map(Value::Integer)
            .ok()
            .or_else(|| trimmed.parse().ok().map(Value::Float))
    };
    let string = || Value::String(text.to_owned());
    match default {
        Json::Bool(_) => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => vec![Value::Boolean(true)],
            "false" | "0" | "no" | "off" => vec![Value::Boolean(false)],
            _ => vec![string()],
        },
        Json::Number(_) => vec![number().unwrap_or_else(string)],
        Json::Array(_) => {
            let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
            vec![Value::Array(
                items.map(|item| Value::String(item.to_owned())).collect(),
            )]
        }
        Json::String(_) | Json::Object(_) => vec![string()],
        // An optional key without a value tells nothing of its type: text first, then what it looks like.
        Json::Null => {
            let boolean = trimmed.parse().map(Value::Boolean).ok();
            std::iter::once(string()).chain(number()).chain(boolean).collect()
        }
    }
}

/// Every key that the environment sets: its path, its text, and the variable it came from.
fn from_environment(
    known: &Json,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(Vec<String>, String, String)>, ConfigError> {
    let mut paths = Vec::new();
    leaves(known, &mut Vec::new(), &mut paths);
    let mut found = Vec::new();
    for path in paths {
        let variable = format!("{PREFIX}{}", path.join("_").to_ascii_uppercase());
        let file = format!("{variable}_FILE");
        match (environment(&variable), environment(&file)) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::Invalid {
                    origin: "environment".to_owned(),
                    key: variable,
                    detail: format!("{file} is set as well: keep one of them"),
                });
            }
            (Some(text), None) => found.push((path, text, variable)),
            (None, Some(name)) => {
                let text = std::fs::read_to_string(&name).map_err(|source| ConfigError::Read {
                    path: PathBuf::from(name),
                    variable: Some(file.clone()),
                    source,
                })?;
                found.push((path, text.trim_end_matches(['\r', '\n']).to_owned(), file));
            }
            (None, None) => {}
        }
    }
    Ok(found)
}

fn leaves(value: &Json, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                path.push(key.clone());
                leaves(value, path, found);
                path.pop();
            }
        }
        _ => found.push(path.clone()),
    }
}

/// Refuses the first key of `table` that `known` does not have, also inside its tables.
fn known_keys(table: &Table, known: &Json, inside: &str, origin: &str) -> Result<(), ConfigError> {
    let Json::Object(keys) = known else { return Ok(()) };
    for (key, value) in table {
        let full = if inside.is_empty() {
            key.clone()
        } else {
            format!("{inside}.{key}")
        };
        match (keys.get(key), value) {
            (None, _) => {
                return Err(ConfigError::UnknownKey {
                    origin: origin.to_owned(),
                    key: full,
                    nearest: nearest(key, keys.keys().map(String::as_str)),
                });
            }
            (Some(deeper @ Json::Object(_)), Value::Table(table)) => {
                known_keys(table, deeper, &full, origin)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The key most like `wanted`, if any is alike at all.
fn nearest<'a>(wanted: &str, keys: impl Iterator<Item = &'a str>) -> Option<String> {
    let wanted = wanted.to_ascii_lowercase().replace('-', "_");
    let limit = (wanted.chars().count() / 3).max(2);
    keys.map(|key| (edits(&wanted, key), key))
        .filter(|(distance, key)| *distance <= limit || key.contains(&wanted) && wanted.len() > 2)
        .min()
        .map(|(_, key)| key.to_owned())
}

/// Levenshtein's distance: insertions, deletions and replacements from `a` to `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

fn mask(name: &str, value: &mut Json) {
    match value {
        Json::Object(map) => map.iter_mut().for_each(|(key, value)| mask(key, value)),
        Json::Array(items) => items.iter_mut().for_each(|item| mask(name, item)),
        Json::String(text) if text.is_empty() => {}
        Json::String(text) if redact::is_secret_name(name) => redact::MASK.clone_into(text),
        Json::String(text) => *text = redact::url(text),
        _ => {}
    }
}

/// TOML of a JSON object; a key without a value becomes a comment, so that it is seen.
fn to_toml(json: &Json) -> String {
    let Json::Object(map) = json else {
        return String::new();
    };
    let (tables, plain): (Vec<_>, Vec<_>) = map.iter().partition(|(_, value)| value.is_object());
    let mut text = String::new();
    for (key, value) in plain {
        match Value::try_from(value) {
            Ok(value) => text.push_str(&format!("{key} = {value}\n")),
            Err(_) => text.push_str(&format!("# {key} is not set\n")),
        }
    }
    for (key, value) in tables {
        text.push_str(&format!("\n[{key}]\n{}", to_toml(value)));
    }
    text
}
