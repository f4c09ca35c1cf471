//! Drives a target over damaged seeds, and makes the first input that breaks it small.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{Random, mutate};

/// Inputs kept to mutate further, the seeds included.
const POOL: usize = 256;
/// Tries to make a breaking input smaller.
const SHRINKS: usize = 400;

/// One target with its seeds. `FLOWFLEET_FUZZ_SEED` starts another sequence than the usual one, `FLOWFLEET_FUZZ_CASES`
/// makes it as much longer.
#[derive(Debug)]
pub struct Driver {
    target: &'static str,
    seeds: Vec<Vec<u8>>,
    cases: usize,
    slowest: Duration,
}

impl Driver {
    /// `target` is its name in `fuzz/`.
    pub fn new(target: &'static str) -> Self {
        Self {
            target,
            seeds: Vec::new(),
            cases: 2_000,
            slowest: Duration::from_secs(5),
        }
    }

    #[must_use]
    pub fn seeds<S: Into<Vec<u8>>>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// How many inputs are tried, seeds aside.
    #[must_use]
    pub fn cases(mut self, cases: usize) -> Self {
        self.cases = cases;
        self
    }

    /// Runs the target on every seed and on damaged ones.
    ///
    /// # Panics
    /// When the target does, or takes more than five seconds, with the input in a file and how to repeat it.
    pub fn run(self, check: impl Fn(&[u8])) {
        let seed = number("FLOWFLEET_FUZZ_SEED").unwrap_or(1);
        let cases = self.cases * usize::try_from(number("FLOWFLEET_FUZZ_CASES").unwrap_or(1)).unwrap_or(1);
        let mut random = Random::new(seed);
        let mut pool = self.seeds.clone();
        pool.push(Vec::new());
        for input in &pool {
            self.one(input, seed, &check);
        }
        let began = Instant::now();
        for _ in 0..cases {
            let from = random.below(pool.len());
            let input = mutate(&pool[from], &self.seeds, &mut random);
            self.one(&input, seed, &check);
            // Damage adds up in a few inputs; most start from a seed.
            if random.below(8) == 0 {
                match pool.len() {
                    POOL.. => {
                        let fresh = self.seeds.len() + random.below(POOL - self.seeds.len().min(POOL - 1));
                        if let Some(old) = pool.get_mut(fresh) {
                            *old = input;
                        }
                    }
                    _ => pool.push(input),
                }
            }
        }
        let rate = cases as f64 / began.elapsed().as_secs_f64();
        report(&format!(
            "{}: {cases} inputs from seed {seed}, {rate:.0} a second",
            self.target
        ));
    }

    fn one(&self, input: &[u8], seed: u64, check: &impl Fn(&[u8])) {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
        let took = began.elapsed();
        if outcome.is_ok() && took <= self.slowest {
            return;
        }
        let smallest = if outcome.is_err() {
            shrink(input.to_vec(), check)
        } else {
            input.to_vec()
        };
        let path = keep(self.target, &smallest);
        panic!(
            "target {} {} on {:?} (seed {seed}); repeat with: just fuzz {} {}",
            self.target,
            if outcome.is_err() {
                "failed".to_owned()
            } else {
                format!("took {took:?}")
            },
            String::from_utf8_lossy(&smallest[..smallest.len().min(500)]),
            self.target,
            path.display(),
        );
    }
}

/// Removes ever smaller ranges as long as the target still fails.
fn shrink(mut input: Vec<u8>, check: &impl Fn(&[u8])) -> Vec<u8> {
    // Each try panics, and would say so.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let (mut size, mut tries) = (input.len() / 2, 0);
    while size > 0 && tries < SHRINKS {
        let mut at = 0;
        while at < input.len() && tries < SHRINKS {
            tries += 1;
            let end = (at + size).min(input.len());
            let shorter = [&input[..at], &input[end..]].concat();
            if catch_unwind(AssertUnwindSafe(|| check(&shorter))).is_err() {
                input = shorter;
            } else {
                at = end;
            }
        }
        size /= 2;
    }
    std::panic::set_hook(hook);
    input
}

/// Puts a breaking input where it can be used again.
fn keep(target: &str, input: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("flowfleet-fuzz-{target}-{}.input", std::process::id()));
    if let Err(error) = std::fs::write(&path, input) {
        report(&format!("{}: {error}", path.display()));
    }
    path
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a whole number, found {text:?}")),
    )
}

#[expect(clippy::print_stderr, reason = "a driver of tests reports where tests report")]
fn report(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_target_is_found_and_made_small() {
        let failure = catch_unwind(|| {
            Driver::new("self")
                .seeds(["the seed has no such byte"])
                .run(|input| assert!(!input.contains(&b'\0')));
        });
        let said = failure.unwrap_err().downcast::<String>().unwrap();
        assert!(said.contains(r#"target self failed on "\0""#), "{said}");
    }

    #[test]
    fn a_target_that_holds_sees_every_case() {
        let seen = std::cell::Cell::new(0);
        Driver::new("self")
            .seeds(["{}", "[1]"])
            .cases(300)
            .run(|_| seen.set(seen.get() + 1));
        assert_eq!(seen.get(), 303);
    }
}
