//! What went wrong behind a port, said so that the caller knows whether trying again can help.

use std::error::Error as StdError;

/// Whether another try may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The backend was away or busy: the same call may succeed later.
    Retryable,
    /// The backend refused: the same call will be refused again.
    Permanent,
    /// The data contradicts what this program wrote: somebody has to look.
    Bug,
}

/// An error of an adapter, with the operation it happened in and its source kept.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {detail}")]
pub struct PortError {
    pub kind: Kind,
    pub operation: &'static str,
    pub detail: String,
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl PortError {
    pub fn new(kind: Kind, operation: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            operation,
            detail: detail.into(),
            source: None,
        }
    }

    pub fn retryable(operation: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::from_source(Kind::Retryable, operation, source)
    }

    pub fn permanent(operation: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::from_source(Kind::Permanent, operation, source)
    }

    pub fn bug(operation: &'static str, detail: impl Into<String>) -> Self {
        Self::new(Kind::Bug, operation, detail)
    }

    pub fn from_source(
        kind: Kind,
        operation: &'static str,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            operation,
            detail: source.to_string(),
            source: Some(Box::new(source)),
        }
    }

    pub fn is_retryable(&self) -> bool {
        self.kind == Kind::Retryable
    }
}
