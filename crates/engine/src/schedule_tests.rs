//! The scheduler by tables and properties: which nodes run, in which order they become ready, and what a router's
//! choice excludes. Driving real components is left to the tests of `execute`.

use proptest::prelude::*;

use super::*;

const ROUTER: usize = 0;

/// Edges `(source, output, target)`.
fn graph(vertices: usize, edges: &[(usize, &str, usize)]) -> Graph {
    let mut graph = Graph::new(vertices);
    for (source, output, target) in edges {
        graph.connect(*source, output, *target);
    }
    graph
}

/// Runs to the end, one node at a time; `stops` says what a node stops.
fn run(graph: &Graph, included: &[bool], stops: &[(usize, &str)]) -> (Vec<usize>, Vec<usize>) {
    let mut schedule = Schedule::new(graph, included);
    let (mut ran, mut skipped, mut queue) = (Vec::new(), Vec::new(), VecDeque::from(schedule.ready()));
    while let Some(vertex) = queue.pop_front() {
        ran.push(vertex);
        let stopped: Vec<String> = stops
            .iter()
            .filter(|(node, _)| *node == vertex)
            .map(|(_, output)| (*output).to_owned())
            .collect();
        skipped.extend(schedule.finished(vertex, &stopped));
        queue.extend(schedule.ready());
    }
    assert!(schedule.is_done(), "stuck at {:?}", schedule.stuck());
    skipped.sort_unstable();
    (ran, skipped)
}

#[test]
fn table() {
    struct Case {
        name: &'static str,
        vertices: usize,
        edges: &'static [(usize, &'static str, usize)],
        stops: &'static [(usize, &'static str)],
        ran: &'static [usize],
        skipped: &'static [usize],
    }
    let cases = [
        Case {
            name: "nothing",
            vertices: 0,
            edges: &[],
            stops: &[],
            ran: &[],
            skipped: &[],
        },
        Case {
            name: "a chain",
            vertices: 3,
            edges: &[(0, "o", 1), (1, "o", 2)],
            stops: &[],
            ran: &[0, 1, 2],
            skipped: &[],
        },
        Case {
            name: "a diamond joins after both sides",
            vertices: 4,
            edges: &[(0, "o", 1), (0, "o", 2), (1, "o", 3), (2, "o", 3)],
            stops: &[],
            ran: &[0, 1, 2, 3],
            skipped: &[],
        },
        Case {
            name: "two edges between the same nodes are one dependency",
            vertices: 2,
            edges: &[(0, "a", 1), (0, "b", 1)],
            stops: &[],
            ran: &[0, 1],
            skipped: &[],
        },
        Case {
            name: "two ends, one branch taken",
            vertices: 3,
            edges: &[(ROUTER, "yes", 1), (ROUTER, "no", 2)],
            stops: &[(ROUTER, "no")],
            ran: &[0, 1],
            skipped: &[2],
        },
        Case {
            name: "the merge behind both branches runs",
            vertices: 4,
            edges: &[(ROUTER, "yes", 1), (ROUTER, "no", 2), (1, "o", 3), (2, "o", 3)],
            stops: &[(ROUTER, "yes")],
            ran: &[0, 2, 3],
            skipped: &[1],
        },
        Case {
            name: "a long dead branch before the merge",
            vertices: 6,
            edges: &[
                (0, "yes", 1),
                (0, "no", 2),
                (2, "o", 3),
                (3, "o", 4),
                (1, "o", 4),
                (4, "o", 5),
            ],
            stops: &[(0, "no")],
            ran: &[0, 1, 4, 5],
            skipped: &[2, 3],
        },
        Case {
            name: "a dead branch takes down what also hangs on another root",
            vertices: 4,
            edges: &[(0, "yes", 1), (0, "no", 2), (3, "o", 2)],
            stops: &[(0, "no")],
            ran: &[0, 3, 1],
            skipped: &[2],
        },
        Case {
            name: "the sibling output is not connected: everything behind is excluded",
            vertices: 3,
            edges: &[(0, "yes", 1), (1, "o", 2)],
            stops: &[(0, "yes")],
            ran: &[0],
            skipped: &[1, 2],
        },
        Case {
            name: "both outputs into the same node: it runs",
            vertices: 2,
            edges: &[(0, "yes", 1), (0, "no", 1)],
            stops: &[(0, "no")],
            ran: &[0, 1],
            skipped: &[],
        },
        Case {
            name: "a second router closes the merge the first one kept open",
            vertices: 4,
            edges: &[(0, "yes", 1), (0, "no", 3), (1, "yes", 3), (1, "no", 2)],
            stops: &[(0, "no"), (1, "yes")],
            ran: &[0, 1, 2],
            skipped: &[3],
        },
        Case {
            name: "nested: the inner router never ran",
            vertices: 5,
            edges: &[
                (0, "yes", 1),
                (0, "no", 2),
                (1, "yes", 3),
                (1, "no", 4),
                (2, "o", 4),
            ],
            stops: &[(0, "yes")],
            ran: &[0, 2, 4],
            skipped: &[1, 3],
        },
    ];
    for case in cases {
        let graph = graph(case.vertices, case.edges);
        let (ran, skipped) = run(&graph, &vec![true; case.vertices], case.stops);
        assert_eq!(ran, case.ran, "{}: ran", case.name);
        assert_eq!(skipped, case.skipped, "{}: skipped", case.name);
    }
}

