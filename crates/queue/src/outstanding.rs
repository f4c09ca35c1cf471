//! Which delivery tags of one channel are open, and how to settle some of them in few frames.
//!
//! AMQP settles one tag, or with `multiple` every open tag up to one. The second form is right exactly for the
//! part of the tags that is a prefix of what is open.

use std::collections::BTreeSet;

/// One settling frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settle {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
}

/// The open tags of one channel.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(BTreeSet<u64>);

impl Outstanding {
    pub(crate) fn insert(&mut self, tag: u64) {
        self.0.insert(tag);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes `tags` out and says which frames settle exactly those. Unknown ones are ignored: a channel dies of
    /// a tag it does not know.
    pub(crate) fn settle(&mut self, tags: impl IntoIterator<Item = u64>) -> Vec<Settle> {
        let mut mine: BTreeSet<u64> = tags.into_iter().filter(|tag| self.0.contains(tag)).collect();
        let mut frames = Vec::new();
        let prefix = self
            .0
            .iter()
            .zip(&mine)
            .take_while(|(open, mine)| open == mine)
            .count();
        if prefix > 1
            && let Some(last) = mine.iter().nth(prefix - 1).copied()
        {
            frames.push(Settle {
                tag: last,
                multiple: true,
            });
            let rest = mine.split_off(&(last + 1));
            for tag in std::mem::replace(&mut mine, rest) {
                self.0.remove(&tag);
            }
        }
        for tag in mine {
            self.0.remove(&tag);
            frames.push(Settle { tag, multiple: false });
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(tags: impl IntoIterator<Item = u64>) -> Outstanding {
        Outstanding(tags.into_iter().collect())
    }

    #[test]
    fn frames_table() {
        let multiple = |tag| Settle { tag, multiple: true };
        let single = |tag| Settle { tag, multiple: false };
        for (tags, settle, frames) in [
            (vec![1, 2, 3], vec![1, 2, 3], vec![multiple(3)]),
            (vec![1, 2, 3], vec![3, 1, 2, 2], vec![multiple(3)]),
            (vec![1, 2, 3, 4], vec![1, 2], vec![multiple(2)]),
            (vec![1, 2, 3, 4], vec![1, 2, 4], vec![multiple(2), single(4)]),
            (vec![1, 2, 3], vec![1], vec![single(1)]),
            (vec![1, 2, 3], vec![2, 3], vec![single(2), single(3)]),
            (vec![4, 7, 9], vec![4, 7], vec![multiple(7)]),
            (vec![4], vec![9], vec![]),
            (vec![], vec![1, 2], vec![]),
        ] {
            assert_eq!(
                open(tags.clone()).settle(settle.clone()),
                frames,
                "{tags:?} {settle:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// A broker that follows the frames settles exactly the tags asked for.
        #[test]
        fn exactly_what_was_asked(
            tags in proptest::collection::btree_set(1u64..60, 0..40),
            calls in proptest::collection::vec(proptest::collection::vec(1u64..60, 0..12), 1..6),
        ) {
            let mut ours = open(tags.clone());
            let mut broker = tags;
            for call in calls {
                let mut wanted = broker.clone();
                wanted.retain(|tag| !call.contains(tag));
                for frame in ours.settle(call) {
                    prop_assert!(broker.contains(&frame.tag), "an unknown tag kills the channel");
                    if frame.multiple {
                        broker.retain(|tag| *tag > frame.tag);
                    } else {
                        broker.remove(&frame.tag);
                    }
                }
                prop_assert_eq!(&broker, &wanted);
                prop_assert_eq!(&ours.0, &wanted);
            }
        }
    }
}
