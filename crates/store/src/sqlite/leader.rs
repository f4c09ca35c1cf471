//! Leadership within a process: a SQLite file belongs to one machine and, as a rule, to one process. Should two
//! share it, both lead, which upkeep is made to bear.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use flowfleet_core::port::Leadership;

/// The roles that are taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Registry(Arc<Mutex<HashSet<String>>>);

impl Registry {
    pub(super) fn elect(&self, role: &str) -> Option<Leader> {
        let free = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(role.to_owned());
        free.then(|| Leader {
            registry: self.clone(),
            role: role.to_owned(),
        })
    }
}

/// Holds a role until it is dropped.
#[derive(Debug)]
pub(super) struct Leader {
    registry: Registry,
    role: String,
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.registry
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.role);
    }
}

#[async_trait]
impl Leadership for Leader {
    async fn holds(&mut self) -> bool {
        true
    }
}
