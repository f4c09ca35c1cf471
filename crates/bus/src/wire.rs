//! What travels over the bus between processes, apart from the domain's own types.
//!
//! A message to a shard's channel is a version byte and groups, one a run: the run's id (16 bytes), the length of
//! what follows (4 bytes, big-endian), and a JSON array of items. So a reader steps over runs that nobody asked for. A
//! worker's announcement is the JSON of its presence.

use std::collections::HashMap;

use flowfleet_core::id::RunId;
use flowfleet_core::port::Live;
use uuid::Uuid;

use crate::shard::{SHARDS, Shard};

const VERSION: u8 = 1;
/// The id and the length.
const HEAD: usize = 20;
/// A message that has grown to this is sent; what is left for its shard makes another.
const FULL: usize = 1 << 20;

/// A message is none of ours, or broken off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Sorts items by the run they speak of; those of one run keep their order.
pub(crate) fn by_run(live: Vec<Live>) -> Vec<(RunId, Vec<Live>)> {
    let mut places: HashMap<RunId, usize> = HashMap::with_capacity(live.len());
    let mut runs: Vec<(RunId, Vec<Live>)> = Vec::with_capacity(live.len());
    let mut put = |run: RunId, item: Live| {
        let place = *places.entry(run).or_insert_with(|| {
            runs.push((run, Vec::with_capacity(1)));
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
            Live::Events { events } => match events.first().map(|event| event.run) {
                None => {}
                Some(run) if events.iter().all(|event| event.run == run) => {
                    put(run, Live::Events { events });
                }
                Some(_) => {
                    for event in events {
                        put(event.run, Live::Events { events: vec![event] });
                    }
                }
            },
            Live::Token { run, node, text } => put(run, Live::Token { run, node, text }),
            // Said by the bus, never to it.
            Live::Lagged => {}
        }
    }
    runs
}

/// The messages that say all of it: one a shard, unless it is a great deal.
pub(crate) fn messages(live: Vec<Live>) -> serde_json::Result<Vec<(Shard, Vec<u8>)>> {
    let mut open: [Vec<u8>; SHARDS] = std::array::from_fn(|_| Vec::new());
    let mut messages = Vec::new();
    for (run, items) in by_run(live) {
        let shard = Shard::of(run);
        let Some(message) = open.get_mut(shard.number()) else {
            continue;
        };
        put_group(message, run, &items)?;
        if message.len() >= FULL {
            messages.push((shard, std::mem::take(message)));
        }
    }
    let rest = Shard::all().zip(open).filter(|(_, message)| !message.is_empty());
    messages.extend(rest);
    Ok(messages)
}

fn put_group(message: &mut Vec<u8>, run: RunId, items: &[Live]) -> serde_json::Result<()> {
    if message.is_empty() {
        message.push(VERSION);
    }
    message.extend_from_slice(run.0.as_bytes());
    let start = message.len();
    message.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *message, items)?;
    let length = u32::try_from(message.len() - start - 4).map_err(serde::ser::Error::custom)?;
    if let Some(place) = message.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// The groups of a message, still as bytes; after a malformed one there is nothing more.
pub(crate) fn groups(message: &[u8]) -> impl Iterator<Item = Result<(RunId, &[u8]), Malformed>> {
    let (mut rest, mut broken) = match message.split_first() {
        Some((&VERSION, rest)) => (rest, false),
        _ => (&[][..], true),
    };
    std::iter::from_fn(move || {
        if std::mem::take(&mut broken) {
            return Some(Err(Malformed));
        }
        if rest.is_empty() {
            return None;
        }
        match split_group(rest) {
            Some((run, items, after)) => {
                rest = after;
                Some(Ok((run, items)))
            }
            None => {
                rest = &[];
                Some(Err(Malformed))
            }
        }
    })
}

fn split_group(bytes: &[u8]) -> Option<(RunId, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let (run, length) = head.split_first_chunk::<16>()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let (items, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((RunId(Uuid::from_bytes(*run)), items, after))
}

/// The items of a group.
pub(crate) fn decode(items: &[u8]) -> serde_json::Result<Vec<Live>> {
    serde_json::from_slice(items)
}

#[cfg(test)]
mod tests {
    use flowfleet_core::event::{EventKind, RunEvent};
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn run(n: u8) -> RunId {
        RunId(Uuid::from_u128(u128::from(n)))
    }

    fn event(run: RunId, seq: u64) -> RunEvent {
        RunEvent {
            run,
            seq,
            kind: EventKind::NodeFinished,
            at: Timestamp::UNIX_EPOCH,
            data: serde_json::from_str(&format!(r#"{{"n":{seq}}}"#)).unwrap(),
        }
    }

    fn token(run: RunId, text: String) -> Live {
        Live::Token {
            run,
            node: "x".to_owned(),
            text,
        }
    }

    /// Runs 0 and 32 share a shard.
    fn some_run() -> impl Strategy<Value = RunId> {
        proptest::sample::select(vec![run(0), run(1), run(32)])
    }

    fn live() -> impl Strategy<Value = Live> {
        prop_oneof![
            proptest::collection::vec((some_run(), 0u64..9), 0..4).prop_map(|events| Live::Events {
                events: events.into_iter().map(|(run, seq)| event(run, seq)).collect()
            }),
            (some_run(), ".{0,8}").prop_map(|(run, text)| token(run, text)),
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

    /// What the messages say, in order.
    fn read(messages: &[(Shard, Vec<u8>)]) -> Vec<(RunId, Vec<Live>)> {
        let groups = messages.iter().flat_map(|(_, message)| groups(message));
        groups
            .map(|group| {
                let (run, items) = group.unwrap();
                (run, decode(items).unwrap())
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn sorting_keeps_each_runs_order_and_mixes_none(items in proptest::collection::vec(live(), 0..12)) {
            let sorted = by_run(items.clone());
            for id in [run(0), run(1), run(32)] {
                let mine: Vec<_> = sorted.iter().filter(|(run, _)| *run == id).collect();
                prop_assert!(mine.len() <= 1);
                let got = mine.first().map(|(_, items)| of(id, items)).unwrap_or_default();
                prop_assert_eq!(got, of(id, &items));
                for (_, items) in sorted.iter().filter(|(run, _)| *run != id) {
                    prop_assert!(of(id, items).is_empty());
                }
            }
        }

        #[test]
        fn messages_say_what_was_published_once_a_shard(items in proptest::collection::vec(live(), 0..12)) {
            let sent = messages(items.clone()).unwrap();
            let mut shards: Vec<usize> = sent.iter().map(|(shard, _)| shard.number()).collect();
            shards.dedup();
            prop_assert_eq!(shards.len(), sent.len());
            let mut got = read(&sent);
            let mut want = by_run(items);
            got.sort_by_key(|(run, _)| *run);
            want.sort_by_key(|(run, _)| *run);
            prop_assert_eq!(got, want);
            for (shard, message) in &sent {
                prop_assert!(groups(message).all(|group| Shard::of(group.unwrap().0) == *shard));
            }
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), ours: bool) {
            if let (true, Some(first)) = (ours, bytes.first_mut()) {
                *first = VERSION;
            }
            for (_, items) in groups(&bytes).flatten() {
                let _ = decode(items);
            }
        }
    }

    #[test]
    fn what_is_broken_off_is_said_once_after_what_is_whole() {
        let [(_, message)] =
            &messages(vec![token(run(0), "a".into()), token(run(32), "b".into())]).unwrap()[..]
        else {
            panic!("two runs of one shard make one message");
        };
        for end in 0..message.len() {
            let got: Vec<_> = groups(&message[..end]).collect();
            let whole = got.iter().filter(|group| group.is_ok()).count();
            assert!(whole < 2);
            // Between two groups nobody can tell.
            assert!(
                got.last() == Some(&Err(Malformed)) || whole == 1 || end == 1,
                "{end}"
            );
            assert!(got.iter().filter(|group| group.is_err()).count() <= 1);
        }
        let mut newer = message.clone();
        newer[0] = VERSION + 1;
        assert_eq!(groups(&newer).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    #[test]
    fn a_great_deal_makes_more_messages() {
        let text = "x".repeat(FULL / 3);
        let items: Vec<Live> = (0..7).map(|n| token(run(32 * n), text.clone())).collect();
        let sent = messages(items.clone()).unwrap();
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|(_, message)| message.len() < FULL * 2));
        let got: Vec<Live> = read(&sent).into_iter().flat_map(|(_, items)| items).collect();
        assert_eq!(got, items);
    }
}
