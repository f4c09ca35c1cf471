//! The port to knowledge: texts that a flow's nodes bring, and find again by what they mean.
//!
//! Whose knowledge it is, and where it lies, is the adapter's business. A base has one embedding model, which whoever
//! made the base chose.

use std::collections::BTreeMap;
use std::fmt;

use futures::future::BoxFuture;
use serde_json::{Map, Value as Json};

/// Chunks that may be brought or asked about in one call.
pub(crate) const MOST_AT_ONCE: usize = 1_000;

/// Knowledge of the tenant whose run it is.
pub trait Knowledge: Send + Sync + fmt::Debug {
    /// The base of this name.
    fn base<'k>(&'k self, name: &'k str) -> BoxFuture<'k, Result<Option<KnowledgeBase>, KnowledgeError>>;

    /// Of chunks by id and hash, which have a hash that no other chunk of the base has.
    fn unknown<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        chunks: Vec<(String, String)>,
    ) -> BoxFuture<'k, Result<Vec<bool>, KnowledgeError>>;

    /// Keeps chunks; answers which are kept. Idempotent by their ids. With `unique` one is left out whose hash is there.
    fn bring<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        chunks: Vec<Bring>,
        unique: bool,
    ) -> BoxFuture<'k, Result<Vec<bool>, KnowledgeError>>;

    /// The nearest chunks, nearest first.
    fn look<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        look: Look,
    ) -> BoxFuture<'k, Result<Vec<Seen>, KnowledgeError>>;
}

/// A base of knowledge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnowledgeBase {
    /// A UUID.
    pub id: String,
    pub name: String,
    /// Who offers the model, such as `OpenAI`.
    pub provider: String,
    pub model: String,
}

/// What a chunk is tagged with: the values by key.
pub type Tags = BTreeMap<String, Vec<String>>;

/// A chunk to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Bring {
    /// A UUID.
    pub id: String,
    pub hash: String,
    pub content: String,
    pub metadata: Map<String, Json>,
    pub tags: Tags,
    pub vector: Vec<f32>,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    pub vector: Vec<f32>,
    pub limit: u32,
    /// One of these values for each key.
    pub tags: Tags,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub content: String,
    pub metadata: Map<String, Json>,
    pub vector: Vec<f32>,
    /// Euclidean.
    pub distance: f64,
}

/// Why nothing was brought or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KnowledgeError {
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
}
