//! Knowledge: texts that flows find again by what they mean. A text lies with its vector, which a model made of it.
//!
//! Owns what a base, a chunk and a search are, their limits, and how far two vectors are apart: every adapter orders
//! by [`Distance`], so that an answer does not depend on the database.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::lease::Lease;
use crate::name::KnowledgeName;

/// Bytes of a chunk's text.
pub const CONTENT_BYTES: usize = 1 << 20;
/// Bytes of a chunk's metadata, as JSON.
pub const METADATA_BYTES: usize = 256 << 10;
/// Bytes of a base's settings, as JSON.
pub const SETTINGS_BYTES: usize = 64 << 10;
/// Bytes of the names of an embedding model and its provider.
pub const MODEL_BYTES: usize = 256;
/// Numbers of a vector; pgvector takes no more.
pub const DIMENSIONS: usize = 16_000;
/// Chunks of one call.
pub const BATCH: usize = 1_000;
/// Bases of a tenant.
pub const BASES: u32 = 1_000;
/// Chunks of a base: without an index a search reads them all.
pub const CHUNKS: u64 = 1_000_000;
/// Bytes of vectors that a search without pgvector reads at most.
pub const SCAN_BYTES: u64 = 1 << 30;
/// Chunks that a search gives at most.
pub const FOUND: u32 = 1_000;

/// A base to make. What lies in it is compared by the vectors of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct NewKnowledge {
    pub id: Uuid,
    pub name: KnowledgeName,
    /// Who offers the model, such as `OpenAI`.
    pub provider: String,
    pub model: String,
    /// What its maker says beside that: kept, not read.
    pub settings: Value,
}

/// A base of knowledge.
#[derive(Debug, Clone, PartialEq)]
pub struct Knowledge {
    pub id: Uuid,
    pub name: KnowledgeName,
    pub provider: String,
    pub model: String,
    pub settings: Value,
    /// Of its vectors: set by the first chunk.
    pub dimensions: Option<u32>,
    pub chunks: u64,
    pub words: u64,
    pub characters: u64,
    pub created_at: Timestamp,
}

/// A text and where it lies in meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Made of the run, so that a run that goes on elsewhere writes it again and not once more.
    pub id: Uuid,
    /// Of what identifies it: chunks with the same one are duplicates.
    pub hash: String,
    pub content: String,
    /// An object.
    pub metadata: Value,
    /// By which searches narrow it down.
    pub tags: Tags,
    pub vector: Vec<f32>,
}

/// What a chunk is tagged with: the values by key.
pub type Tags = BTreeMap<String, Vec<String>>;

/// Chunks to keep in a base, under the lease of the run that brings them.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingest {
    pub lease: Lease,
    pub knowledge: Uuid,
    pub chunks: Vec<Chunk>,
    /// Whether a chunk is left out whose hash is there, from before or earlier in this call.
    pub unique: bool,
}

/// What became of chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingested {
    /// Of each, whether it is there now by this call or an earlier one like it.
    Kept(Vec<bool>),
    /// The run is held by another worker.
    Stale,
    /// There is no such base in the run's tenant.
    Gone,
    /// The base holds vectors of so many numbers.
    Dimensions(u32),
    /// The base would hold more than [`CHUNKS`].
    Full,
}

/// What is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    pub knowledge: Uuid,
    pub vector: Vec<f32>,
    pub limit: u32,
    /// One of these values for each key.
    pub tags: Tags,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub content: String,
    pub metadata: Value,
    pub vector: Vec<f32>,
    pub distance: f64,
}

/// How a search may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchBy {
    /// The database orders by distance.
    Extension,
    /// The vectors are read and compared here.
    Scan,
}

/// Whether a chunk's tags are among those asked for.
#[must_use]
pub fn tagged(tags: &Tags, wanted: &Tags) -> bool {
    wanted.iter().all(|(key, values)| {
        tags.get(key)
            .is_some_and(|found| found.iter().any(|value| values.contains(value)))
    })
}

