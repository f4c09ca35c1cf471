//! Waiting longer after each failure of a backend, with jitter so that a fleet does not come back as one.

use std::time::Duration;

/// Doubles from `first` to `most`; [`Backoff::reset`] after a success.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next delay; `random` in `0..1` spreads it over its upper half.
    pub fn next(&mut self, random: f64) -> Duration {
        let delay = self.next.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
        self.next = (self.next * 2).min(self.most);
        delay
    }

    /// Waits for the next delay.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next(rand::random())).await;
    }
}

impl Default for Backoff {
    /// For a backend that is away: 100 ms to 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let delays: Vec<u128> = (0..4).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 350, 350]);
        assert_eq!(backoff.next(0.0).as_millis(), 175);
        backoff.reset();
        assert_eq!(backoff.next(1.0).as_millis(), 100);
    }
}
