//! How a process ends: asked once it drains, asked twice it stops.

use tokio_util::sync::CancellationToken;

/// Two tokens that every part of a process watches. `stop` implies `draining`.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take nothing new, finish or hand back what there is, then end.
    pub draining: CancellationToken,
    /// End at once.
    pub stop: CancellationToken,
}

impl Shutdown {
    /// Ends only when told to by [`Shutdown::drain`] or [`Shutdown::stop_now`].
    pub fn manual() -> Self {
        Self::default()
    }

    /// Drains at the first SIGTERM or SIGINT and stops at the second. Needs a Tokio runtime.
    pub fn on_signals() -> Self {
        let shutdown = Self::default();
        let told = shutdown.clone();
        tokio::spawn(async move {
            signal().await;
            tracing::info!("asked to stop: draining; ask again to stop at once");
            told.drain();
            signal().await;
            tracing::warn!("asked again: stopping at once");
            told.stop_now();
        });
        shutdown
    }

    pub fn drain(&self) {
        self.draining.cancel();
    }

    pub fn stop_now(&self) {
        self.draining.cancel();
        self.stop.cancel();
    }

    /// A shutdown that follows this one but can also be told on its own: for a part of a process.
    pub fn child(&self) -> Self {
        Self {
            draining: self.draining.child_token(),
            stop: self.stop.child_token(),
        }
    }
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => {
            tracing::error!("signal handlers could not be installed: only SIGKILL will end this process");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_is_also_draining_and_children_follow() {
        let parent = Shutdown::manual();
        let child = parent.child();
        child.drain();
        assert!(!parent.draining.is_cancelled());
        parent.stop_now();
        assert!(parent.draining.is_cancelled() && child.stop.is_cancelled());
    }
}
