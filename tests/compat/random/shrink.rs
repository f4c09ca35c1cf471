//! Makes a flow smaller for as long as something stays true of it.

use super::spec::Spec;

/// Flows that are tried.
const MOST: usize = 150;

/// The smallest found, and what `still` said of it.
pub(super) fn smallest<T>(
    mut spec: Spec,
    mut known: T,
    mut still: impl FnMut(&Spec) -> Option<T>,
) -> (Spec, T) {
    let mut left = MOST;
    'smaller: loop {
        for candidate in candidates(&spec) {
            if left == 0 {
                return (spec, known);
            }
            left -= 1;
            if let Some(told) = still(&candidate) {
                (spec, known) = (candidate, told);
                continue 'smaller;
            }
        }
        return (spec, known);
    }
}

/// The biggest steps first.
fn candidates(spec: &Spec) -> Vec<Spec> {
    let mut all: Vec<Spec> = (0..spec.nodes.len())
        .rev()
        .map(|place| spec.without(place))
        .collect();
    all.retain(|spec| !spec.nodes.is_empty());
    for place in 0..spec.edges.len() {
        let mut smaller = spec.clone();
        smaller.edges.remove(place);
        all.push(smaller);
    }
    for (place, node) in spec.nodes.iter().enumerate() {
        for field in 0..node.fields.len() {
            // What it keeps out is chance.
            if node.fields[field].0 == "clean_output" {
                continue;
            }
            let mut smaller = spec.clone();
            smaller.nodes[place].fields.remove(field);
            all.push(smaller);
        }
    }
    if !spec.input.is_empty() {
        all.push(Spec {
            input: String::new(),
            ..spec.clone()
        });
    }
    all
}
