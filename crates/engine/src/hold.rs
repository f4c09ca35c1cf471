//! How a caller steers an execution while it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// Asks executions to come to rest between two nodes. Clones are one; whoever shares it is held with the others.
#[derive(Debug, Clone, Default)]
pub struct Hold(Arc<AtomicBool>);

impl Hold {
    /// Asks, or takes the wish back: an execution that has not come to rest yet goes on.
    pub fn set(&self, held: bool) {
        self.0.store(held, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The ways to end an execution early.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Drops what is running.
    pub cancel: CancellationToken,
    /// Lets what is running finish, starts nothing that costs anything, and ends with [`crate::RunError::Held`] if the
    /// flow is not over by then.
    pub hold: Hold,
}

impl From<CancellationToken> for Control {
    fn from(cancel: CancellationToken) -> Self {
        Self {
            cancel,
            hold: Hold::default(),
        }
    }
}
