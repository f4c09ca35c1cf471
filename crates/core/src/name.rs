//! Names users choose, parsed at the edge: inside, the type carries the proof.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not valid: use 1 to {max} of {allowed}, starting with a letter or digit")]
pub struct BadName {
    pub what: &'static str,
    pub found: String,
    pub max: usize,
    pub allowed: &'static str,
}

const ALLOWED: &str = "a-z, A-Z, 0-9, '-', '_' and '.'";

fn check(what: &'static str, text: &str, max: usize) -> Result<(), BadName> {
    let fine = text.len() <= max
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fine {
        return Ok(());
    }
    let found = text.chars().take(max.saturating_add(1)).collect();
    Err(BadName {
        what,
        found,
        max,
        allowed: ALLOWED,
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub const MAX: usize = $max;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                check($what, text, $max)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                check($what, &text, $max)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a flow within its tenant.
    FlowName, "flow name", 128
);
name!(
    /// A queue: the pool of workers a run waits for.
    QueueName, "queue name", 64
);
name!(
    /// The name of a knowledge base within its tenant.
    KnowledgeName, "knowledge base name", 255
);
name!(
    /// Who a row belongs to.
    Tenant, "tenant", 64
);

name!(
    /// Something that not every worker can do.
    Capability, "capability", 32
);

impl Capability {
    /// One of ours, whose name is right.
    pub(crate) fn known(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

impl Default for Capability {
    fn default() -> Self {
        Self::known("native")
    }
}

impl Default for QueueName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// A run's labels: at most [`Labels::MAX`], keys shaped as names, values up to 256 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

/// Why labels were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabels {
    #[error("a run may carry at most {max} labels, found {0}", max = Labels::MAX)]
    TooMany(usize),
    #[error(transparent)]
    Key(#[from] BadName),
    #[error("the value of label {0:?} is longer than {max} bytes or has control characters", max = Labels::MAX_VALUE)]
    Value(String),
}

impl Labels {
    pub const MAX: usize = 32;
    pub const MAX_VALUE: usize = 256;

    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = BadLabels;
    fn try_from(map: BTreeMap<String, String>) -> Result<Self, BadLabels> {
        if map.len() > Self::MAX {
            return Err(BadLabels::TooMany(map.len()));
        }
        for (key, value) in &map {
            check("label", key, 64)?;
            if value.len() > Self::MAX_VALUE || value.chars().any(char::is_control) {
                return Err(BadLabels::Value(key.clone()));
            }
        }
        Ok(Self(map))
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_table() {
        for good in ["a", "basic-prompting", "A.b_c-9", "0"] {
            assert!(good.parse::<FlowName>().is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a@1", long.as_str()] {
            assert!(bad.parse::<FlowName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_parses_survives_json(text in ".{0,70}") {
            if let Ok(name) = text.parse::<QueueName>() {
                let json = serde_json::to_string(&name).unwrap();
                prop_assert_eq!(serde_json::from_str::<QueueName>(&json).unwrap(), name);
            } else {
                prop_assert!(serde_json::from_value::<QueueName>(text.into()).is_err());
            }
        }
    }
}
