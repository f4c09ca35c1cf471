//! How many different things were seen, without keeping them: linear counting over a bitmap. Good to about a percent
//! until there are several times as many things as bits.

/// 8 MiB a counter.
const BITS: usize = 1 << 26;

#[derive(Debug, Clone)]
pub(crate) struct Distinct {
    words: Vec<u64>,
}

impl Default for Distinct {
    fn default() -> Self {
        Self {
            words: vec![0; BITS / 64],
        }
    }
}

impl Distinct {
    pub(crate) fn add(&mut self, hash: u64) {
        let bit = (hash.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 38) as usize;
        self.words[bit / 64] |= 1 << (bit % 64);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (into, from) in self.words.iter_mut().zip(&other.words) {
            *into |= from;
        }
    }

    /// About how many.
    pub(crate) fn estimate(&self) -> u64 {
        let free: u64 = self.words.iter().map(|word| u64::from(word.count_zeros())).sum();
        let bits = BITS as f64;
        (bits * (bits / (free.max(1) as f64)).ln()).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_once_and_nearly_all() {
        let (mut a, mut b) = (Distinct::default(), Distinct::default());
        assert_eq!(a.estimate(), 0);
        for n in 0..200_000_u64 {
            let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            a.add(hash ^ (hash >> 31));
            if n % 2 == 0 {
                b.add(hash ^ (hash >> 31));
            }
        }
        b.merge(&a);
        assert!(b.estimate().abs_diff(200_000) < 4_000, "{}", b.estimate());
    }
}
