//! The port to conversations: what a flow's nodes remember, and read again in a later run.
//!
//! Whose conversations those are (which tenant's, which flow's) is the adapter's business, and so is how long they are
//! kept. A run takes part in one only if it is asked to: see [`Plan::converses`](crate::Plan::converses).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::value::Message;

/// Messages that are recalled when nobody says how many.
pub(crate) const MOST: usize = 10_000;

/// Messages of the flow that runs.
pub trait Memory: Send + Sync + fmt::Debug {
    /// What was said, newest first. What this run has remembered is among it.
    fn recall<'m>(&'m self, wanted: &'m Recall) -> BoxFuture<'m, Result<Vec<Remembered>, MemoryError>>;

    /// Keeps a message. Idempotent by its id: what was said before under it is replaced, at its place.
    fn remember(&self, message: Remembered) -> BoxFuture<'_, Result<(), MemoryError>>;
}

/// Which messages to recall. `None` means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recall {
    pub session_id: Option<String>,
    pub context_id: Option<String>,
    pub sender: Option<String>,
    pub sender_name: Option<String>,
    pub limit: usize,
}

/// A message and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    /// A UUID.
    pub id: String,
    pub node: String,
    pub flow_id: String,
    pub run_id: String,
    /// When it was said; of one that is to be kept, about when.
    pub at: Timestamp,
    pub message: Message,
}

/// Why nothing was remembered or recalled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MemoryError {
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
}

/// Messages kept until this is dropped: those of the newest [`MOST`] ids.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<Vec<Remembered>>);

impl Recall {
    fn takes(&self, said: &Remembered) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| found.unwrap_or_default() == wanted)
        };
        let message = &said.message;
        is(&self.session_id, message.session_id.as_deref())
            && is(
                &self.context_id,
                message.extra.get("context_id").and_then(|c| c.as_str()),
            )
            && is(&self.sender, message.sender.as_deref())
            && is(&self.sender_name, message.sender_name.as_deref())
    }
}

impl Memory for InMemory {
    fn recall<'m>(&'m self, wanted: &'m Recall) -> BoxFuture<'m, Result<Vec<Remembered>, MemoryError>> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = said.iter().rev().filter(|said| wanted.takes(said));
        let found = newest.take(wanted.limit).cloned().collect();
        async { Ok(found) }.boxed()
    }

    fn remember(&self, message: Remembered) -> BoxFuture<'_, Result<(), MemoryError>> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.iter_mut().find(|known| known.id == message.id) {
            Some(known) => {
                known.message = message.message;
                known.node = message.node;
            }
            None => said.push(message),
        }
        let over = said.len().saturating_sub(MOST);
        said.drain(..over);
        async { Ok(()) }.boxed()
    }
}

/// How often each voice of a run has spoken: a node that runs again says something else.
#[derive(Debug, Default)]
pub(crate) struct Voices(Mutex<BTreeMap<(String, String), u32>>);

impl Voices {
    /// The name under which `node` speaks now as `sender`.
    pub(crate) fn next(&self, sender: &str, node: &str) -> String {
        let mut spoken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = spoken.entry((sender.to_owned(), node.to_owned())).or_default();
        *times += 1;
        match *times {
            1 => node.to_owned(),
            again => format!("{node}#{again}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: &str, session: &str, text: &str) -> Remembered {
        let mut message = Message::of(text);
        message.session_id = Some(session.to_owned());
        message.sender = Some("User".to_owned());
        Remembered {
            id: id.to_owned(),
            node: "n".to_owned(),
            flow_id: String::new(),
            run_id: "r".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            message,
        }
    }

    async fn heard(memory: &InMemory, wanted: Recall) -> String {
        let said = memory.recall(&wanted).await.unwrap();
        said.into_iter().map(|said| said.message.text).collect()
    }

    #[tokio::test]
    async fn what_is_remembered_is_recalled() {
        let memory = InMemory::default();
        for message in [
            said("1", "s", "a"),
            said("2", "t", "b"),
            said("3", "s", "c"),
            said("1", "s", "A"),
        ] {
            memory.remember(message).await.unwrap();
        }
        let all = || Recall {
            limit: 10,
            ..Recall::default()
        };
        assert_eq!(heard(&memory, all()).await, "cbA");
        let session_id = Some("s".to_owned());
        assert_eq!(heard(&memory, Recall { session_id, ..all() }).await, "cA");
        assert_eq!(heard(&memory, Recall { limit: 1, ..all() }).await, "c");
        let sender = Some("Machine".to_owned());
        assert_eq!(heard(&memory, Recall { sender, ..all() }).await, "");
        let context_id = Some(String::new());
        assert_eq!(heard(&memory, Recall { context_id, ..all() }).await, "cbA");
    }

    #[test]
    fn who_speaks_again_says_something_else() {
        let voices = Voices::default();
        let names = [
            ("User", "a"),
            ("Machine", "a"),
            ("Machine", "a"),
            ("Machine", "b"),
        ];
        let names = names.map(|(sender, node)| voices.next(sender, node));
        assert_eq!(names, ["a", "a", "a#2", "b"]);
    }
}
