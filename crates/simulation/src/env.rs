//! What every actor is handed at each step: the time, the choices, the wires, and who watches.

use crate::check::Checker;
use crate::coverage::{Coverage, Step};
use crate::model::{Ms, Mutation};
use crate::tape::Tape;
use crate::wire::{Body, Who, Wire};

/// The surroundings of one step.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) now: Ms,
    pub(crate) tape: Tape,
    /// What is under way, in the order in which it was sent.
    pub(crate) wires: Vec<Wire>,
    pub(crate) check: Checker,
    pub(crate) cover: Coverage,
    pub(crate) broken: Option<Mutation>,
    /// Readable steps, when somebody wants to read them.
    pub(crate) trace: Option<Vec<String>>,
    calls: u32,
    tags: u32,
    runs: u32,
}

impl Env {
    pub(crate) fn new(tape: Tape, broken: Option<Mutation>, traced: bool, cover: Coverage) -> Self {
        Self {
            now: 0,
            tape,
            wires: Vec::with_capacity(32),
            check: Checker::default(),
            cover,
            broken,
            trace: traced.then(Vec::new),
            calls: 0,
            tags: 0,
            runs: 0,
        }
    }

    pub(crate) fn is(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    pub(crate) fn count(&mut self, step: Step) {
        self.cover.step(step);
    }

    pub(crate) fn next_run(&mut self) -> u32 {
        self.runs += 1;
        self.runs
    }

    /// A name for a delivery that nothing else has.
    pub(crate) fn next_tag(&mut self) -> u32 {
        self.tags += 1;
        self.tags
    }

    /// Sends a question; its answer names the number.
    pub(crate) fn ask(&mut self, from: Who, to: Who, body: Body) -> u32 {
        self.calls += 1;
        let call = self.calls;
        self.wires.push(Wire { from, to, call, body });
        call
    }

    pub(crate) fn answer(&mut self, from: Who, to: Who, call: u32, body: Body) {
        self.wires.push(Wire { from, to, call, body });
    }

    /// Sends what nobody answers.
    pub(crate) fn tell(&mut self, from: Who, to: Who, body: Body) {
        self.answer(from, to, 0, body);
    }
}

/// Adds a line to the trace if there is one.
macro_rules! say {
    ($env:expr, $($arg:tt)*) => {
        if let Some(trace) = &mut $env.trace {
            trace.push(format!("{:>9.3} s  {}", $env.now as f64 / 1000.0, format_args!($($arg)*)));
        }
    };
}
pub(crate) use say;
