//! The fan-out within one process: from whatever arrives for a run to the listeners it has here.
//!
//! One bounded channel a run, made for its first listener and gone with its last. A listener that falls behind
//! loses the oldest items and is told; nobody waits for it. A backend is asked
//! for whole shards, as long as any of their runs is listened to.

use std::collections::HashMap;
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
use crate::shard::{SHARDS, Shard};

/// Items a listener may be behind. Tokens come one by one: this is seconds of a fast model.
pub(crate) const BEHIND: usize = 256;
/// Cancels a listener may be behind. The heartbeat carries what is missed.
const CANCELS_BEHIND: usize = 1_024;

#[derive(Debug)]
struct Topic {
    sender: broadcast::Sender<Arc<Live>>,
    listeners: usize,
}

#[derive(Debug)]
struct Share {
    /// How many of its runs are listened to.
    runs: usize,
    /// Whether the backend sends us its items (always, when there is no backend).
    active: watch::Sender<bool>,
    /// Its first listener came or its last one went since the backend last looked.
    changed: bool,
}

#[derive(Debug)]
struct Topics {
    runs: HashMap<RunId, Topic>,
    shares: [Share; SHARDS],
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
            topics: Mutex::new(Topics {
                runs: HashMap::new(),
                shares: std::array::from_fn(|_| Share {
                    runs: 0,
                    active: watch::Sender::new(!backed),
                    changed: false,
                }),
            }),
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
            });
            topic.listeners += 1;
            let (receiver, first) = (topic.sender.subscribe(), topic.listeners == 1);
            if first {
                self.count(&mut topics, run, |runs| runs + 1);
            }
            (
                receiver,
                topics.shares[Shard::of(run).number()].active.subscribe(),
            )
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

    /// A run of a shard has its first listener, or lost its last.
    fn count(&self, topics: &mut Topics, run: RunId, change: impl FnOnce(usize) -> usize) {
        metrics::gauge!(LISTENED_RUNS).set(topics.runs.len() as f64);
        let share = &mut topics.shares[Shard::of(run).number()];
        let before = share.runs;
        share.runs = change(before);
        if self.backed && (before == 0 || share.runs == 0) {
            share.changed = true;
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
            self.count(&mut topics, run, |runs| runs - 1);
        }
    }

    /// Whether anybody listens to a run.
    pub(crate) fn listens(&self, run: RunId) -> bool {
        self.topics().runs.contains_key(&run)
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

    /// Shards to look at since the last call, and whether each is wanted now. One that is not is no longer active: who
    /// listens from here on waits for the backend.
    pub(crate) fn take_changed(&self) -> Vec<(Shard, bool)> {
        let mut topics = self.topics();
        let shares = Shard::all().zip(&mut topics.shares);
        shares
            .filter_map(|(shard, share)| {
                if !std::mem::take(&mut share.changed) {
                    return None;
                }
                let wanted = share.runs > 0;
                if !wanted {
                    share.active.send_replace(false);
                }
                Some((shard, wanted))
            })
            .collect()
    }

    /// The backend has forgotten what it sends us: all shards that are listened to.
    pub(crate) fn start_over(&self) -> Vec<Shard> {
        let mut topics = self.topics();
        let shares = Shard::all().zip(&mut topics.shares);
        shares
            .filter_map(|(shard, share)| {
                share.active.send_replace(false);
                share.changed = false;
                (share.runs > 0).then_some(shard)
            })
            .collect()
    }

    /// The backend's word that shards are sent to us.
    pub(crate) fn activate(&self, shards: &[Shard]) {
        let topics = self.topics();
        for shard in shards {
            topics.shares[shard.number()].active.send_replace(true);
        }
    }

    /// Marks shards for another look by the backend.
    pub(crate) fn look_again(&self, shards: &[Shard]) {
        let mut topics = self.topics();
        for shard in shards {
            topics.shares[shard.number()].changed = true;
        }
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

    /// A run of the first shard.
    fn run(n: u8) -> RunId {
        let mut bytes = RunId::generate().0.into_bytes();
        bytes[14..].copy_from_slice(&[n, 0]);
        RunId(uuid::Uuid::from_bytes(bytes))
    }

    #[tokio::test]
    async fn a_topic_lives_as_long_as_its_listeners() {
        let hub = Hub::new(true);
        let run = RunId::generate();
        let shard = Shard::of(run);
        let (first, active) = hub.listen(run);
        let (second, _) = hub.listen(run);
        assert!(!*active.borrow());
        assert_eq!(hub.take_changed(), [(shard, true)]);
        hub.activate(&[shard]);
        assert!(*active.borrow());
        drop(first);
        assert_eq!(hub.take_changed(), []);
        assert!(hub.listens(run));
        drop(second);
        assert_eq!(hub.take_changed(), [(shard, false)]);
        assert!(!hub.listens(run));
        hub.deliver(run, Live::Lagged);
    }

    #[tokio::test]
    async fn a_shard_is_wanted_as_long_as_one_of_its_runs_is() {
        let hub = Hub::new(true);
        let shard = Shard::of(run(1));
        let (first, _) = hub.listen(run(1));
        assert_eq!(hub.take_changed(), [(shard, true)]);
        let (second, waiting) = hub.listen(run(2));
        assert!(!*waiting.borrow());
        hub.activate(&[shard]);
        assert!(*waiting.borrow());
        let (third, active) = hub.listen(run(3));
        assert!(*active.borrow());
        drop((first, second));
        assert_eq!(hub.take_changed(), []);
        drop(third);
        assert_eq!(hub.take_changed(), [(shard, false)]);
    }

    #[tokio::test]
    async fn who_comes_while_a_shard_is_left_waits_for_the_backend() {
        let hub = Hub::new(true);
        let shard = Shard::of(run(1));
        let (first, _) = hub.listen(run(1));
        hub.take_changed();
        hub.activate(&[shard]);
        drop(first);
        // Nobody has told the backend: it still sends.
        let (second, active) = hub.listen(run(2));
        assert!(*active.borrow());
        assert_eq!(hub.take_changed(), [(shard, true)]);
        drop(second);
        assert_eq!(hub.take_changed(), [(shard, false)]);
        let (_third, waiting) = hub.listen(run(3));
        assert!(!*waiting.borrow());
        assert_eq!(hub.take_changed(), [(shard, true)]);
        hub.activate(&[shard]);
        assert!(*waiting.borrow());
    }

    #[tokio::test]
    async fn starting_over_names_what_is_listened_to() {
        let hub = Hub::new(true);
        let shard = Shard::of(run(1));
        let (_first, active) = hub.listen(run(1));
        hub.activate(&[shard]);
        assert_eq!(hub.start_over(), [shard]);
        assert!(!*active.borrow());
        assert_eq!(hub.take_changed(), []);
        hub.look_again(&[shard]);
        assert_eq!(hub.take_changed(), [(shard, true)]);
    }

    #[tokio::test]
    async fn without_a_backend_a_listener_is_active_at_once() {
        let hub = Hub::new(false);
        let (stream, active) = hub.listen(RunId::generate());
        assert!(*active.borrow());
        drop(stream);
        assert_eq!(hub.take_changed(), []);
    }
}
