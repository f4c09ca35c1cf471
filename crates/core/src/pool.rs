//! What a worker can do, what a run needs, and the pool of workers it waits for.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{BadName, Capability, QueueName};

impl Capability {
    /// Executes flows whose components all have a native implementation. What every worker can do unless it is told
    /// otherwise.
    pub fn native() -> Self {
        Self::default()
    }

    /// Has a host for Python, which executes any flow.
    pub fn python() -> Self {
        Self::known("python")
    }

    pub fn is_native(&self) -> bool {
        *self == Self::native()
    }
}

/// What one worker can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<Capability>);

impl Default for Capabilities {
    fn default() -> Self {
        Self::from_iter([Capability::native()])
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<T: IntoIterator<Item = Capability>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Capabilities {
    pub fn has(&self, needed: &Capability) -> bool {
        self.0.contains(needed)
    }

    /// False when it was there already.
    pub fn add(&mut self, capability: Capability) -> bool {
        self.0.insert(capability)
    }

    /// False when it was not there.
    pub fn remove(&mut self, capability: &Capability) -> bool {
        self.0.remove(capability)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Capability> {
        self.0.iter()
    }

    /// The pools of these queues whose runs a worker with all this can execute.
    pub fn pools(&self, queues: &[QueueName]) -> Vec<Pool> {
        let pool = |queue: &QueueName, needs: &Capability| Pool {
            queue: queue.clone(),
            needs: needs.clone(),
        };
        queues
            .iter()
            .flat_map(|queue| self.0.iter().map(move |needs| pool(queue, needs)))
            .collect()
    }
}

/// Where a run waits: its queue, among those that need the same of a worker. Written `default`, or `default:python` for
/// what is not native: no name has a colon. Stores keep it so in the column of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pool {
    pub queue: QueueName,
    pub needs: Capability,
}

impl From<QueueName> for Pool {
    fn from(queue: QueueName) -> Self {
        Self {
            queue,
            needs: Capability::native(),
        }
    }
}

impl FromStr for Pool {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text.split_once(':') {
            None => Ok(text.parse::<QueueName>()?.into()),
            Some((queue, needs)) => Ok(Self {
                queue: queue.parse()?,
                needs: needs.parse()?,
            }),
        }
    }
}

impl TryFrom<String> for Pool {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Pool> for String {
    fn from(pool: Pool) -> Self {
        pool.to_string()
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.needs.is_native() {
            true => self.queue.fmt(f),
            false => write!(f, "{}:{}", self.queue, self.needs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pools_are_written_as_queue_and_need() {
        let native: Pool = "default".parse().unwrap();
        assert_eq!(native, Pool::from(QueueName::default()));
        let python: Pool = "default:python".parse().unwrap();
        assert_eq!(python.needs, Capability::python());
        assert_eq!("a:native".parse::<Pool>().unwrap().to_string(), "a");
        for bad in ["", ":", "a:", ":a", "a:b:c", "a b"] {
            assert!(bad.parse::<Pool>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_worker_serves_each_queue_for_all_it_can_do() {
        let mut can = Capabilities::default();
        let queues = ["a".parse().unwrap(), "b".parse().unwrap()];
        let names = |can: &Capabilities| {
            let pools = can.pools(&queues).into_iter();
            pools.map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(names(&can), ["a", "b"]);
        assert!(can.add(Capability::python()) && !can.add(Capability::python()));
        assert_eq!(names(&can), ["a", "a:python", "b", "b:python"]);
        assert!(can.remove(&Capability::native()) && !can.has(&Capability::native()));
        assert_eq!(names(&can), ["a:python", "b:python"]);
        let json = serde_json::to_string(&can).unwrap();
        assert_eq!(json, r#"["python"]"#);
        assert_eq!(serde_json::from_str::<Capabilities>(&json).unwrap(), can);
    }

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_to_the_same(text in "[a-zA-Z0-9._-]{1,20}(:[a-z0-9]{1,9})?") {
            if let Ok(pool) = text.parse::<Pool>() {
                prop_assert_eq!(pool.to_string().parse::<Pool>().unwrap(), pool);
            }
        }
    }
}
