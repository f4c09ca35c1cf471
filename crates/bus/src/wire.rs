//! What travels over the bus between processes, apart from the domain's own types.
//!
//! A message to a run's channel is a JSON array of items, so that one call makes one message a run. A worker's
//! announcement is the JSON of its presence.

use flowfleet_core::id::RunId;
use flowfleet_core::port::Live;
use std::collections::HashMap;

/// Sorts items by the run they speak of; those of one run keep their order.
pub(crate) fn by_run(live: Vec<Live>) -> Vec<(RunId, Vec<Live>)> {
    let mut places: HashMap<RunId, usize> = HashMap::new();
    let mut runs: Vec<(RunId, Vec<Live>)> = Vec::new();
    let mut put = |run: RunId, item: Live| {
        let place = *places.entry(run).or_insert_with(|| {
            runs.push((run, Vec::new()));
            runs.len() - 1
        });
        if let Some((_, items)) = runs.get_mut(place) {
            match (items.last_mut(), item) {
                // Neighbouring events of a run travel together.
                (Some(Live::Events { events }), Live::Events { events: more }) => events.extend(more),
                (_, item) => items.push(item),
            }
        }
    };
    for item in live {
        match item {
            // As a worker says them: of one run.
            Live::Events { events } if events.windows(2).all(|pair| pair[0].run == pair[1].run) => {
                if let Some(first) = events.first() {
                    put(first.run, Live::Events { events });
                }
            }
            Live::Events { events } => {
                for event in events {
                    put(event.run, Live::Events { events: vec![event] });
                }
            }
            Live::Token { run, node, text } => put(run, Live::Token { run, node, text }),
            // Said by the bus, never to it.
            Live::Lagged => {}
        }
    }
    runs
}

pub(crate) fn encode(items: &[Live]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(items)
}

pub(crate) fn decode(bytes: &[u8]) -> serde_json::Result<Vec<Live>> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use flowfleet_core::event::{EventKind, RunEvent};
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn run(n: u8) -> RunId {
        RunId(uuid::Uuid::from_u128(u128::from(n)))
    }

    fn event(run: RunId, seq: u64) -> RunEvent {
        let data = serde_json::json!({"n": seq}).into();
        RunEvent {
            run,
            seq,
            kind: EventKind::NodeFinished,
            at: Timestamp::UNIX_EPOCH,
            data,
        }
    }

    fn live() -> impl Strategy<Value = Live> {
        prop_oneof![
            proptest::collection::vec((0u8..3, 0u64..9), 0..4).prop_map(|events| Live::Events {
                events: events.into_iter().map(|(n, seq)| event(run(n), seq)).collect()
            }),
            (0u8..3, ".{0,8}").prop_map(|(n, text)| Live::Token {
                run: run(n),
                node: "x".to_owned(),
                text
            }),
            Just(Live::Lagged),
        ]
    }

    /// What a list says of one run, item by item.
    fn of(run: RunId, items: &[Live]) -> Vec<String> {
        let mut said = Vec::new();
        for item in items {
            match item {
                Live::Events { events } => {
                    said.extend(
                        events
                            .iter()
                            .filter(|e| e.run == run)
                            .map(|e| format!("e{}", e.seq)),
                    );
                }
                Live::Token { run: other, text, .. } if *other == run => said.push(format!("t{text}")),
                _ => {}
            }
        }
        said
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn sorting_keeps_each_runs_order_and_mixes_none(items in proptest::collection::vec(live(), 0..12)) {
            let sorted = by_run(items.clone());
            for n in 0..3 {
                let mine: Vec<_> = sorted.iter().filter(|(id, _)| *id == run(n)).collect();
                prop_assert!(mine.len() <= 1);
                let got = mine.first().map(|(_, items)| of(run(n), items)).unwrap_or_default();
                prop_assert_eq!(got, of(run(n), &items));
            }
            for (id, items) in &sorted {
                for n in (0..3).filter(|n| run(*n) != *id) {
                    prop_assert!(of(run(n), items).is_empty());
                }
                prop_assert_eq!(&decode(&encode(items).unwrap()).unwrap(), items);
            }
        }

        #[test]
        fn decoding_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }
}