/// Below this and not 0, the square of a difference may vanish in 32 bits.
const LEAST: f32 = 1e-8;
/// A vector this long or longer may overflow them.
const LONGEST: f64 = 1e24;
/// How far vectors are from one: the Euclidean distance.
///
/// It is added up in 32 bits and in the order of sqlite-vec, whose numbers Langflow shows; vectors for which that is
/// not safe are compared in 64 bits.
#[derive(Debug)]
pub struct Distance<'v> {
    from: &'v [f32],
    safe: bool,
}

impl<'v> Distance<'v> {
    #[must_use]
    pub fn from(from: &'v [f32]) -> Self {
        Self {
            from,
            safe: safe(from),
        }
    }

    /// Of a vector with as many numbers.
    #[must_use]
    pub fn to(&self, vector: &[f32]) -> f64 {
        if !self.safe || !safe(vector) {
            return wide(self.from, vector);
        }
        let squares = |sum: f32, (a, b): (&f32, &f32)| sum + (b - a) * (b - a);
        let sum = self.from.iter().zip(vector).fold(0.0, squares);
        f64::from(f64::from(sum).sqrt() as f32)
    }
}

fn safe(vector: &[f32]) -> bool {
    let squares = |sum: f64, number: &f32| sum + f64::from(*number) * f64::from(*number);
    vector
        .iter()
        .all(|number| *number == 0.0 || number.abs() >= LEAST)
        && vector.iter().fold(0.0, squares) <= LONGEST
}

/// In 64 bits, scaled so that no square overflows.
fn wide(a: &[f32], b: &[f32]) -> f64 {
    let differences = || {
        a.iter()
            .zip(b)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
    };
    let largest = differences().fold(0.0, f64::max);
    if largest == 0.0 {
        return 0.0;
    }
    let scaled = differences().map(|difference| difference / largest);
    largest * scaled.map(|part| part * part).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances() {
        let of = |a: &[f32], b: &[f32]| Distance::from(a).to(b);
        assert_eq!(of(&[0.0, 0.0], &[3.0, 4.0]), 5.0);
        assert_eq!(of(&[1.0], &[1.0]), 0.0);
        assert_eq!(of(&[0.1], &[0.3]), f64::from((0.3_f32 - 0.1).abs()));
        // Its square is more than 32 bits hold.
        assert_eq!(of(&[1e30], &[0.0]), f64::from(1e30_f32));
        assert_eq!(of(&[1e-30], &[0.0]), f64::from(1e-30_f32));
        assert_eq!(of(&[f32::MAX], &[f32::MIN]), 2.0 * f64::from(f32::MAX));
        assert_eq!(of(&[1.0; 32], &[0.0; 32]), f64::from(32_f32.sqrt()));
    }

    proptest! {
        #[test]
        fn about_what_64_bits_say(pairs in proptest::collection::vec((-2.0_f32..2.0, -2.0_f32..2.0), 1..70)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let exact = wide(&a, &b);
            let ours = Distance::from(&a).to(&b);
            prop_assert!((ours - exact).abs() <= 1e-5 * exact.max(1.0));
            prop_assert_eq!(ours, Distance::from(&b).to(&a));
        }
    }

    #[test]
    fn each_key_wants_one_of_its_values() {
        let tags = |pairs: &[(&str, &[&str])]| -> Tags {
            let own = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
            pairs
                .iter()
                .map(|(key, values)| ((*key).to_owned(), own(values)))
                .collect()
        };
        let found = tags(&[("a", &["1", "2"]), ("b", &["x"])]);
        for (wanted, expected) in [
            (tags(&[]), true),
            (tags(&[("a", &["2"])]), true),
            (tags(&[("a", &["3", "1"]), ("b", &["x"])]), true),
            (tags(&[("a", &["1"]), ("b", &["y"])]), false),
            (tags(&[("c", &["1"])]), false),
            (tags(&[("a", &[])]), false),
        ] {
            assert_eq!(tagged(&found, &wanted), expected, "{wanted:?}");
        }
    }
}
