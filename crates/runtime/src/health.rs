//! Whether this process can do its work right now, and what is missing if not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// What a process needs, each with its newest state. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, CheckState>>>);

/// The state of one need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckState {
    pub ok: bool,
    /// False: the process works without it, only worse.
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// All needs at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub ready: bool,
    pub checks: BTreeMap<String, CheckState>,
}

impl Readiness {
    /// Without `what` the process is not ready.
    pub fn set(&self, what: &'static str, state: Result<(), String>) {
        self.put(what, true, state);
    }

    /// Without `what` the process works, but worse: shown, and still ready.
    pub fn set_optional(&self, what: &'static str, state: Result<(), String>) {
        self.put(what, false, state);
    }

    pub fn report(&self) -> Report {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Report {
            ready: checks.values().all(|check| check.ok || !check.required),
            checks: checks
                .iter()
                .map(|(what, check)| ((*what).to_owned(), check.clone()))
                .collect(),
        }
    }

    fn put(&self, what: &'static str, required: bool, state: Result<(), String>) {
        let check = CheckState {
            ok: state.is_ok(),
            required,
            detail: state.err(),
        };
        let before = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(what, check.clone());
        match (before.map(|b| b.ok), check.ok) {
            (Some(true) | None, false) => {
                tracing::warn!(what, detail = check.detail.as_deref(), required, "not available");
            }
            (Some(false), true) => tracing::info!(what, "available again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_required_needs_decide() {
        let readiness = Readiness::default();
        assert!(readiness.report().ready);
        readiness.set_optional("bus", Err("no route".into()));
        assert!(readiness.report().ready);
        let other = readiness.clone();
        other.set("store", Err("refused".into()));
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.checks["store"].detail.as_deref(), Some("refused"));
        readiness.set("store", Ok(()));
        assert!(readiness.report().ready);
    }
}
