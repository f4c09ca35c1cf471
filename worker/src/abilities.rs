//! What this worker can do, which may change while it works: a host for Python comes up, or breaks for good.

use std::sync::Arc;

use flowfleet_core::{Capabilities, Capability};
use flowfleet_python::State;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A handle to what a worker can do. A change takes effect at once: the worker takes runs from other pools and says so
/// in its presence.
#[derive(Debug, Clone)]
pub struct Abilities(Arc<watch::Sender<Capabilities>>);

impl Abilities {
    pub(crate) fn new(can: Capabilities) -> Self {
        Self(Arc::new(watch::Sender::new(can)))
    }

    /// From now on it can do this too.
    pub fn add(&self, capability: Capability) {
        self.0.send_if_modified(|can| can.add(capability));
    }

    /// It cannot do this any more. Runs that it holds already are not touched.
    pub fn remove(&self, capability: &Capability) {
        self.0.send_if_modified(|can| can.remove(capability));
    }

    /// It can do what needs Python for as long as its host for that is ready.
    pub(crate) async fn follow(self, mut host: watch::Receiver<State>, ending: CancellationToken) {
        loop {
            match &*host.borrow_and_update() {
                State::Ready(_) => self.add(Capability::python()),
                State::Starting | State::Broken(_) => self.remove(&Capability::python()),
            }
            tokio::select! {
                changed = host.changed() => if changed.is_err() {
                    // The host has ended, which it does only with the worker.
                    self.remove(&Capability::python());
                    return ending.cancelled().await;
                },
                () = ending.cancelled() => return,
            }
        }
    }

    pub(crate) fn now(&self) -> Capabilities {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Capabilities> {
        self.0.subscribe()
    }
}
