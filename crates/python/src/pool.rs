//! Which child takes a run. A child serves one realm (a tenant) in its life, so that what one left behind in a process
//! is never met by another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowfleet_engine::HostError;
use tokio::sync::{Notify, mpsc};

use crate::child::{self, Command};
use crate::metrics::{CHILDREN, FORKS_TOTAL};
use crate::parent::Parent;
use crate::settings::Settings;

#[derive(Debug)]
pub(crate) struct Pool {
    settings: Settings,
    state: Mutex<State>,
    /// A place may have become free.
    changed: Notify,
    /// Who waits for a place first gets one first.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    parent: Option<Parent>,
    children: BTreeMap<u64, Slot>,
    forked: u64,
}

#[derive(Debug)]
struct Slot {
    realm: String,
    running: u32,
    spent: u32,
    /// Takes no more runs.
    retiring: bool,
    commands: mpsc::UnboundedSender<Command>,
}

/// A child that has room for a run, which is already counted.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
}

impl Pool {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
            changed: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Children of an earlier parent have ended or will.
    pub(crate) fn set_parent(&self, parent: Option<Parent>) {
        let mut state = self.lock();
        state.parent = parent;
        state.children.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits for a child with room; `alone` for one that nobody shares.
    pub(crate) async fn place(self: &Arc<Self>, realm: &str, alone: bool) -> Result<Place, HostError> {
        let _turn = self.turn.lock().await;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(place) = self.find(realm, alone)? {
                return Ok(place);
            }
            changed.await;
        }
    }

    fn find(self: &Arc<Self>, realm: &str, alone: bool) -> Result<Option<Place>, HostError> {
        let mut state = self.lock();
        let Some(parent) = state.parent.clone() else {
            return Err(HostError {
                code: "python_host_lost",
                message: "the Python host was lost".to_owned(),
                retryable: true,
                interrupted: true,
            });
        };
        let most = if alone { 1 } else { self.settings.runs_per_child };
        let fits = |slot: &Slot| !slot.retiring && slot.realm == realm && slot.running < most;
        let found = state.children.values_mut().filter(|slot| fits(slot));
        if let Some(slot) = found.min_by_key(|slot| slot.running) {
            slot.running += 1;
            slot.retiring |= alone;
            return Ok(Some(Place {
                commands: slot.commands.clone(),
            }));
        }
        if state.children.len() >= self.settings.children as usize {
            let idle = state.children.iter().find(|(_, slot)| slot.running == 0);
            let Some(idle) = idle.map(|(child, _)| *child) else {
                return Ok(None);
            };
            state.retire(idle);
        }
        Ok(Some(self.fork(&mut state, parent, realm, alone)))
    }

    fn fork(self: &Arc<Self>, state: &mut State, parent: Parent, realm: &str, alone: bool) -> Place {
        let child = state.forked;
        state.forked += 1;
        let (commands, receiver) = mpsc::unbounded_channel();
        let slot = Slot {
            realm: realm.to_owned(),
            running: 1,
            spent: 0,
            retiring: alone,
            commands: commands.clone(),
        };
        state.children.insert(child, slot);
        metrics::counter!(FORKS_TOTAL).increment(1);
        metrics::gauge!(CHILDREN).set(state.children.len() as f64);
        tokio::spawn(child::live(
            child,
            Arc::clone(self),
            parent,
            self.settings.clone(),
            receiver,
        ));
        Place { commands }
    }

    /// A run of the child has ended; `recycle` if the process is not to be used again.
    pub(crate) fn done(&self, child: u64, recycle: bool) {
        let mut state = self.lock();
        if let Some(slot) = state.children.get_mut(&child) {
            slot.running = slot.running.saturating_sub(1);
            slot.spent += 1;
            slot.retiring |= recycle || slot.spent >= self.settings.recycle_after_runs;
            if slot.retiring && slot.running == 0 {
                state.retire(child);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The child has ended.
    pub(crate) fn gone(&self, child: u64) {
        let mut state = self.lock();
        state.children.remove(&child);
        metrics::gauge!(CHILDREN).set(state.children.len() as f64);
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    fn retire(&mut self, child: u64) {
        if let Some(slot) = self.children.remove(&child) {
            // One that has ended by itself needs no telling.
            let _ = slot.commands.send(Command::Retire);
        }
        metrics::gauge!(CHILDREN).set(self.children.len() as f64);
    }
}
