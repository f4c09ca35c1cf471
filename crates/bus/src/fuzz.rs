//! Fuzz targets of the wire between processes: what holds for any bytes. Compiled for tests and for `fuzz/` only.

use flowfleet_core::port::Live;

use crate::shard::Shard;
use crate::wire::{decode, groups, messages};

/// A message is read up to where it is malformed, and what was read can be sent on: it is read as the same, from the
/// second time on (reading a number may round it once).
pub fn message(bytes: &[u8]) {
    let read = groups(bytes).collect::<Vec<_>>();
    let whole = read.iter().take_while(|group| group.is_ok()).count();
    assert!(read.len() - whole <= 1, "something after a malformed group");
    let live = read
        .into_iter()
        .flatten()
        .filter_map(|(_, items)| decode(items).ok());
    let once = sent_on(live.flatten().collect());
    assert_eq!(sent_on(once.clone()), once);
}

/// Writes and reads it.
fn sent_on(live: Vec<Live>) -> Vec<Live> {
    let mut read = Vec::new();
    for (shard, message) in messages(live).unwrap_or_default() {
        for group in groups(&message) {
            let items = group.map(|(run, items)| {
                assert_eq!(Shard::of(run), shard);
                decode(items)
            });
            let Ok(Ok(items)) = items else {
                panic!("what was written cannot be read");
            };
            read.extend(items);
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use flowfleet_core::id::RunId;
    use flowfleet_core::port::Live;
    use flowfleet_mutate::Driver;

    use super::*;

    #[test]
    fn shard_messages() {
        let said = (0..3).map(|n| Live::Token {
            run: RunId(uuid::Uuid::from_u128(32 * n)),
            node: "a".to_owned(),
            text: "b".to_owned(),
        });
        let seeds = messages(said.collect()).unwrap();
        Driver::new("shard")
            .seeds(seeds.into_iter().map(|(_, message)| message))
            .cases(20_000)
            .run(message);
    }
}
