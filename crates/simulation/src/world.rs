//! One history: actors, wires, virtual time, and who moves next. While the tape lasts there is trouble; then all faults
//! end and everything must come to rest.

use crate::broker::Broker;
use crate::check::{Invariant, Violation};
use crate::client::{self, Client};
use crate::coverage::{Coverage, Step};
use crate::dispatcher::{self, Dispatcher};
use crate::env::{Env, say};
use crate::model::{DISPATCHERS, Ms, Mutation, PATIENCE, PATIENCE_WITH_POISON, RESTART, WORKERS};
use crate::process::Process;
use crate::store::Store;
use crate::tape::Tape;
use crate::wire::{Body, Place, STORE, StoreOp, Who, Wire};
use crate::worker::{self, Worker};

/// Steps after which a history is endless.
const STEPS: u64 = 60_000;

/// How likely trouble is at each step, in 256ths.
const TROUBLE: [u8; 6] = [0, 6, 12, 24, 45, 90];

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Move {
    Wire(usize),
    Deliver(usize),
    Client(client::Act),
    Dispatcher(usize, dispatcher::Act),
    Worker(usize, worker::Act),
    Restart(Place),
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) store: Store,
    pub(crate) broker: Broker,
    pub(crate) client: Client,
    pub(crate) dispatchers: Vec<Process<Dispatcher>>,
    pub(crate) workers: Vec<Process<Worker>>,
    pub(crate) slots: usize,
    trouble: u8,
    /// Which kinds of trouble there are in this history.
    pub(crate) kinds: u32,
    /// When trouble ended.
    calm_since: Option<Ms>,
    moves: Vec<Move>,
    steps: u64,
}

/// How a history ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) violation: Option<Violation>,
    pub(crate) tape: Tape,
    pub(crate) trace: Vec<String>,
    pub(crate) cover: Coverage,
}

/// Plays one history.
pub(crate) fn play(
    tape: Tape,
    broken: Option<Mutation>,
    traced: bool,
    cover: Coverage,
    mut seen: impl FnMut(u64),
) -> Ended {
    let mut world = World::new(Env::new(tape, broken, traced, cover));
    while world.step() {
        seen(world.shape());
    }
    let mut env = world.env;
    env.cover.histories += 1;
    env.cover.moves += world.steps;
    env.cover.virtual_ms += env.now;
    Ended {
        violation: env.check.violation,
        tape: env.tape,
        trace: env.trace.unwrap_or_default(),
        cover: env.cover,
    }
}

impl World {
    fn new(mut env: Env) -> Self {
        let trouble = TROUBLE[env.tape.pick(TROUBLE.len())];
        let kinds = u32::from_le_bytes([env.tape.byte(), env.tape.byte(), env.tape.byte(), 0]);
        let slots = 1 + env.tape.pick(3);
        let count = 1 + env.tape.pick(WORKERS);
        let client = Client::new(&mut env);
        let workers = (0..count).map(|n| Process::new(Worker::new(&mut env, n as u8, 0, slots)));
        let workers = workers.collect();
        Self {
            store: Store::default(),
            broker: Broker::new(slots),
            client,
            dispatchers: (0..DISPATCHERS)
                .map(|n| Process::new(Dispatcher::new(n as u8, 0)))
                .collect(),
            workers,
            slots,
            trouble,
            kinds,
            calm_since: None,
            moves: Vec::with_capacity(64),
            steps: 0,
            env,
        }
    }

    /// One step; false when the history is over.
    fn step(&mut self) -> bool {
        if self.env.check.violation.is_some() {
            return false;
        }
        self.steps += 1;
        if self.steps > STEPS {
            self.env
                .check
                .violate(Invariant::Settles, || format!("{STEPS} steps were not enough"));
            return false;
        }
        if self.env.tape.is_over() {
            if self.calm_since.is_none() {
                self.calm();
            }
        } else if self.env.tape.chance(self.trouble) {
            self.strike();
            return true;
        }
        let next = self.gather();
        if self.moves.is_empty() {
            return self.pass_time(next);
        }
        let at = self.env.tape.pick(self.moves.len());
        let chosen = self.moves[at];
        self.carry_out(chosen);
        true
    }

