//! Damages inputs, so that fuzz targets also run as ordinary tests.
//!
//! A fuzz target is a function of bytes that panics when a promise is broken. Each crate keeps its targets in a module
//! `fuzz`, compiled for its tests and for `fuzz/`. There libFuzzer drives them by coverage, for as long as one likes;
//! here [`Driver`] drives them for a second or two, with the same seeds, words and mutations, in every run of the
//! tests. Knows nothing of what the inputs mean.

mod bytes;
mod driver;
mod json;
mod random;
mod seeds;

pub use driver::Driver;
pub use random::Random;
pub use seeds::{dictionary, example_flows, starter_flows};

/// A damaged copy of `input`: as text or as a JSON document, with pieces of `others` and of the dictionary.
pub fn mutate(input: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut damaged = input.to_vec();
    for _ in 0..=random.below(4) {
        let structural = random.below(4) > 0;
        let changed = structural
            .then(|| json::damage(&damaged, others, random))
            .flatten();
        damaged = changed.unwrap_or_else(|| bytes::damage(damaged, others, random));
    }
    damaged
}