/// 2 is dead for router 0 but hangs on router 1 too; 3 is alive for 0. Router 1 must be heard before 3 may run.
#[test]
fn the_faster_of_two_routers_does_not_decide() {
    let graph = graph(4, &[(0, "dead", 2), (0, "live", 3), (1, "dead", 2), (2, "o", 3)]);
    for order in [[0, 1], [1, 0]] {
        let mut schedule = Schedule::new(&graph, &[true; 4]);
        assert_eq!(schedule.ready(), [0, 1]);
        for router in order {
            assert_eq!(schedule.ready(), Vec::<usize>::new());
            schedule.finished(router, &["dead".to_owned()]);
        }
        assert_eq!(schedule.ready(), Vec::<usize>::new(), "{order:?}");
        assert!(schedule.is_done());
    }
}

#[test]
fn nodes_outside_the_run_neither_run_nor_hold_up() {
    let graph = graph(3, &[(0, "o", 2), (1, "o", 2)]);
    assert_eq!(run(&graph, &[true, false, true], &[]).0, [0, 2]);
}

#[test]
fn what_is_independent_is_ready_at_once() {
    let graph = graph(4, &[(0, "o", 1), (0, "o", 2), (0, "o", 3)]);
    let mut schedule = Schedule::new(&graph, &[true; 4]);
    assert_eq!(schedule.ready(), [0]);
    assert_eq!(schedule.ready(), Vec::<usize>::new());
    schedule.finished(0, &[]);
    assert_eq!(schedule.ready(), [1, 2, 3]);
}

#[test]
fn late_and_repeated_reports_change_nothing() {
    let graph = graph(2, &[(0, "o", 1)]);
    let mut schedule = Schedule::new(&graph, &[true; 2]);
    assert!(schedule.finished(1, &[]).is_empty(), "not started");
    assert_eq!(schedule.ready(), [0]);
    schedule.finished(0, &[]);
    schedule.finished(0, &[]);
    assert_eq!(schedule.ready(), [1]);
    assert!(!schedule.is_done());
    schedule.finished(1, &[]);
    schedule.finished(99, &[]);
    assert!(schedule.is_done());
}

/// A random acyclic graph: edges go from a lower to a higher vertex, over output `a` or `b`.
fn dag() -> impl Strategy<Value = Graph> {
    (1usize..24).prop_flat_map(|vertices| {
        proptest::collection::vec((0..vertices, 0..vertices, any::<bool>()), 0..60).prop_map(move |edges| {
            let mut graph = Graph::new(vertices);
            for (a, b, output) in edges {
                if a != b {
                    graph.connect(a.min(b), if output { "a" } else { "b" }, a.max(b));
                }
            }
            graph
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the order in which running nodes end, each runs once, after its predecessors.
    #[test]
    fn each_once_and_never_before_its_predecessors(graph in dag(), picks in proptest::collection::vec(any::<usize>(), 64)) {
        let mut schedule = Schedule::new(&graph, &vec![true; graph.len()]);
        let (mut running, mut done) = (schedule.ready(), vec![false; graph.len()]);
        let mut picks = picks.into_iter().cycle();
        while !running.is_empty() {
            let vertex = running.swap_remove(picks.next().unwrap_or(0) % running.len());
            prop_assert!(!done[vertex], "{vertex} ran twice");
            prop_assert!(graph.predecessors(vertex).iter().all(|p| done[*p]), "{vertex} ran too early");
            done[vertex] = true;
            schedule.finished(vertex, &[]);
            running.extend(schedule.ready());
        }
        prop_assert!(schedule.is_done());
        prop_assert!(done.into_iter().all(|ran| ran));
    }

    /// With routers that stop outputs, everything still ends, and which nodes run does not depend on the order.
    #[test]
    fn routing_always_ends_and_is_the_same_in_every_order(
        graph in dag(),
        stops in proptest::collection::vec(0u8..4, 24),
        picks in proptest::collection::vec(any::<usize>(), 64),
    ) {
        let outcome = |picks: &[usize]| {
            let mut schedule = Schedule::new(&graph, &vec![true; graph.len()]);
            let (mut running, mut ran) = (schedule.ready(), vec![false; graph.len()]);
            let mut picks = picks.iter().cycle();
            while !running.is_empty() {
                let vertex = running.swap_remove(picks.next().copied().unwrap_or(0) % running.len());
                assert!(!std::mem::replace(&mut ran[vertex], true), "{vertex} ran twice");
                let stopped = match stops[vertex] { 1 => vec!["a".to_owned()], 2 => vec!["b".to_owned()], _ => vec![] };
                schedule.finished(vertex, &stopped);
                running.extend(schedule.ready());
            }
            assert!(schedule.is_done(), "stuck at {:?}", schedule.stuck());
            for (ran, state) in ran.iter().zip(&schedule.states) {
                assert_eq!(*ran, *state != State::Skipped);
            }
            ran
        };
        prop_assert_eq!(outcome(&[0]), outcome(&picks));
    }
}
