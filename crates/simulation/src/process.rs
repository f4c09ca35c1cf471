//! Processes come and go: stopped for a while, ended with all they had in memory, started again as somebody new.

use crate::dispatcher::Dispatcher;
use crate::env::say;
use crate::model::Ms;
use crate::wire::{BROKER, Body, Place, STORE, Who};
use crate::worker::Worker;
use crate::world::World;

/// A process, perhaps stopped or gone.
#[derive(Debug)]
pub(crate) struct Process<T> {
    pub(crate) actor: T,
    pub(crate) paused_until: Ms,
    /// Crashed or ended; back at this time.
    pub(crate) back_at: Option<Ms>,
}

impl<T> Process<T> {
    pub(crate) fn new(actor: T) -> Self {
        Self {
            actor,
            paused_until: 0,
            back_at: None,
        }
    }

    pub(crate) fn runs(&self, now: Ms) -> bool {
        self.back_at.is_none() && self.paused_until <= now
    }

    fn is_the_one(&self, is: impl Fn(&T) -> bool) -> bool {
        self.back_at.is_none() && is(&self.actor)
    }

    pub(crate) fn recover(&mut self, by: Ms) {
        self.paused_until = 0;
        self.back_at = self.back_at.map(|at| at.min(by));
    }

    /// When it does anything by itself next although it does nothing now.
    pub(crate) fn returns(&self) -> Ms {
        self.back_at.unwrap_or(self.paused_until)
    }
}

impl World {
    pub(crate) fn restart(&mut self, place: Place) {
        let env = &mut self.env;
        match place {
            Place::Dispatcher(n) => {
                let process = &mut self.dispatchers[usize::from(n)];
                if process.back_at.is_some() {
                    let life = process.actor.me.life + 1;
                    say!(env, "dispatcher {n} starts again");
                    *process = Process::new(Dispatcher::new(n, life));
                    self.client.lives[usize::from(n)] = life;
                }
            }
            Place::Worker(n) => {
                let process = &mut self.workers[usize::from(n)];
                if process.back_at.is_some() {
                    let life = process.actor.me.life + 1;
                    say!(env, "worker {n} starts again");
                    *process = Process::new(Worker::new(env, n, life, self.slots));
                }
            }
            Place::Client | Place::Store | Place::Broker => {}
        }
    }

    /// Ends a process at once, with all it had in memory.
    pub(crate) fn crash(&mut self, place: Place, back_in: Ms) {
        let env = &mut self.env;
        let back_at = Some(env.now + back_in);
        let me = match place {
            Place::Dispatcher(n) => {
                let process = &mut self.dispatchers[usize::from(n)];
                let me = process.actor.me;
                process.actor = Dispatcher::new(n, me.life);
                (process.back_at, process.paused_until) = (back_at, 0);
                env.tell(me, STORE, Body::Gone);
                // Clients of a process that is gone find out.
                for wire in &mut env.wires {
                    if wire.to == me && matches!(wire.body, Body::Submit(_) | Body::Cancel(_)) {
                        (wire.from, wire.to, wire.body) = (wire.to, wire.from, Body::Away);
                    }
                }
                self.client.abandoned(env, me);
                me
            }
            Place::Worker(n) => {
                let process = &mut self.workers[usize::from(n)];
                let me = process.actor.me;
                process.actor.forget_all();
                (process.back_at, process.paused_until) = (back_at, 0);
                env.tell(me, BROKER, Body::Gone);
                me
            }
            Place::Client | Place::Store | Place::Broker => return,
        };
        say!(env, "{me} crashes");
    }

    pub(crate) fn is_alive(&self, who: Who) -> bool {
        match who.place {
            Place::Dispatcher(n) => self.dispatchers[usize::from(n)].is_the_one(|actor| actor.me == who),
            Place::Worker(n) => self.workers[usize::from(n)].is_the_one(|actor| actor.me == who),
            Place::Client | Place::Store | Place::Broker => true,
        }
    }
}
