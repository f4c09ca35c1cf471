//! Which source comes next: smooth weighted round robin.
//!
//! Each ready source gains its weight, the richest is picked and pays the sum of all. Picks spread evenly
//! (6:3:1 never gives six in a row while others wait) and none starves.

/// The state of the rotation, one credit a source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fair {
    credits: Vec<i64>,
}

impl Fair {
    /// Picks among the sources for which `weight` answers `Some`.
    pub(crate) fn pick(&mut self, sources: usize, weight: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        self.credits.resize(sources, 0);
        let mut total = 0;
        let mut best: Option<usize> = None;
        for index in 0..sources {
            let Some(weight) = weight(index) else {
                // Who has nothing to give saves up nothing.
                self.credits[index] = 0;
                continue;
            };
            let weight = i64::from(weight);
            total += weight;
            self.credits[index] += weight;
            if best.is_none_or(|best| self.credits[index] > self.credits[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        self.credits[best] -= total;
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn six_three_one_interleaves() {
        let mut fair = Fair::default();
        let picks: Vec<usize> = (0..10)
            .filter_map(|_| fair.pick(3, |i| Some([6, 3, 1][i])))
            .collect();
        assert_eq!(picks, [0, 1, 0, 0, 1, 0, 2, 0, 1, 0]);
    }

    #[test]
    fn nothing_ready_is_nothing_picked() {
        assert_eq!(Fair::default().pick(3, |_| None), None);
        assert_eq!(Fair::default().pick(0, |_| Some(1)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn shares_are_exact_over_each_cycle(weights in proptest::collection::vec(1u32..12, 1..6), cycles in 1u32..5) {
            let mut fair = Fair::default();
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..weights.iter().sum::<u32>() * cycles {
                counts[fair.pick(weights.len(), |i| Some(weights[i])).unwrap()] += 1;
            }
            let wanted: Vec<u32> = weights.iter().map(|w| w * cycles).collect();
            prop_assert_eq!(counts, wanted);
        }

        /// Whatever the others do, a source that stays ready waits at most one cycle (plus the debts of sources
        /// that came and went).
        #[test]
        fn none_starves(ready in proptest::collection::vec(any::<(bool, bool)>(), 60)) {
            let mut fair = Fair::default();
            let mut waited = 0;
            for (high, normal) in ready {
                let pick = fair.pick(3, |i| match i {
                    0 => high.then_some(6),
                    1 => normal.then_some(3),
                    _ => Some(1),
                });
                if pick == Some(2) { waited = 0 } else { waited += 1 }
                prop_assert!(waited <= 20, "low waited {} picks", waited);
            }
        }
    }
}
