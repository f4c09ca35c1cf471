//! The fan-out within one process: from whatever arrives for a run to the listeners it has here.
//!
//! One bounded channel a run, made for its first listener and gone with its last. A listener that falls behind
//! loses the oldest items and is told; nobody waits for it.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use flowfleet_core::id::RunId;
use flowfleet_core::port::{Live, LiveStream};
use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, watch};

use crate::metrics::{LAGGED, LISTENED_RUNS};

/// Items a listener may be behind. Tokens come one by one: this is seconds of a fast model.
pub(crate) const BEHIND: usize = 256;
/// Cancels a listener may be behind. The heartbeat carries what is missed.
const CANCELS_BEHIND: usize = 1_024;

#[derive(Debug)]
struct Topic {
    sender: broadcast::Sender<Arc<Live>>,
    listeners: usize,
    /// Whether the backend sends us this run's items (always, when there is no backend).
    active: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Topics {
    runs: HashMap<RunId, Topic>,
    /// Runs whose listeners came or went since the backend last looked.
    changed: HashSet<RunId>,
}

/// Who listens here.
#[derive(Debug)]
pub(crate) struct Hub {
    topics: Mutex<Topics>,
    cancels: broadcast::Sender<RunId>,
    /// Whether a backend must be told of changes.
    backed: bool,
    pub(crate) dirty: Notify,
    /// Whether the backend sends us cancels.
    pub(crate) attached: watch::Sender<bool>,
}

impl Hub {
    pub(crate) fn new(backed: bool) -> Arc<Self> {
        Arc::new(Self {
            topics: Mutex::default(),
            cancels: broadcast::Sender::new(CANCELS_BEHIND),
            backed,
            dirty: Notify::new(),
            attached: watch::Sender::new(!backed),
        })
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        // Each change under the lock is complete in itself.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to a run; the second part says when the backend's side is active.
    pub(crate) fn listen(self: &Arc<Self>, run: RunId) -> (LiveStream, watch::Receiver<bool>) {
        let (receiver, active) = {
            let mut topics = self.topics();
            let topic = topics.runs.entry(run).or_insert_with(|| Topic {
                sender: broadcast::Sender::new(BEHIND),
                listeners: 0,
                active: watch::Sender::new(!self.backed),
            });
            topic.listeners += 1;
            let pair = (topic.sender.subscribe(), topic.active.subscribe());
            if topic.listeners == 1 {
                self.touch(&mut topics, run);
            }
            pair
        };
        let guard = Guard {
            hub: Arc::clone(self),
            run,
        };
        (
            Box::pin(Listening {
                items: items(receiver),
                _guard: guard,
            }),
            active,
        )
    }

    fn touch(&self, topics: &mut Topics, run: RunId) {
        metrics::gauge!(LISTENED_RUNS).set(topics.runs.len() as f64);
        if self.backed {
            topics.changed.insert(run);
            self.dirty.notify_one();
        }
    }

    fn leave(&self, run: RunId) {
        let mut topics = self.topics();
        let Some(topic) = topics.runs.get_mut(&run) else {
            return;
        };
        topic.listeners -= 1;
        if topic.listeners == 0 {
            topics.runs.remove(&run);
            self.touch(&mut topics, run);
        }
    }

    /// Hands an item to the listeners of a run.
    pub(crate) fn deliver(&self, run: RunId, live: Live) {
        if let Some(topic) = self.topics().runs.get(&run) {
            // It fails when the last listener is just leaving.
            let _ = topic.sender.send(Arc::new(live));
        }
    }

    /// Tells every listener that it may have missed something.
    pub(crate) fn lagged(&self) {
        let lagged = Arc::new(Live::Lagged);
        for topic in self.topics().runs.values() {
            metrics::counter!(LAGGED, "reason" => "reconnected").increment(1);
            let _ = topic.sender.send(Arc::clone(&lagged));
        }
    }

    /// Runs whose listeners changed since the last call, and whether each has any now.
    pub(crate) fn take_changed(&self) -> Vec<(RunId, bool)> {
        let mut topics = self.topics();
        let changed = std::mem::take(&mut topics.changed);
        changed
            .into_iter()
            .map(|run| (run, topics.runs.contains_key(&run)))
            .collect()
    }

    /// All runs listened to.
    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.topics().runs.keys().copied().collect()
    }

    /// The backend's word that runs are, or are no longer, sent to us.
    pub(crate) fn set_active(&self, runs: &[RunId], active: bool) {
        let topics = self.topics();
        for topic in runs.iter().filter_map(|run| topics.runs.get(run)) {
            topic.active.send_replace(active);
        }
    }

    /// Marks runs for another look by the backend.
    pub(crate) fn look_again(&self, runs: &[RunId]) {
        self.topics().changed.extend(runs);
    }

    /// Tells the local listeners of cancels.
    pub(crate) fn cancel(&self, run: RunId) {
        let _ = self.cancels.send(run);
    }

    pub(crate) fn cancels(&self) -> BoxStream<'static, RunId> {
        unfold(self.cancels.subscribe(), |mut receiver| async {
            loop {
                match receiver.recv().await {
                    Ok(run) => return Some((run, receiver)),
                    Err(RecvError::Lagged(_)) => metrics::counter!(LAGGED, "reason" => "slow").increment(1),
                    Err(RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.topics().runs.is_empty()
    }
}

fn items(receiver: broadcast::Receiver<Arc<Live>>) -> LiveStream {
    unfold(receiver, |mut receiver| async {
        match receiver.recv().await {
            Ok(live) => Some((Arc::unwrap_or_clone(live), receiver)),
            Err(RecvError::Lagged(_)) => {
                metrics::counter!(LAGGED, "reason" => "slow").increment(1);
                Some((Live::Lagged, receiver))
            }
            Err(RecvError::Closed) => None,
        }
    })
    .boxed()
}

/// Ends a subscription when its stream is dropped.
#[derive(Debug)]
struct Guard {
    hub: Arc<Hub>,
    run: RunId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.hub.leave(self.run);
    }
}

struct Listening {
    items: LiveStream,
    _guard: Guard,
}

impl Stream for Listening {
    type Item = Live;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Live>> {
        self.items.poll_next_unpin(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_topic_lives_as_long_as_its_listeners() {
        let hub = Hub::new(true);
        let run = RunId::generate();
        let (first, active) = hub.listen(run);
        let (second, _) = hub.listen(run);
        assert!(!*active.borrow());
        assert_eq!(hub.take_changed(), [(run, true)]);
        hub.set_active(&[run], true);
        assert!(*active.borrow());
        drop(first);
        assert_eq!(hub.take_changed(), []);
        drop(second);
        assert_eq!(hub.take_changed(), [(run, false)]);
        assert!(hub.is_empty());
        hub.deliver(run, Live::Lagged);
    }

    #[tokio::test]
    async fn without_a_backend_a_listener_is_active_at_once() {
        let hub = Hub::new(false);
        let (_stream, active) = hub.listen(RunId::generate());
        assert!(*active.borrow());
        assert_eq!(hub.take_changed(), []);
    }
}
