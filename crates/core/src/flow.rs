//! How a run names its flow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{BadName, FlowName};

/// `name` (the newest version) or `name@3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FlowRef {
    pub name: FlowName,
    pub version: Option<u32>,
}

/// Why a flow reference was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFlowRef {
    #[error(transparent)]
    Name(#[from] BadName),
    #[error("flow version {0:?} is not a positive number: write name or name@3")]
    Version(String),
}

impl FromStr for FlowRef {
    type Err = BadFlowRef;

    fn from_str(text: &str) -> Result<Self, BadFlowRef> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(Self {
                name: text.parse()?,
                version: None,
            });
        };
        let number = version
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| version.parse::<u32>().ok())
            .flatten();
        match number {
            Some(number) if number > 0 => Ok(Self {
                name: name.parse()?,
                version: Some(number),
            }),
            _ => Err(BadFlowRef::Version(version.chars().take(32).collect())),
        }
    }
}

impl fmt::Display for FlowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// One immutable version of a flow, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FlowVersion {
    pub name: FlowName,
    pub version: u32,
    /// Lower-case hex sha256 of the document: plans are cached by it.
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        assert_eq!("a".parse::<FlowRef>().unwrap().version, None);
        assert_eq!("a@3".parse::<FlowRef>().unwrap().version, Some(3));
        for bad in [
            "",
            "@",
            "a@",
            "a@0",
            "a@-1",
            "a@+1",
            "a@x",
            "a@1@2",
            "a@99999999999",
        ] {
            assert!(bad.parse::<FlowRef>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_to_the_same(text in "[a-zA-Z0-9._-]{1,20}(@[0-9]{1,9})?") {
            if let Ok(flow) = text.parse::<FlowRef>() {
                prop_assert_eq!(flow.to_string().parse::<FlowRef>().unwrap(), flow);
            }
        }
    }
}
