//! Random acyclic flows of prompts: they run, and resuming from whatever finished gives the same result.

use std::collections::BTreeMap;

use flowfleet_engine::OutputType;
use proptest::prelude::*;

use crate::draw::Draw;
use crate::run::{Runner, plan};

/// Prompts that wrap what their predecessors gave, so that the output tells the whole history.
fn flow(size: usize, edges: &[(usize, usize)]) -> Draw {
    let mut draw = Draw::new();
    let mut inputs: Vec<Vec<usize>> = vec![Vec::new(); size];
    for (a, b) in edges {
        if a != b {
            inputs[*a.max(b)].push(*a.min(b));
        }
    }
    for (node, froms) in inputs.iter_mut().enumerate() {
        let id = format!("Prompt-{node}");
        froms.sort_unstable();
        froms.dedup();
        let variables: Vec<String> = froms.iter().map(|from| format!("{{v{from}}}")).collect();
        draw = draw
            .node(&id)
            .set(&id, "template", format!("{node}({})", variables.join(",")));
        for from in froms.iter() {
            draw = draw.variable(&id, &format!("v{from}"), "");
        }
    }
    for (node, froms) in inputs.iter().enumerate() {
        for from in froms {
            draw = draw.edge(
                &format!("Prompt-{from}"),
                "prompt",
                &format!("Prompt-{node}"),
                &format!("v{from}"),
            );
        }
    }
    draw
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn runs_once_in_order_and_resumes_to_the_same(
        size in 1usize..10,
        edges in proptest::collection::vec((0usize..10, 0usize..10), 0..14),
        kept in proptest::collection::vec(any::<bool>(), 10),
    ) {
        let edges: Vec<(usize, usize)> = edges.into_iter().map(|(a, b)| (a % size, b % size)).collect();
        let plan = plan(&flow(size, &edges));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut runner = Runner::new("");
        runner.request.output_type = OutputType::Debug;
        let first = runtime.block_on(runner.run(&plan));
        prop_assert_eq!(first.started.len(), size);
        for (a, b) in edges.iter().filter(|(a, b)| a != b) {
            let place = |node: usize| first.started.iter().position(|id| *id == format!("Prompt-{node}"));
            prop_assert!(place(*a.min(b)) < place(*a.max(b)));
        }
        let outcome = first.result.unwrap();
        // Any set of finished nodes may be what an attempt left: prefixes, and also sets with holes.
        runner.resume = first.finished.into_iter().zip(kept).filter(|(_, keep)| *keep).map(|(entry, _)| entry).collect::<BTreeMap<_, _>>();
        let second = runtime.block_on(runner.run(&plan));
        prop_assert_eq!(&second.reused.len(), &runner.resume.len());
        prop_assert!(second.started.iter().all(|id| !runner.resume.contains_key(id)));
        let again = second.result.unwrap();
        prop_assert_eq!(again.nodes_reused as usize, runner.resume.len());
        prop_assert_eq!((again.nodes_run + again.nodes_reused) as usize, size);
        prop_assert_eq!(again.output, outcome.output);
        prop_assert_eq!(again.outputs, outcome.outputs);
    }
}
