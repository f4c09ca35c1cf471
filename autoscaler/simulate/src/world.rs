//! The simulated world: arrivals, executions, the cloud and the decisions, in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use flowfleet_plan::{
    Action, Freshness, History, Lifecycle, Observation, Refusal, Since, Spend, Worker as Seen, WorkerState,
    plan,
};

use crate::cloud::{At, Cloud, Happening, Zone};
use crate::fleet::{Fleet, Run, Stage, Worker};
use crate::report::{Measured, Report, Sample};
use crate::scenario::Scenario;
use crate::trace::Arrival;

/// What the world does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A run ends: run, epoch.
    End(u32, u32),
    /// A run leaves its worker at a checkpoint: run, epoch.
    Leave(u32, u32),
}

/// Plays a trace through the policy of a scenario.
///
/// Every run is executed to its end; the world then goes on until the policy has given all capacity back, or a day.
pub fn simulate(scenario: &Scenario, arrivals: &[Arrival], zones: &[Zone]) -> Report {
    World::new(scenario, arrivals, zones).play()
}

struct World<'a> {
    scenario: &'a Scenario,
    arrivals: &'a [Arrival],
    next_arrival: usize,
    fleet: Fleet,
    cloud: Cloud,
    due: BinaryHeap<Reverse<(At, Due)>>,
    history: History,
    since: Since,
    ticks: u64,
    day_began_usd: f64,
    day: i64,
    measured: Measured,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, arrivals: &'a [Arrival], zones: &[Zone]) -> Self {
        Self {
            scenario,
            arrivals,
            next_arrival: 0,
            fleet: Fleet::default(),
            cloud: Cloud::new(scenario.cloud.clone(), zones.to_vec(), scenario.seed),
            due: BinaryHeap::new(),
            history: History::default(),
            since: Since::default(),
            ticks: 0,
            day_began_usd: 0.0,
            day: 0,
            measured: Measured::default(),
        }
    }

    fn play(mut self) -> Report {
        let last_s = self.arrivals.last().map_or(0.0, |arrival| arrival.at_s);
        let mut tick_s = 0.0;
        let mut now_s;
        loop {
            let arrival_s = self
                .arrivals
                .get(self.next_arrival)
                .map_or(f64::INFINITY, |arrival| arrival.at_s);
            let due_s = self
                .due
                .peek()
                .map_or(f64::INFINITY, |Reverse((At(at_s), _))| *at_s);
            let cloud_s = self.cloud.next_s().unwrap_or(f64::INFINITY);
            let work_s = arrival_s.min(due_s).min(cloud_s);
            if tick_s <= work_s {
                now_s = tick_s;
                let done =
                    self.next_arrival == self.arrivals.len() && self.measured.ended == self.arrivals.len();
                if done && (self.cloud.is_empty() || now_s > last_s.max(self.measured.last_end_s) + 86_400.0)
                {
                    let seen = self.observe(now_s);
                    self.measured.sample(Sample::of(now_s, &seen, 0.0));
                    break;
                }
                self.tick(now_s);
                tick_s += self.scenario.tick_s;
                continue;
            }
            now_s = work_s;
            if cloud_s <= arrival_s.min(due_s) {
                while let Some((at_s, happening)) = self.cloud.advance(now_s) {
                    self.happen(at_s, happening);
                }
            } else if due_s <= arrival_s {
                if let Some(Reverse((_, due))) = self.due.pop() {
                    self.fall_due(now_s, due);
                }
            } else {
                let run = u32::try_from(self.fleet.runs.len()).unwrap_or(u32::MAX);
                self.fleet.runs.push(Run::new(&self.arrivals[self.next_arrival]));
                self.next_arrival += 1;
                self.since.arrived += 1;
                self.fleet.enqueue(run);
            }
            self.dispatch(now_s);
        }
        self.measured
            .report(self.scenario, self.arrivals, &self.cloud, now_s, self.ticks)
    }

    fn happen(&mut self, now_s: f64, happening: Happening) {
        match happening {
            Happening::Ready(id) => {
                let ready = self.fleet.change(id, |worker| {
                    let boot_s = now_s - worker.launched_s;
                    worker.ready_s = now_s;
                    if worker.stage == Stage::Booting {
                        worker.stage = Stage::Accepting;
                    }
                    (worker.lifecycle, boot_s, worker.slots)
                });
                if let Some((lifecycle, boot_s, slots)) = ready {
                    self.measured.boot_slot_s += boot_s * f64::from(slots);
                    match lifecycle {
                        Lifecycle::Fargate => self.since.fargate_starts_s.push(boot_s),
                        _ => self.since.boots_s.push(boot_s),
                    }
                }
            }
            Happening::Notice(id, gone_s) => {
                self.since.interrupted += 1;
                self.measured.notices += 1;
                let runs = self.fleet.change(id, |worker| {
                    worker.stage = Stage::Noticed;
                    worker.runs.clone()
                });
                // What does not end in half of the time that is left goes to another worker, with its checkpoint.
                let leave_s = f64::midpoint(now_s, gone_s);
                for run in runs.unwrap_or_default() {
                    if let Some(at_s) = self.boundary(run, now_s, leave_s).filter(|at_s| *at_s < gone_s) {
                        self.leave_at(run, at_s);
                    }
                }
            }
            Happening::Gone(id) => {
                let runs = self.fleet.remove(id).map(|worker| worker.runs);
                for run in runs.unwrap_or_default() {
                    self.lose(now_s, run);
                }
            }
        }
    }

    /// When a run reaches its next checkpoint at or after `from_s`.
    fn boundary(&self, run: u32, now_s: f64, from_s: f64) -> Option<f64> {
        let every_s = self.scenario.work.checkpoint_s?;
        let run = &self.fleet.runs[run as usize];
        let age_s = run.age_s(from_s.max(now_s));
        let next = (age_s / every_s).ceil() * every_s;
        Some(from_s.max(now_s) + (next - age_s))
    }

    fn leave_at(&mut self, run: u32, at_s: f64) {
        let epoch = self.fleet.runs[run as usize].epoch;
        self.due.push(Reverse((At(at_s), Due::Leave(run, epoch))));
    }

    fn fall_due(&mut self, now_s: f64, due: Due) {
        match due {
            Due::End(run, epoch) => {
                let this = &mut self.fleet.runs[run as usize];
                if this.epoch != epoch || this.ended {
                    return;
                }
                this.ended = true;
                this.done_s = this.service_s;
                let worker = this.worker.take();
                self.since.durations_s.push(this.service_s);
                self.measured.ended += 1;
                self.measured.last_end_s = now_s;
                self.free(worker, run);
            }
            Due::Leave(run, epoch) => {
                let this = &self.fleet.runs[run as usize];
                let worker = this.worker.and_then(|id| self.fleet.workers.get(&id));
                // It may have ended, or its worker may accept runs again.
                let leaves =
                    worker.is_some_and(|worker| matches!(worker.stage, Stage::Draining | Stage::Noticed));
                if this.epoch != epoch || this.ended || !leaves {
                    return;
                }
                let this = &mut self.fleet.runs[run as usize];
                this.done_s = this.age_s(now_s).min(this.service_s);
                this.epoch += 1;
                let worker = this.worker.take();
                self.measured.handed_off += 1;
                self.free(worker, run);
                self.fleet.enqueue(run);
            }
        }
    }

    fn free(&mut self, worker: Option<u32>, run: u32) {
        if let Some(id) = worker {
            self.fleet
                .change(id, |worker| worker.runs.retain(|there| *there != run));
        }
    }

    /// Its machine is gone: it resumes from its last checkpoint.
    fn lose(&mut self, now_s: f64, run: u32) {
        let every_s = self.scenario.work.checkpoint_s;
        let this = &mut self.fleet.runs[run as usize];
        let age_s = this.age_s(now_s);
        let kept_s = every_s.map_or(0.0, |every_s| (age_s / every_s).floor() * every_s);
        self.measured.lost_s += age_s - kept_s;
        self.measured.interrupted += 1;
        this.done_s = kept_s;
        this.epoch += 1;
        this.interruptions += 1;
        this.worker = None;
        self.fleet.enqueue(run);
    }

    fn dispatch(&mut self, now_s: f64) {
        while let Some((run, id)) = self.fleet.next() {
            let this = &mut self.fleet.runs[run as usize];
            this.worker = Some(id);
            this.attempt_s = now_s;
            if this.started_s.is_none() {
                this.started_s = Some(now_s);
                let wait_s = now_s - this.arrived_s;
                let late = wait_s > self.scenario.policy.slo_s;
                self.since.started += 1;
                self.since.started_late += u64::from(late);
                self.measured.started(now_s, wait_s, late);
            }
            let end_s = now_s + (this.service_s - this.done_s).max(0.0);
            self.due.push(Reverse((At(end_s), Due::End(run, this.epoch))));
            self.fleet.change(id, |worker| worker.runs.push(run));
        }
    }

    fn tick(&mut self, now_s: f64) {
        self.ticks += 1;
        let seen = self.observe(now_s);
        let policy = &self.scenario.policy;
        self.history.observe(policy, &seen);
        let plan = plan(policy, &seen, &self.history);
        self.history.decided(policy, now_s, &plan);
        self.measured.sample(Sample::of(now_s, &seen, plan.slots_wished));
        for action in &plan.actions {
            self.act(now_s, action);
        }
        self.dispatch(now_s);
    }

    fn act(&mut self, now_s: f64, action: &Action) {
        match action {
            Action::Undrain { worker } => {
                self.change(worker, |worker| {
                    if worker.stage == Stage::Draining {
                        worker.stage = Stage::Accepting;
                    }
                });
            }
            Action::Launch { lifecycle, machines } => self.launch(now_s, *lifecycle, *machines),
            Action::Drain { worker } => {
                let runs = self.change(worker, |worker| {
                    worker.stage = Stage::Draining;
                    worker.runs.clone()
                });
                self.measured.drains += 1;
                let Some(handoff_s) = self.scenario.policy.handoff_s else {
                    return;
                };
                for run in runs.unwrap_or_default() {
                    if let Some(at_s) = self.boundary(run, now_s, now_s + handoff_s) {
                        self.leave_at(run, at_s);
                    }
                }
            }
            Action::Terminate { worker } => {
                let Some(id) = id_of(worker) else { return };
                // What the plan calls idle may be so no more: the world never ends a busy worker.
                let idle = self
                    .fleet
                    .workers
                    .get(&id)
                    .is_some_and(|worker| worker.runs.is_empty());
                if idle {
                    self.fleet.remove(id);
                    self.cloud.terminate(now_s, id);
                }
            }
        }
    }

    fn change<T>(&mut self, worker: &str, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        self.fleet.change(id_of(worker)?, change)
    }

    fn launch(&mut self, now_s: f64, lifecycle: Lifecycle, machines: u32) {
        let policy = &self.scenario.policy;
        let (slots, expected_s) = match (lifecycle, &policy.fargate) {
            (Lifecycle::Fargate, Some(fargate)) => {
                (fargate.slots, self.history.fargate_start_s(fargate.start_s))
            }
            _ => (policy.machines.slots, self.history.boot_s(policy)),
        };
        let launched = self.cloud.launch(now_s, lifecycle, machines, slots, "");
        for id in launched.machines {
            *self.measured.launches.entry(lifecycle).or_default() += 1;
            let worker = Worker {
                lifecycle,
                stage: Stage::Booting,
                slots,
                usd_per_hour: self.cloud.usd_per_hour(id).unwrap_or(0.0),
                launched_s: now_s,
                ready_s: now_s + expected_s,
                runs: Vec::new(),
            };
            self.fleet.workers.insert(id, worker);
        }
        if let Some(code) = launched.refused {
            self.measured.refusals += 1;
            self.since.refused.push(Refusal {
                lifecycle,
                code: code.into(),
            });
        }
    }

    fn observe(&mut self, now_s: f64) -> Observation {
        let workers = self
            .fleet
            .workers
            .iter()
            .map(|(id, worker)| Seen {
                id: name_of(*id),
                lifecycle: worker.lifecycle,
                state: match worker.stage {
                    Stage::Booting => WorkerState::Booting {
                        ready_in_s: (worker.ready_s - now_s).max(0.0),
                    },
                    Stage::Accepting => WorkerState::Accepting,
                    Stage::Draining => WorkerState::Draining,
                    Stage::Noticed => WorkerState::Noticed,
                },
                slots: worker.slots,
                ages_s: worker
                    .runs
                    .iter()
                    .map(|run| self.fleet.runs[*run as usize].age_s(now_s))
                    .collect(),
                age_s: now_s - worker.launched_s,
                usd_per_hour: worker.usd_per_hour,
            })
            .collect();
        Observation {
            at_s: now_s,
            queued: self.fleet.queued(),
            oldest_wait_s: self.fleet.oldest_s().map_or(0.0, |arrived_s| now_s - arrived_s),
            queued_on_demand: self.fleet.queued_on_demand(),
            elsewhere_ages_s: Vec::new(),
            since_last: std::mem::take(&mut self.since),
            workers,
            prices: self.cloud.prices(),
            spend: self.spend(now_s),
            freshness: Freshness::NOW,
            bounds: Vec::new(),
        }
    }

    fn spend(&mut self, now_s: f64) -> Spend {
        let budgeted = self.scenario.policy.budget.usd_per_day.is_some();
        if !budgeted {
            return Spend::default();
        }
        let billed: f64 = self.cloud.billed(now_s).values().sum();
        let day = (now_s / 86_400.0) as i64;
        if day != self.day {
            self.day = day;
            self.day_began_usd = billed;
        }
        Spend {
            today_usd: billed - self.day_began_usd,
        }
    }
}

fn name_of(id: u32) -> Arc<str> {
    format!("i-{id}").into()
}

fn id_of(name: &str) -> Option<u32> {
    name.strip_prefix("i-")?.parse().ok()
}
