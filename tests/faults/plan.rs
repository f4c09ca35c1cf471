//! From a seed to what goes wrong when. Pure: the same seed is the same plan.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::fault::{Fault, Kind};

/// How long the suite takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every kind of fault once, but for the slow ones.
    Short,
    /// Rounds for this long.
    Long(Duration),
}

/// A fault and when: `after` the round began, for `hold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub fault: Fault,
    pub after: Duration,
    pub hold: Duration,
}

/// Faults that overlap, then a time in which everything must come to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round(pub Vec<Planned>);

/// All rounds of the short form, or as many of the long form as somebody asks for.
#[derive(Debug)]
pub struct Plan {
    seed: u64,
    form: Form,
    short: Vec<Round>,
}

impl Plan {
    pub fn new(seed: u64, form: Form) -> Self {
        let short = match form {
            Form::Short => short(seed),
            Form::Long(_) => Vec::new(),
        };
        Self { seed, form, short }
    }

    /// The round with this number, from 0; `None` after the last one. The long form has no last one.
    pub fn round(&self, number: usize) -> Option<Round> {
        match self.form {
            Form::Short => self.short.get(number).cloned(),
            Form::Long(_) => Some(long(self.seed, number)),
        }
    }
}

/// Three faults at once.
const SHORT_ROUND: usize = 3;

fn short(seed: u64) -> Vec<Round> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut kinds: Vec<Kind> = Kind::all().filter(|kind| !kind.is_slow()).collect();
    kinds.shuffle(&mut random);
    let count = kinds.len().div_ceil(SHORT_ROUND);
    let mut rounds: Vec<Vec<Planned>> = vec![Vec::new(); count];
    for kind in kinds {
        let fault = kind.draw(&mut random);
        let planned = Planned {
            fault,
            after: millis(&mut random, 0, 1_000),
            hold: millis(&mut random, 3_500, 5_000),
        };
        let free = rounds
            .iter_mut()
            .filter(|round| !collides(round, fault))
            .min_by_key(|round| round.len());
        match free {
            Some(round) => round.push(planned),
            None => rounds.push(vec![planned]),
        }
    }
    rounds.into_iter().map(Round).collect()
}

fn long(seed: u64, number: usize) -> Round {
    // Each round has its own stream, so that one can be replayed without those before it.
    let mut random = StdRng::seed_from_u64(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let kinds: Vec<Kind> = Kind::all().collect();
    let wanted = random.random_range(1..=4);
    let mut round: Vec<Planned> = Vec::new();
    while round.len() < wanted {
        let fault = kinds[random.random_range(0..kinds.len())].draw(&mut random);
        if !collides(&round, fault) {
            round.push(Planned {
                fault,
                after: millis(&mut random, 0, 4_000),
                hold: millis(&mut random, 500, 12_000),
            });
        }
    }
    Round(round)
}

fn collides(round: &[Planned], fault: Fault) -> bool {
    round
        .iter()
        .any(|planned| planned.fault.target() == fault.target())
}

fn millis(random: &mut StdRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.random_range(least..=most))
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Planned { fault, after, hold }) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(
                f,
                "{comma}{fault} ({:.1} s from {:.1} s)",
                hold.as_secs_f64(),
                after.as_secs_f64()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_is_the_same_plan() {
        for form in [Form::Short, Form::Long(Duration::MAX)] {
            let rounds = |seed| (0..5).map(|n| Plan::new(seed, form).round(n)).collect::<Vec<_>>();
            assert_eq!(rounds(7), rounds(7));
            assert_ne!(rounds(7), rounds(8));
        }
    }

    #[test]
    fn the_short_form_has_every_kind_but_the_slow_ones() {
        for seed in 0..200 {
            let plan = Plan::new(seed, Form::Short);
            let rounds: Vec<Round> = (0..).map_while(|n| plan.round(n)).collect();
            let kinds: HashSet<Kind> = rounds.iter().flat_map(|r| &r.0).map(|p| p.fault.kind()).collect();
            assert_eq!(kinds, Kind::all().filter(|kind| !kind.is_slow()).collect());
            assert!(rounds.len() <= 10, "{} rounds take too long", rounds.len());
        }
    }

    #[test]
    fn the_long_form_has_every_kind_within_an_hour_and_no_collisions() {
        let plan = Plan::new(3, Form::Long(Duration::MAX));
        let mut kinds = HashSet::new();
        for number in 0..100 {
            let round = plan.round(number).unwrap();
            assert!((1..=4).contains(&round.0.len()));
            for (n, planned) in round.0.iter().enumerate() {
                assert!(!collides(&round.0[..n], planned.fault), "{round}");
                kinds.insert(planned.fault.kind());
            }
        }
        assert_eq!(kinds, Kind::all().collect());
    }
}
