//! The simulated workers and their queue: who executes what, and who accepts the next run. Runs go to the fullest worker
//! that accepts, so that others empty and can go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flowfleet_plan::Lifecycle;

use crate::trace::Arrival;

/// A run in the simulation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    pub(crate) arrived_s: f64,
    pub(crate) service_s: f64,
    /// Work that is stored or was done in attempts before this one.
    pub(crate) done_s: f64,
    /// When it started first.
    pub(crate) started_s: Option<f64>,
    /// When its attempt started.
    pub(crate) attempt_s: f64,
    pub(crate) worker: Option<u32>,
    /// Raised by each attempt, so that events of earlier ones are told apart.
    pub(crate) epoch: u32,
    pub(crate) interruptions: u32,
    pub(crate) ended: bool,
}

impl Run {
    pub(crate) fn new(arrival: &Arrival) -> Self {
        Self {
            arrived_s: arrival.at_s,
            service_s: arrival.service_s,
            done_s: 0.0,
            started_s: None,
            attempt_s: 0.0,
            worker: None,
            epoch: 0,
            interruptions: 0,
            ended: false,
        }
    }

    /// How long it has executed.
    pub(crate) fn age_s(&self, now_s: f64) -> f64 {
        self.done_s + (now_s - self.attempt_s)
    }

    /// Whether it was interrupted so often that it asks for on-demand.
    pub(crate) fn asks_on_demand(&self) -> bool {
        self.interruptions >= 2
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Booting,
    Accepting,
    Draining,
    Noticed,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Worker {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) stage: Stage,
    pub(crate) slots: u32,
    pub(crate) usd_per_hour: f64,
    pub(crate) launched_s: f64,
    /// When it accepts, as expected at its launch; when it did, once it does.
    pub(crate) ready_s: f64,
    pub(crate) runs: Vec<u32>,
}

/// Workers and queue.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) workers: BTreeMap<u32, Worker>,
    pub(crate) runs: Vec<Run>,
    /// Runs that have started before go first.
    returned: VecDeque<u32>,
    queue: VecDeque<u32>,
    /// Those of the waiting that ask for on-demand.
    on_demand: VecDeque<u32>,
    /// Accepting workers by free slots, on-demand and others, tasks last.
    free: BTreeMap<(Class, u32), BTreeSet<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Machine,
    OnDemand,
    Task,
}

impl Class {
    fn of(lifecycle: Lifecycle) -> Self {
        match lifecycle {
            Lifecycle::Fargate => Self::Task,
            Lifecycle::OnDemand => Self::OnDemand,
            Lifecycle::Spot | Lifecycle::Local => Self::Machine,
        }
    }
}

impl Fleet {
    pub(crate) fn queued(&self) -> u64 {
        (self.returned.len() + self.queue.len() + self.on_demand.len()) as u64
    }

    pub(crate) fn queued_on_demand(&self) -> u64 {
        self.on_demand.len() as u64
    }

    /// When the oldest of the waiting arrived; those that were handed back count from then too.
    pub(crate) fn oldest_s(&self) -> Option<f64> {
        self.queue.front().map(|run| self.runs[*run as usize].arrived_s)
    }

    pub(crate) fn enqueue(&mut self, run: u32) {
        let this = &self.runs[run as usize];
        if this.asks_on_demand() {
            self.on_demand.push_back(run);
        } else if this.started_s.is_some() {
            self.returned.push_back(run);
        } else {
            self.queue.push_back(run);
        }
    }

    fn shelf(&self, id: u32) -> Option<(Class, u32)> {
        let worker = self.workers.get(&id)?;
        let busy = u32::try_from(worker.runs.len()).unwrap_or(u32::MAX);
        let free = worker.slots.saturating_sub(busy);
        (worker.stage == Stage::Accepting && free > 0).then(|| (Class::of(worker.lifecycle), free))
    }

    /// Changes a worker, and finds its new place among those with free slots.
    pub(crate) fn change<T>(&mut self, id: u32, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let old = self.shelf(id);
        let answer = self.workers.get_mut(&id).map(change);
        let new = self.shelf(id);
        if old != new {
            if let Some(old) = old {
                self.unshelve(old, id);
            }
            if let Some(new) = new {
                self.free.entry(new).or_default().insert(id);
            }
        }
        answer
    }

    fn unshelve(&mut self, shelf: (Class, u32), id: u32) {
        if let Some(there) = self.free.get_mut(&shelf) {
            there.remove(&id);
            if there.is_empty() {
                self.free.remove(&shelf);
            }
        }
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Worker> {
        if let Some(shelf) = self.shelf(id) {
            self.unshelve(shelf, id);
        }
        self.workers.remove(&id)
    }

    /// The fullest accepting worker: machines first, then tasks; spot rather than on-demand.
    fn accepts(&self, on_demand_only: bool) -> Option<u32> {
        let fullest = |class: Class| {
            self.free
                .range((class, 0)..=(class, u32::MAX))
                .next()
                .and_then(|((_, free), ids)| ids.first().map(|id| (*free, *id)))
        };
        let machine = if on_demand_only {
            None
        } else {
            fullest(Class::Machine)
        };
        let on_demand = fullest(Class::OnDemand);
        let best = match (machine, on_demand) {
            (Some(machine), Some(on_demand)) if on_demand.0 < machine.0 => Some(on_demand),
            (machine, on_demand) => machine.or(on_demand),
        };
        best.or_else(|| fullest(Class::Task)).map(|(_, id)| id)
    }

    /// The next run and the worker that takes it.
    pub(crate) fn next(&mut self) -> Option<(u32, u32)> {
        if !self.on_demand.is_empty()
            && let Some(worker) = self.accepts(true)
        {
            return self.on_demand.pop_front().map(|run| (run, worker));
        }
        if self.returned.is_empty() && self.queue.is_empty() {
            return None;
        }
        let worker = self.accepts(false)?;
        let run = self.returned.pop_front().or_else(|| self.queue.pop_front())?;
        Some((run, worker))
    }
}
