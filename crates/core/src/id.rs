//! Ids. Those made here are UUIDv7, so that they sort by creation time and index well.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id from the time and the entropy of this machine (the only place in this crate that
            /// reads either: an id decides nothing).
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// One run of a flow.
    RunId
);
uuid_id!(
    /// One flow, as Langflow's API names it: the id in its export, or one made from its tenant and name.
    FlowId
);
uuid_id!(
    /// One worker process, new at every start.
    WorkerId
);
uuid_id!(
    /// One API key.
    KeyId
);

impl RunId {
    /// An id before every run that was made at `at` or later, by the clock of the machine that made it.
    pub fn before(at: Timestamp) -> Self {
        let millis = u128::try_from(at.as_millisecond()).unwrap_or(0);
        Self(Uuid::from_u128(millis << 80))
    }

    /// When the machine that made it made it, to the millisecond.
    pub fn made_at(self) -> Timestamp {
        let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let earlier = Timestamp::now() - std::time::Duration::from_secs(1);
        let id = RunId::generate();
        let made = id.made_at();
        assert!(made > earlier && made <= Timestamp::now());
        assert!(RunId::before(made) < id);
        assert!(RunId::before(made + std::time::Duration::from_millis(1)) > id);
        assert_eq!(RunId::before(Timestamp::MIN).0, Uuid::nil());
    }
}
