//! The worker: takes hints from the queue, claims runs under leases, executes them, writes down what they did, and
//! hands back what it cannot finish.
//!
//! Who does what:
//! - [`intake`] turns messages into claimed runs, never more than there are free slots;
//! - [`execute`] drives one attempt and decides how it ends;
//! - [`journal`] is the only writer: progress and ends of all runs, group commit;
//! - [`heartbeat`] renews all leases in one statement, and learns of cancels and lost leases;
//! - [`held`] is what they share: which leases are held and whether their executions shall stop;
//! - [`steering`] is what the worker was told to do while it stays: to drain, or to accept again;
//! - [`place`] is where it runs and what its provider says of it, [`vigil`] looks after it;
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
mod place;
mod plans;
mod presence;
mod progress;
mod steering;
mod telling;
mod vigil;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use flowfleet_core::port::{BlobStore, Bus, Place, Queue, Store};
use flowfleet_core::{QueueName, WorkerId};
use flowfleet_runtime::{Readiness, Relay, Shutdown};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use abilities::Abilities;
pub use config::{Args, BadConfig, Config};
pub use place::{Lifecycle, Rebalance, Settings as PlaceSettings};

use held::Held;
use journal::Journal;
use live::Live;
use place::Found;
use plans::Plans;
use steering::Steering;
use vigil::Vigil;

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
    lifecycle: &'static str,
    place: Mutex<Place>,
    booted_from: Timestamp,
    imds: Option<place::Imds>,
    protection: Option<place::Protection>,
    steering: Steering,
    vigil: Vigil,
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
        // What this worker finds out for itself ends nobody else.
        let shutdown = shutdown.child();
        let found = place::find(
            self.config.lifecycle,
            &self.config.place,
            &self.deps.services.environment,
        );
        let found = found.await;
        let inner = self.inner(found, &shutdown, &ending)?;
        tracing::info!(
            worker = %inner.id, lifecycle = inner.lifecycle, slots = inner.config.slots, queues = ?inner.config.queues, "worker started"
        );

        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&inner.live).run(ending.clone()));
        background.spawn(Arc::clone(&inner.journal).run(ending.clone()));
        background.spawn(heartbeat::run(Arc::clone(&inner), ending.clone()));
        background.spawn(heartbeat::lapse(Arc::clone(&inner), ending.clone()));
        background.spawn(presence::run(Arc::clone(&inner), ending.clone()));
        background.spawn(steering::run(Arc::clone(&inner), ending.clone()));
        background.spawn(place::watch_notices(
            Arc::clone(&inner),
            shutdown.clone(),
            ending.clone(),
        ));
        background.spawn(vigil::run(Arc::clone(&inner), shutdown.clone(), ending.clone()));
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

    fn inner(
        self,
        found: Found,
        shutdown: &Shutdown,
        ending: &CancellationToken,
    ) -> anyhow::Result<Arc<Inner>> {
        let Self {
            id,
            config,
            deps,
            abilities,
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
            lifecycle: found.lifecycle,
            place: Mutex::new(found.place),
            booted_from: found.booted_from,
            imds: found.imds,
            protection: found.protection,
            steering: Steering::new(),
            vigil: Vigil::new(),
            slots: Arc::new(Semaphore::new(config.slots as usize)),
            shown: metrics::Slots::new(found.lifecycle),
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
    fn lock_place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It takes runs for the first time.
    fn accepting(&self) {
        let now = Timestamp::now();
        self.lock_place().accepting_at = Some(now);
        let took = flowfleet_core::clock::seconds_between(self.booted_from, now);
        ::metrics::histogram!(metrics::WORKER_BOOT_SECONDS, "lifecycle" => self.lifecycle).record(took);
    }

    /// It claimed a run.
    fn claimed(&self) {
        self.lock_place()
            .first_claim_at
            .get_or_insert_with(Timestamp::now);
        self.vigil.active();
    }

    fn busy(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// Shows how the slots are used.
    fn show_slots(&self) {
        let busy = self.busy().min(self.config.slots);
        self.shown.show(busy, self.config.slots - busy);
    }
}