    /// All faults end.
    fn calm(&mut self) {
        say!(self.env, "-- the trouble is over --");
        self.calm_since = Some(self.env.now);
        let soon = self.env.now + RESTART;
        for process in &mut self.dispatchers {
            process.recover(soon);
        }
        for process in &mut self.workers {
            process.recover(soon);
        }
    }

    /// Nothing can move now: goes on to the next moment at which something can, or ends.
    fn pass_time(&mut self, next: Ms) -> bool {
        let rests = self.rests();
        if let Some(since) = self.calm_since {
            let mut patience = PATIENCE;
            if self.env.check.has_poison() {
                patience += PATIENCE_WITH_POISON;
            }
            if rests || next == Ms::MAX || next > since + patience {
                self.env.check.at_rest(&self.store, rests);
                return false;
            }
        }
        self.env.now = next;
        true
    }

    fn rests(&self) -> bool {
        self.env.wires.is_empty()
            && self.client.is_content()
            && self.store.rows.iter().all(|row| row.state.is_final())
            && self.store.outbox.is_empty()
            && self.broker.is_empty()
            && self.workers.iter().all(|worker| worker.actor.held.is_empty())
    }

    /// Collects what may happen now; answers when something more may.
    fn gather(&mut self) -> Ms {
        let now = self.env.now;
        let mut next = Ms::MAX;
        let mut moves = std::mem::take(&mut self.moves);
        moves.clear();
        for (at, wire) in self.env.wires.iter().enumerate() {
            if self.listens(wire.to.place) && !self.waits_in_line(at, wire) {
                moves.push(Move::Wire(at));
            }
        }
        for worker in 0..self.workers.len() {
            if self.broker.can_deliver(worker) {
                moves.push(Move::Deliver(worker));
            }
        }
        let mut add = |chosen: Move, at: Ms| {
            if at <= now {
                moves.push(chosen);
            } else {
                next = next.min(at);
            }
        };
        self.client.tasks(|act, at| add(Move::Client(act), at));
        for (n, process) in self.dispatchers.iter().enumerate() {
            if process.runs(now) {
                process
                    .actor
                    .tasks(&self.env, |act, at| add(Move::Dispatcher(n, act), at));
            } else {
                let place = Place::Dispatcher(n as u8);
                add(Move::Restart(place), process.returns());
            }
        }
        for (n, process) in self.workers.iter().enumerate() {
            if process.runs(now) {
                process
                    .actor
                    .tasks(&self.env, |act, at| add(Move::Worker(n, act), at));
            } else {
                add(Move::Restart(Place::Worker(n as u8)), process.returns());
            }
        }
        self.moves = moves;
        next
    }

    /// Whether messages to a process arrive: one that is stopped finds them later.
    fn listens(&self, place: Place) -> bool {
        match place {
            Place::Dispatcher(n) => self.dispatchers[usize::from(n)].paused_until <= self.env.now,
            Place::Worker(n) => self
                .workers
                .get(usize::from(n))
                .is_none_or(|worker| worker.paused_until <= self.env.now),
            Place::Client | Place::Store | Place::Broker => true,
        }
    }

    /// A connection to the broker keeps its order.
    fn waits_in_line(&self, at: usize, wire: &Wire) -> bool {
        let on_connection = |wire: &Wire| {
            matches!(
                wire.body,
                Body::Deliver { .. }
                    | Body::Consume { .. }
                    | Body::Pause { .. }
                    | Body::Ack { .. }
                    | Body::Reject { .. }
                    | Body::ConnectionLost { .. }
                    | Body::Gone
            )
        };
        let before = |other: &Wire| on_connection(other) && (other.from, other.to) == (wire.from, wire.to);
        on_connection(wire) && self.env.wires[..at].iter().any(before)
    }

