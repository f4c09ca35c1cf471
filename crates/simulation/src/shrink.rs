//! From a failing tape to a short one: parts are cut out or set to zero, and bytes made smaller, for as long as the
//! same invariant is broken.

use crate::check::Violation;
use crate::coverage::Coverage;
use crate::model::Mutation;
use crate::tape::Tape;
use crate::world::play;

/// Histories that shrinking plays at most.
const TRIES: u32 = 30_000;

/// A shorter tape that breaks the same invariant, and how it does.
pub fn shrink(tape: &Tape, violation: Violation, broken: Option<Mutation>) -> (Tape, Violation) {
    let mut shrinker = Shrinker {
        best: tape.bytes().to_vec(),
        violation,
        broken,
        tries: 0,
    };
    loop {
        let before = (shrinker.best.len(), shrinker.best.clone());
        shrinker.cut();
        shrinker.zero();
        shrinker.calm();
        shrinker.lower();
        if (shrinker.best.len(), &shrinker.best) == (before.0, &before.1) || shrinker.tries >= TRIES {
            return (Tape::written(shrinker.best), shrinker.violation);
        }
    }
}

struct Shrinker {
    best: Vec<u8>,
    violation: Violation,
    broken: Option<Mutation>,
    tries: u32,
}

impl Shrinker {
    /// Keeps `bytes` if they fail in the same way.
    fn keeps(&mut self, mut bytes: Vec<u8>) -> bool {
        // What is behind the end is zero anyway.
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        if self.tries >= TRIES || bytes == self.best {
            return false;
        }
        self.tries += 1;
        let tape = Tape::written(bytes);
        let ended = play(tape, self.broken, false, Coverage::default(), |_| {});
        match ended.violation {
            Some(found) if found.invariant == self.violation.invariant => {
                self.violation = found;
                self.best = ended.tape.bytes().to_vec();
                true
            }
            _ => false,
        }
    }

    /// Tries a change at each place, in pieces that get smaller.
    fn pieces(&mut self, change: impl Fn(&mut Vec<u8>, usize, usize)) {
        let mut size = (self.best.len() / 2).max(1);
        loop {
            let mut at = 0;
            while at < self.best.len() {
                let mut bytes = self.best.clone();
                let end = (at + size).min(bytes.len());
                change(&mut bytes, at, end);
                let shorter = bytes.len() < self.best.len();
                if !(self.keeps(bytes) && shorter) {
                    at += size;
                }
            }
            if size == 1 {
                return;
            }
            // A choice takes one to four bytes: the last sizes are tried one by one.
            size = if size > 8 { size / 2 } else { size - 1 };
        }
    }

    fn cut(&mut self) {
        self.pieces(|bytes, at, end| {
            bytes.drain(at..end);
        });
    }

    fn zero(&mut self) {
        self.pieces(|bytes, at, end| bytes[at..end].fill(0));
    }

    /// A fault takes more bytes than a step without one: puts undramatic steps in its place, so that what follows stays
    /// where it is.
    fn calm(&mut self) {
        for (fault, steps) in [(3, 2), (2, 1), (4, 2), (5, 2), (4, 1), (3, 1), (3, 4)] {
            let mut at = 0;
            while at < self.best.len() {
                let end = (at + fault).min(self.best.len());
                if self.best[at] != 0 {
                    let mut bytes = self.best.clone();
                    bytes.splice(at..end, std::iter::repeat_n(0, steps));
                    self.keeps(bytes);
                }
                at += 1;
            }
        }
    }

    fn lower(&mut self) {
        for at in 0..self.best.len() {
            for divisor in [4, 2] {
                if at < self.best.len() {
                    let mut bytes = self.best.clone();
                    bytes[at] /= divisor;
                    self.keeps(bytes);
                }
            }
            if at < self.best.len() && self.best[at] > 0 {
                let mut bytes = self.best.clone();
                bytes[at] -= 1;
                self.keeps(bytes);
            }
        }
    }
}
