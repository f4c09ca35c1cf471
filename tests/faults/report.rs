//! What the suite says: progress as it goes, and a table at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::check::{Rule, Violation};
use super::fault::Kind;
use super::plan::Round;

/// Violations shown in full.
const SHOWN: usize = 30;

#[expect(
    clippy::print_stdout,
    reason = "progress is what somebody watches a long run for"
)]
pub fn say(line: &str) {
    println!("{line}");
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    count: usize,
    slowest: Duration,
}

/// What came out.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub took: Duration,
    pub accepted: usize,
    pub checked: usize,
    /// How attempts ended: what the faults did to runs.
    pub attempts: BTreeMap<String, usize>,
    pub violations: Vec<Violation>,
    rounds: usize,
    faults: BTreeMap<Kind, Tally>,
}

impl Report {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            took: Duration::ZERO,
            accepted: 0,
            checked: 0,
            attempts: BTreeMap::new(),
            violations: Vec::new(),
            rounds: 0,
            faults: BTreeMap::new(),
        }
    }

    /// A round was carried out, and `rest` later nothing was left to do.
    pub fn faults(&mut self, round: &Round, rest: Duration) {
        self.rounds += 1;
        for planned in &round.0 {
            let tally = self.faults.entry(planned.fault.kind()).or_default();
            tally.count += 1;
            tally.slowest = tally.slowest.max(rest);
        }
    }

    /// How often a kind of fault was carried out.
    pub fn count(&self, kind: Kind) -> usize {
        self.faults.get(&kind).map_or(0, |tally| tally.count)
    }

    pub fn add(&mut self, round: Option<usize>, violations: Vec<Violation>) {
        for violation in violations {
            if self.violations.len() < SHOWN {
                let when = round.map_or(String::new(), |number| format!(" (round {})", number + 1));
                say(&format!("    VIOLATION{when}: {violation}"));
            }
            self.violations.push(violation);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:28}{:>6}  slowest rest after it", "fault", "times")?;
        for (kind, tally) in &self.faults {
            writeln!(
                f,
                "{:28}{:>6}  {:.1} s",
                kind.0,
                tally.count,
                tally.slowest.as_secs_f64()
            )?;
        }
        let minutes = self.took.as_secs_f64() / 60.0;
        writeln!(
            f,
            "seed {}: {} rounds in {minutes:.1} min, {} runs accepted, {} checked to their end",
            self.seed, self.rounds, self.accepted, self.checked
        )?;
        write!(f, "attempts:")?;
        for (because, count) in &self.attempts {
            write!(f, " {because} {count}")?;
        }
        writeln!(f)?;
        let mut rules: BTreeMap<Rule, usize> = BTreeMap::new();
        for violation in &self.violations {
            *rules.entry(violation.rule).or_default() += 1;
        }
        if rules.is_empty() {
            return write!(f, "no violations");
        }
        write!(f, "VIOLATIONS:")?;
        for (rule, count) in rules {
            write!(f, " {rule:?} {count}")?;
        }
        Ok(())
    }
}
