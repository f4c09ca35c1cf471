//! Random numbers of a simulation: the same seed gives the same world.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A seeded source.
#[derive(Debug, Clone)]
pub(crate) struct Draws(StdRng);

impl Draws {
    /// A source of its own for each purpose, so that one more draw of one changes nothing for the others.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Self(StdRng::seed_from_u64(
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(purpose),
        ))
    }

    /// Between 0 and 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    pub(crate) fn between(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low).max(0.0) * self.unit()
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }

    /// Of the standard normal distribution, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }
}
