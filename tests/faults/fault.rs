//! What can go wrong, and to whom. How it is done is in `inject`.

use std::fmt;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::proxy::Mode;

pub const DISPATCHERS: usize = 2;
pub const WORKERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Dispatcher,
    Worker,
}

/// One process of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    pub role: Role,
    pub index: usize,
}

impl Who {
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |role, count| (0..count).map(move |index| Self { role, index });
        of(Role::Dispatcher, DISPATCHERS).chain(of(Role::Worker, WORKERS))
    }

    fn any(role: Role, random: &mut impl Rng) -> Self {
        let count = match role {
            Role::Dispatcher => DISPATCHERS,
            Role::Worker => WORKERS,
        };
        let index = random.random_range(0..count);
        Self { role, index }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Dispatcher => "dispatcher",
            Role::Worker => "worker",
        };
        write!(f, "{role}-{}", self.index)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    Store,
    Queue,
    Bus,
}

impl Service {
    pub const ALL: [Self; 3] = [Self::Store, Self::Queue, Self::Bus];
}

/// One fault, ready to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; started again afterwards.
    Kill(Who),
    /// SIGSTOP for longer than a lease, then SIGCONT.
    Pause(Who),
    /// SIGTERM; started again afterwards.
    Drain(Who),
    /// Started again under a clock that is wrong by this much, which is set right while it runs.
    Skew(Who, i64),
    Partition(Who, Service, Mode),
    /// `rabbitmqctl stop_app` and `start_app`.
    BrokerStop,
    /// SIGKILL for the broker's virtual machine.
    BrokerKill,
    BrokerConnections,
    Purge,
    DeleteQueues,
    /// Copies of messages of runs in every state.
    Duplicates(usize),
    /// Messages that are none.
    Garbage(usize),
    /// An immediate stop, without a checkpoint.
    StoreStop,
    StoreConnections,
    BusKill,
    BusConnections,
    BusFlush,
}

/// What a fault lays its hands on. Two faults of one round never share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Process(Who),
    Link(Who, Service),
    Server(Service),
}

/// A kind of fault, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub &'static str);

const KINDS: [&str; 23] = [
    "kill worker",
    "kill dispatcher",
    "pause worker",
    "pause dispatcher",
    "drain worker",
    "drain dispatcher",
    "skew worker",
    "skew dispatcher",
    "partition store",
    "partition queue",
    "partition bus",
    "stop broker",
    "kill broker",
    "close broker connections",
    "purge queues",
    "delete queues",
    "duplicate messages",
    "garbage messages",
    "stop store",
    "end store connections",
    "kill bus",
    "end bus connections",
    "flush bus",
];

impl Kind {
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.into_iter().map(Self)
    }

    /// Too slow for the short form; `stop broker` is its neighbour there.
    pub fn is_slow(self) -> bool {
        self.0 == "kill broker"
    }

    /// A fault of this kind.
    pub fn draw(self, random: &mut impl Rng) -> Fault {
        use Role::{Dispatcher, Worker};
        let mut partition = |service| {
            let role = if random.random_bool(0.75) {
                Worker
            } else {
                Dispatcher
            };
            let mode = Mode::FAULTS.choose(random).copied().unwrap_or_default();
            Fault::Partition(Who::any(role, random), service, mode)
        };
        match self.0 {
            "partition store" => return partition(Service::Store),
            "partition queue" => return partition(Service::Queue),
            "partition bus" => return partition(Service::Bus),
            _ => {}
        }
        let skew = [-86_400, -3_600, -90, 90, 3_600, 86_400]
            .choose(random)
            .copied()
            .unwrap_or(90);
        match self.0 {
            "kill worker" => Fault::Kill(Who::any(Worker, random)),
            "kill dispatcher" => Fault::Kill(Who::any(Dispatcher, random)),
            "pause worker" => Fault::Pause(Who::any(Worker, random)),
            "pause dispatcher" => Fault::Pause(Who::any(Dispatcher, random)),
            "drain worker" => Fault::Drain(Who::any(Worker, random)),
            "drain dispatcher" => Fault::Drain(Who::any(Dispatcher, random)),
            "skew worker" => Fault::Skew(Who::any(Worker, random), skew),
            "skew dispatcher" => Fault::Skew(Who::any(Dispatcher, random), skew),
            "stop broker" => Fault::BrokerStop,
            "kill broker" => Fault::BrokerKill,
            "close broker connections" => Fault::BrokerConnections,
            "purge queues" => Fault::Purge,
            "delete queues" => Fault::DeleteQueues,
            "duplicate messages" => Fault::Duplicates(random.random_range(50..300)),
            "garbage messages" => Fault::Garbage(random.random_range(20..100)),
            "stop store" => Fault::StoreStop,
            "end store connections" => Fault::StoreConnections,
            "kill bus" => Fault::BusKill,
            "end bus connections" => Fault::BusConnections,
            _ => Fault::BusFlush,
        }
    }
}

