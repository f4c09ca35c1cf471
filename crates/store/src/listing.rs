//! The parts of `list` that are the same for both databases.

use flowfleet_core::RunState;

const UNSUCCESSFUL: [RunState; 3] = [RunState::Failed, RunState::Cancelled, RunState::Expired];

fn among(states: &[RunState]) -> String {
    let names: Vec<_> = states
        .iter()
        .map(|state| format!("'{}'", state.as_str()))
        .collect();
    format!(" AND r.state IN ({})", names.join(", "))
}

/// The condition on the state. Written out, not bound: the planner then sees which partial index will do; SQLite's sees
/// it only if the index's own condition is there, word for word.
pub(crate) fn states(wanted: &[RunState]) -> String {
    let mut condition = among(wanted);
    if wanted != UNSUCCESSFUL && wanted.iter().all(|state| UNSUCCESSFUL.contains(state)) {
        condition.push_str(&among(&UNSUCCESSFUL));
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_table() {
        let unsuccessful = " AND r.state IN ('failed', 'cancelled', 'expired')";
        for (states, expected) in [
            (
                &[RunState::Failed][..],
                format!(" AND r.state IN ('failed'){unsuccessful}"),
            ),
            (&UNSUCCESSFUL[..], unsuccessful.to_owned()),
            (
                &[RunState::Failed, RunState::Running][..],
                " AND r.state IN ('failed', 'running')".to_owned(),
            ),
        ] {
            assert_eq!(super::states(states), expected);
        }
    }
}
