//! The Python host: flows that the native engine must not stand in for run whole, in warm processes of lfx.
//!
//! One **parent** loads lfx once and forks **children**; a child runs flows. The parent is never given a flow, so it
//! cannot be broken by one. Each child has a socket of its own to this process, over which lines of JSON go
//! ([`protocol`]); what components print goes elsewhere. Who does what:
//! - [`parent`] starts the parent, hears what becomes of children, and starts it again when it is lost;
//! - [`child`] speaks with one child, from its fork to its end;
//! - [`pool`] says which child takes a run, and when one is replaced;
//! - [`execute`](Host::execute) drives one run and tells of it as the engine does.
//!
//! Left to others: whether a flow needs Python (the engine's plan), leases and retries (the worker), and where chat
//! memory is kept (whoever implements [`Memory`]).

mod child;
mod descriptors;
mod environment;
mod execute;
mod failure;
mod lines;
pub mod metrics;
mod parent;
mod pool;
mod protocol;
mod settings;
mod venv;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use execute::{Memory, NoMemory, Work};
pub use protocol::Ready;
pub use settings::{BadSettings, Settings, default_venv};
pub use venv::{Found, Install, InstallError, LFX, check, install};

use pool::Pool;

/// Whether flows can run in Python now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// lfx is being loaded.
    Starting,
    Ready(Ready),
    /// It cannot be; it is tried again from time to time.
    Broken(String),
}

/// Runs flows in Python. Cheap to clone; the processes end with the last clone.
#[derive(Debug, Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    pool: Arc<Pool>,
    state: watch::Receiver<State>,
    _ending: DropGuard,
}

impl Host {
    /// Begins to load lfx in the background. Must be called within a Tokio runtime.
    pub fn start(settings: Settings) -> Result<Self, BadSettings> {
        settings.check()?;
        metrics::describe();
        let ending = CancellationToken::new();
        let pool = Arc::new(Pool::new(settings.clone()));
        let (sender, state) = watch::channel(State::Starting);
        tokio::spawn(parent::keep(
            settings.clone(),
            Arc::clone(&pool),
            sender,
            ending.clone(),
        ));
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                pool,
                state,
                _ending: ending.drop_guard(),
            }),
        })
    }

    pub fn state(&self) -> State {
        self.inner.state.borrow().clone()
    }

    pub fn is_ready(&self) -> bool {
        matches!(*self.inner.state.borrow(), State::Ready(_))
    }

    /// How it is, from now on.
    pub fn states(&self) -> watch::Receiver<State> {
        self.inner.state.clone()
    }

    /// Waits until it is known whether lfx loads.
    pub async fn started(&self) -> State {
        let mut state = self.inner.state.clone();
        match state.wait_for(|state| *state != State::Starting).await {
            Ok(state) => state.clone(),
            Err(_) => State::Broken("the Python host has ended".to_owned()),
        }
    }
}
