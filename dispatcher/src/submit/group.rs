//! Group commit: requests that arrive while a commit is in flight share the next one. No timer: an idle dispatcher
//! commits at once.
//!
//! Two lanes commit side by side, so that a batch of ten thousand does not hold up single runs. Whatever one request
//! submits is committed together.

use std::sync::Arc;

use flowfleet_core::PortError;
use flowfleet_core::error::Kind;
use flowfleet_core::port::{Store, SubmitOutcome};
use flowfleet_core::run::NewRun;
use flowfleet_runtime::Relay;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::api::problem::{Code, Problem};
use crate::metrics::{RUNS_SUBMITTED, SUBMIT_GROUP, queue_label};

/// Runs a group gathers at most; a larger batch is a group of its own.
const GROUP_RUNS: usize = 2_000;
/// Requests with at least this many runs take the lane of batches.
const BULKY: usize = 500;
/// Runs waiting for a commit at most; more are refused.
const WAITING_RUNS: usize = 50_000;

type Reply = Result<Vec<SubmitOutcome>, Arc<PortError>>;

/// The runs of one request.
struct Entry {
    runs: Vec<NewRun>,
    reply: oneshot::Sender<Reply>,
    _waiting: OwnedSemaphorePermit,
}

/// Takes runs to commit. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    single: mpsc::UnboundedSender<Entry>,
    bulk: mpsc::UnboundedSender<Entry>,
    /// What bounds both lanes.
    waiting: Arc<Semaphore>,
}

impl Committer {
    /// Starts both lanes; they end once the last clone is gone and what waited is committed.
    pub(crate) fn spawn(store: &Arc<dyn Store>, relay: &Relay) -> Self {
        let lane = || {
            let (sender, receiver) = mpsc::unbounded_channel();
            let lane = Lane {
                store: store.clone(),
                relay: relay.clone(),
            };
            tokio::spawn(lane.commit_all(receiver));
            sender
        };
        Self {
            single: lane(),
            bulk: lane(),
            waiting: Arc::new(Semaphore::new(WAITING_RUNS)),
        }
    }

    /// Commits the runs of one request, in order. They are committed even if the caller goes away.
    pub(crate) async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<SubmitOutcome>, Problem> {
        let count = u32::try_from(runs.len().min(WAITING_RUNS)).unwrap_or(u32::MAX);
        let Ok(waiting) = self.waiting.clone().try_acquire_many_owned(count) else {
            let detail = format!("{WAITING_RUNS} runs wait to be stored already: try again shortly");
            return Err(Problem::new(Code::Overloaded, detail));
        };
        let (reply, answer) = oneshot::channel();
        let lane = if runs.len() >= BULKY {
            &self.bulk
        } else {
            &self.single
        };
        let entry = Entry {
            runs,
            reply,
            _waiting: waiting,
        };
        if lane.send(entry).is_err() {
            return Err(Problem::new(Code::Unavailable, "the dispatcher is stopping"));
        }
        match answer.await {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(error)) => Err((&*error).into()),
            Err(_) => Err(Problem::internal()),
        }
    }
}

/// What a lane commits with.
#[derive(Debug, Clone)]
struct Lane {
    store: Arc<dyn Store>,
    relay: Relay,
}

impl Lane {
    async fn commit_all(self, mut entries: mpsc::UnboundedReceiver<Entry>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(entry) => entry,
                None => match entries.recv().await {
                    Some(entry) => entry,
                    None => return,
                },
            };
            let mut size = first.runs.len();
            let mut group = vec![first];
            while let Ok(entry) = entries.try_recv() {
                if size + entry.runs.len() > GROUP_RUNS {
                    next = Some(entry);
                    break;
                }
                size += entry.runs.len();
                group.push(entry);
            }
            // In a task of its own, so that a panic fails this group only and not every one after it.
            if let Err(error) = tokio::spawn(self.clone().commit(group)).await {
                tracing::error!(%error, "a commit did not end");
            }
        }
    }

    /// Commits a group. One that is refused is taken apart: a run the store does not take must not fail its
    /// neighbours.
    async fn commit(self, mut group: Vec<Entry>) {
        let sizes: Vec<usize> = group.iter().map(|entry| entry.runs.len()).collect();
        let runs: Vec<NewRun> = group
            .iter_mut()
            .flat_map(|entry| std::mem::take(&mut entry.runs))
            .collect();
        metrics::histogram!(SUBMIT_GROUP).record(runs.len() as f64);
        let (apart, error) = match self.write(&runs).await {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (entry, size) in group.into_iter().zip(sizes) {
                    // A caller that went away hears nothing; its runs are stored.
                    let _ = entry.reply.send(Ok(outcomes.by_ref().take(size).collect()));
                }
                return;
            }
            Err(error) => (group.len() > 1 && error.kind != Kind::Retryable, Arc::new(error)),
        };
        let mut runs = runs.into_iter();
        for (entry, size) in group.into_iter().zip(sizes) {
            let own: Vec<NewRun> = runs.by_ref().take(size).collect();
            let reply = if apart {
                self.write(&own).await.map_err(Arc::new)
            } else {
                Err(error.clone())
            };
            let _ = entry.reply.send(reply);
        }
    }

    async fn write(&self, runs: &[NewRun]) -> Result<Vec<SubmitOutcome>, PortError> {
        let submission = self.store.submit(runs).await?;
        if let Some(row) = submission.outbox {
            self.relay.send(row);
        }
        if submission.outcomes.len() != runs.len() {
            let detail = "the store answered for another number of runs";
            return Err(PortError::bug("submit", detail));
        }
        count(runs, &submission.outcomes);
        Ok(submission.outcomes)
    }
}

/// Counts what was created: a step a stretch of runs of one queue, for finding a counter takes longer than to count.
fn count(runs: &[NewRun], outcomes: &[SubmitOutcome]) {
    let mut created = runs
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| matches!(outcome, SubmitOutcome::Created { .. }))
        .map(|(run, _)| &run.queue)
        .peekable();
    while let Some(queue) = created.next() {
        let mut count = 1;
        while created.next_if_eq(&queue).is_some() {
            count += 1;
        }
        metrics::counter!(RUNS_SUBMITTED, "queue" => queue_label(queue.as_str())).increment(count);
    }
}