impl Fault {
    pub fn kind(self) -> Kind {
        use Role::{Dispatcher, Worker};
        let by_role = |who: Who, worker, dispatcher| match who.role {
            Worker => worker,
            Dispatcher => dispatcher,
        };
        Kind(match self {
            Self::Kill(who) => by_role(who, "kill worker", "kill dispatcher"),
            Self::Pause(who) => by_role(who, "pause worker", "pause dispatcher"),
            Self::Drain(who) => by_role(who, "drain worker", "drain dispatcher"),
            Self::Skew(who, _) => by_role(who, "skew worker", "skew dispatcher"),
            Self::Partition(_, Service::Store, _) => "partition store",
            Self::Partition(_, Service::Queue, _) => "partition queue",
            Self::Partition(_, Service::Bus, _) => "partition bus",
            Self::BrokerStop => "stop broker",
            Self::BrokerKill => "kill broker",
            Self::BrokerConnections => "close broker connections",
            Self::Purge => "purge queues",
            Self::DeleteQueues => "delete queues",
            Self::Duplicates(_) => "duplicate messages",
            Self::Garbage(_) => "garbage messages",
            Self::StoreStop => "stop store",
            Self::StoreConnections => "end store connections",
            Self::BusKill => "kill bus",
            Self::BusConnections => "end bus connections",
            Self::BusFlush => "flush bus",
        })
    }

    pub fn target(self) -> Target {
        match self {
            Self::Kill(who) | Self::Pause(who) | Self::Drain(who) | Self::Skew(who, _) => {
                Target::Process(who)
            }
            Self::Partition(who, service, _) => Target::Link(who, service),
            Self::BrokerStop
            | Self::BrokerKill
            | Self::BrokerConnections
            | Self::Purge
            | Self::DeleteQueues
            | Self::Duplicates(_)
            | Self::Garbage(_) => Target::Server(Service::Queue),
            Self::StoreStop | Self::StoreConnections => Target::Server(Service::Store),
            Self::BusKill | Self::BusConnections | Self::BusFlush => Target::Server(Service::Bus),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who) => write!(f, "kill -9 {who}"),
            Self::Pause(who) => write!(f, "stop and continue {who}"),
            Self::Drain(who) => write!(f, "drain {who}"),
            Self::Skew(who, by) => write!(f, "clock of {who} wrong by {by:+} s"),
            Self::Partition(who, service, mode) => write!(f, "{who} and its {service:?}: {mode:?}"),
            Self::Duplicates(count) => write!(f, "{count} duplicate messages"),
            Self::Garbage(count) => write!(f, "{count} garbage messages"),
            other => f.write_str(other.kind().0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn a_kind_draws_its_own_faults() {
        let mut random = StdRng::seed_from_u64(1);
        for kind in Kind::all() {
            for _ in 0..50 {
                assert_eq!(kind.draw(&mut random).kind(), kind);
            }
        }
    }
}
