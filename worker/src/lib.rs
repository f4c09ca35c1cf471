//! The worker: takes hints from the queue, claims runs under leases, executes them, writes down what they did, and
//! hands back what it cannot finish.
//!
//! Who does what:
//! - [`intake`] turns messages into claimed runs, never more than there are free slots;
//! - [`execute`] drives one attempt and decides how it ends;
//! - [`journal`] is the only writer: progress and ends of all runs, group commit;
//! - [`heartbeat`] renews all leases in one statement, and learns of cancels and lost leases;
//! - [`held`] is what they share: which leases are held and whether their executions shall stop;
//! - [`drain`] ends it all in order.
//!
//! Left to others: what is due, expired leases, messages the broker lost (the dispatcher's leader), and flows
//! themselves (the engine).

mod abilities;
mod config;
mod drain;
mod execute;
mod files;
mod heartbeat;
mod held;
mod intake;
mod journal;
mod knowledge;
mod live;
mod memory;
pub mod metrics;
mod outcome;
mod plans;
mod presence;
mod progress;
mod telling;

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use flowfleet_core::port::{BlobStore, Bus, Queue, Store};
use flowfleet_core::{QueueName, WorkerId};
use flowfleet_runtime::{Readiness, Relay, Shutdown};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use abilities::Abilities;
pub use config::{Args, BadConfig, Config};

use held::Held;
use journal::Journal;
use live::Live;
use plans::Plans;

/// What a worker is given.
#[derive(Debug, Clone)]
pub struct Deps {
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn Queue>,
    pub bus: Arc<dyn Bus>,
    pub blob: Arc<dyn BlobStore>,
    pub services: flowfleet_engine::Services,
    /// Runs flows that the native engine must not stand in for.
    pub python: Option<flowfleet_python::Host>,
    pub readiness: Readiness,
}

/// One worker. It takes nothing before [`Worker::run`].
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    config: Config,
    deps: Deps,
    abilities: Abilities,
    made: Instant,
}

/// What the parts of a running worker share.
#[derive(Debug)]
struct Inner {
    id: WorkerId,
    config: Config,
    queues: Vec<QueueName>,
    abilities: Abilities,
    deps: Deps,
    started_at: Timestamp,
    made: Instant,
    slots: Arc<Semaphore>,
    shown: metrics::Slots,
    runs: metrics::Runs,
    held: Arc<Held>,
    plans: Plans,
    live: Arc<Live>,
    journal: Arc<Journal>,
    relay: Relay,
    /// Set at the first sign of the end, before anything else happens.
    draining: CancellationToken,
    /// Presence is announced again at once.
    changed: Notify,
}

impl Worker {
    pub fn new(config: Config, deps: Deps) -> Self {
        Self {
            id: WorkerId::generate(),
            abilities: Abilities::new(config.capability_set()),
            config,
            deps,
            made: Instant::now(),
        }
    }

    /// Who this worker is in leases, presence and logs: new at every start.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// What it can do. Whoever hosts more than the native engine adds to it.
    pub fn abilities(&self) -> Abilities {
        self.abilities.clone()
    }

    /// Works until told to end, then drains. Dropping the future instead ends everything at once, as a crash would.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        self.config.check()?;
        metrics::describe();
        flowfleet_runtime::metrics::build_info("worker", env!("CARGO_PKG_VERSION"));
        let ending = CancellationToken::new();
        let _ended = ending.clone().drop_guard();
        let inner = self.inner(&shutdown, &ending)?;
        tracing::info!(
            worker = %inner.id, slots = inner.config.slots, queues = ?inner.config.queues, "worker started"
        );

        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&inner.live).run(ending.clone()));
        background.spawn(Arc::clone(&inner.journal).run(ending.clone()));
        background.spawn(heartbeat::run(Arc::clone(&inner), ending.clone()));
        background.spawn(heartbeat::lapse(Arc::clone(&inner), ending.clone()));
        background.spawn(presence::run(Arc::clone(&inner), ending.clone()));
        if let Some(host) = &inner.deps.python {
            background.spawn(inner.abilities.clone().follow(host.states(), ending.clone()));
        }
        let mut foreground = JoinSet::new();
        foreground.spawn(intake::run(Arc::clone(&inner)));

        let drained = tokio::select! {
            drained = drain::run(&inner, &shutdown, &mut foreground) => drained,
            // These end only with the worker: one that ends earlier has panicked, and without it leases or
            // results would be lost silently.
            broken = background.join_next() => match broken {
                Some(Err(error)) => Err(error).context("a part of the worker broke; its leases will run out"),
                _ => Err(anyhow::anyhow!("a part of the worker ended early")),
            },
        };
        ending.cancel();
        while background.join_next().await.is_some() {}
        drained
    }

    fn inner(self, shutdown: &Shutdown, ending: &CancellationToken) -> anyhow::Result<Arc<Inner>> {
        let Self {
            id,
            config,
            deps,
            abilities,
            made,
        } = self;
        let queues = config.queue_names()?;
        let held = Arc::new(Held::default());
        let live = Arc::new(Live::new(Arc::clone(&deps.bus)));
        let upkeep = Arc::clone(&deps.store);
        let relay = Relay::spawn(upkeep, Arc::clone(&deps.queue), ending.child_token());
        let journal = Journal::new(
            Arc::clone(&deps.store),
            Arc::clone(&held),
            Arc::clone(&live),
            relay.clone(),
            deps.readiness.clone(),
        );
        Ok(Arc::new(Inner {
            id,
            started_at: Timestamp::now(),
            made,
            slots: Arc::new(Semaphore::new(config.slots as usize)),
            shown: metrics::Slots::new(&config.lifecycle),
            runs: metrics::Runs::new(&queues),
            held,
            plans: Plans::new(),
            live,
            journal: Arc::new(journal),
            relay,
            draining: shutdown.draining.clone(),
            changed: Notify::new(),
            queues,
            abilities,
            config,
            deps,
        }))
    }
}

impl Inner {
    fn busy(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// Shows how the slots are used.
    fn show_slots(&self) {
        let busy = self.busy().min(self.config.slots);
        self.shown.show(busy, self.config.slots - busy);
    }
}
