//! What this worker was told to do, and what becomes of its runs when it drains: who was told to drain takes nothing new
//! and stays, and after a while its runs come to rest between two nodes and go to others.
//!
//! The wish is read from the store with each round of presence, so no signal can be lost. The end of the process is
//! another matter: see [`crate::drain`].

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flowfleet_core::port::Wish;
use flowfleet_engine::Hold;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Inner;
use crate::held::Stop;

#[derive(Debug)]
pub(crate) struct Steering {
    wish: watch::Sender<Wish>,
    hold: Hold,
    why: Mutex<Stop>,
    /// Runs that came to rest.
    rested: AtomicU32,
}

impl Steering {
    pub(crate) fn new() -> Self {
        Self {
            wish: watch::Sender::new(Wish::Accept),
            hold: Hold::default(),
            why: Mutex::new(Stop::HandedOff),
            rested: AtomicU32::new(0),
        }
    }

    /// Takes note of a wish; one that is known already changes nothing.
    pub(crate) fn learn(&self, wish: Wish) {
        self.wish.send_if_modified(|known| {
            let new = *known != wish;
            if new {
                tracing::info!(?wish, "told what to do");
                *known = wish;
            }
            new
        });
    }

    /// Whether it was told to drain.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(*self.wish.borrow(), Wish::Drain { .. })
    }

    /// Waits until it is told to drain.
    pub(crate) async fn told_to_drain(&self) {
        let mut wishes = self.wish.subscribe();
        // The sender is this.
        let _ = wishes.wait_for(|wish| matches!(wish, Wish::Drain { .. })).await;
    }

    /// Waits until it is told to accept.
    pub(crate) async fn told_to_accept(&self) {
        let mut wishes = self.wish.subscribe();
        let _ = wishes.wait_for(|wish| *wish == Wish::Accept).await;
    }

    /// Runs come to rest at their next node boundary from now on, and are given back because of `why`.
    pub(crate) fn hold(&self, why: Stop) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.hold.set(true);
    }

    /// What executions watch.
    pub(crate) fn held(&self) -> Hold {
        self.hold.clone()
    }

    /// A run came to rest; answers why it is given back.
    pub(crate) fn rested(&self) -> Stop {
        self.rested.fetch_add(1, Ordering::Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rested_runs(&self) -> u32 {
        self.rested.load(Ordering::Relaxed)
    }
}

/// Follows the wishes until the process itself drains.
pub(crate) async fn run(inner: Arc<Inner>, ending: CancellationToken) {
    let following = inner.draining.run_until_cancelled(follow(&inner));
    let _: Option<Option<()>> = ending.run_until_cancelled(following).await;
    ending.cancelled().await;
}

async fn follow(inner: &Inner) {
    let steering = &inner.steering;
    let mut wishes = steering.wish.subscribe();
    loop {
        let wish = *wishes.borrow_and_update();
        inner.changed.notify_one();
        steering.hold.set(false);
        let Wish::Drain { handoff: Some(after) } = wish else {
            let _ = wishes.changed().await;
            continue;
        };
        tokio::select! {
            _ = wishes.changed() => continue,
            () = tokio::time::sleep(after) => {}
        }
        tracing::info!(
            runs = inner.busy(),
            "handing off what has not finished, between two nodes"
        );
        steering.hold(Stop::HandedOff);
        let _ = wishes.changed().await;
    }
}