    fn carry_out(&mut self, chosen: Move) {
        let env = &mut self.env;
        match chosen {
            Move::Wire(at) => {
                let wire = env.wires.remove(at);
                self.arrive(wire);
            }
            Move::Deliver(worker) => self.broker.deliver(env, worker),
            Move::Client(act) => self.client.act(env, act),
            Move::Dispatcher(n, act) => self.dispatchers[n].actor.act(env, act),
            Move::Worker(n, act) => {
                let worker = &mut self.workers[n];
                worker.actor.act(env, act);
                if worker.actor.left {
                    worker.back_at = Some(env.now + RESTART);
                } else if worker.actor.poisoned {
                    self.crash(Place::Worker(n as u8), RESTART);
                }
            }
            Move::Restart(place) => self.restart(place),
        }
    }

    fn arrive(&mut self, wire: Wire) {
        let Wire { from, to, call, body } = wire;
        let env = &mut self.env;
        match to.place {
            Place::Store => self.at_store(from, call, body),
            Place::Broker => self.broker.handle(env, from, call, body),
            Place::Client => self.client.hear(env, &self.store, call, &body),
            Place::Dispatcher(n) => {
                let process = &mut self.dispatchers[usize::from(n)];
                if process.actor.me == to && process.back_at.is_none() {
                    process.actor.hear(env, call, body);
                } else if matches!(body, Body::Submit(_) | Body::Cancel(_)) {
                    env.answer(to, from, call, Body::Away);
                }
                let leaders = self.dispatchers.iter().filter(|d| d.actor.leading).count();
                if leaders > 1 {
                    env.count(Step::TwoLeaders);
                }
            }
            Place::Worker(n) => {
                // The bus reaches every life, connections only their own.
                if let Some(process) = self.workers.get_mut(usize::from(n))
                    && process.back_at.is_none()
                    && (process.actor.me == to || matches!(body, Body::CancelHint(_)))
                {
                    process.actor.hear(env, call, body);
                }
            }
        }
    }

    fn at_store(&mut self, from: Who, call: u32, body: Body) {
        let env = &mut self.env;
        match body {
            Body::Store(op) => {
                if !self.is_alive(from) {
                    self.env.count(Step::LateQuestion);
                    // The lock is a session's, and the session ended with its process.
                    if let StoreOp::Lead(_) = op {
                        return;
                    }
                }
                let env = &mut self.env;
                let answer = self.store.execute(env, &op);
                env.check.committed(&self.store, &op, env.now);
                say!(env, "store, for {from}: {op} => {answer}");
                env.answer(STORE, from, call, Body::Stored(answer));
            }
            Body::Gone if self.store.leader == Some(from) => {
                say!(env, "the leader's session ends");
                self.store.leader = None;
            }
            _ => {}
        }
    }

    /// A hash of what the fleet looks like, times aside.
    fn shape(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |value: u64| {
            hash = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        };
        for row in &self.store.rows {
            mix(row.state as u64 | row.epoch << 4 | u64::from(row.failures) << 20);
            mix(u64::from(row.interruptions) | u64::from(row.cancel_requested) << 8 | row.last_seq << 16);
            mix(row.outputs.iter().fold(0, |all, output| all << 16 | output));
        }
        mix(self.broker.depth() as u64 | (self.broker.unacked() as u64) << 16);
        mix(self.store.outbox.len() as u64 | (self.env.wires.len() as u64) << 16);
        for process in &self.workers {
            let held = process.actor.held.iter();
            mix(held.fold(process.back_at.map_or(1, |_| 2), |all, held| {
                all << 12 | held.lease.epoch << 6 | held.lease.run.0.as_u128() as u64
            }));
        }
        for process in &self.dispatchers {
            mix(u64::from(process.actor.leading) | u64::from(process.back_at.is_some()) << 1);
        }
        hash
    }
}
