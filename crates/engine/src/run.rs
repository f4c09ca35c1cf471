//! The words of an execution: what it is given, what it reports on the way, and how it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::component::{NodeError, NodeOutput, Usage};
use crate::files::{self, Files};
use crate::knowledge::Knowledge;
use crate::memory::Memory;
use crate::model::ModelSettings;
use crate::outbound::{Http, OutboundSettings};
use crate::plan::{NodeInfo, Unsupported};
use crate::request::RequestError;
use crate::settings::InvalidSettings;

/// Where credentials and variables come from when the request has none.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the time is.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// What every execution of a process shares.
#[derive(Clone)]
pub struct Services {
    pub http: Http,
    pub environment: Environment,
    pub clock: Clock,
    /// The operator's: a run's variables do not change it.
    pub model: Arc<ModelSettings>,
    /// What the run's nodes may read and write.
    pub files: Arc<dyn Files>,
    /// The operator's as well.
    pub outbound: Arc<OutboundSettings>,
    /// Of the conversation that a run is part of; `None` if it is part of none.
    pub memory: Option<Arc<dyn Memory>>,
    /// Of the run's tenant; `None` where nothing keeps any.
    pub knowledge: Option<Arc<dyn Knowledge>>,
}

/// Why a process cannot execute flows.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    #[error("cannot set up TLS for outgoing connections: {0}")]
    Tls(#[from] reqwest::Error),
}

impl Services {
    /// Without files: a caller that has some puts them in. Pooling clients and the environment of this process, whose `FLOWFLEET_MODEL_*` settings are read now and never
    /// Pooling clients and the environment of this process, whose `FLOWFLEET_MODEL_*` and fetching settings are read now and never
    /// again.
    pub fn from_env() -> Result<Self, ServicesError> {
        Ok(Self {
            http: Http::new()?,
            environment: Arc::new(|name: &str| std::env::var(name).ok()),
            clock: Arc::new(jiff::Timestamp::now),
            model: Arc::new(ModelSettings::from_env()?),
            files: files::none(),
            outbound: Arc::new(OutboundSettings::from_env()?),
            memory: None,
            knowledge: None,
        })
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// What happens while a flow runs, in the order it happens. For one node: started, tokens, then finished or failed;
/// a reused node is only finished.
#[derive(Debug, Clone)]
pub enum Progress {
    NodeStarted {
        node: Arc<NodeInfo>,
    },
    Token {
        node: Arc<NodeInfo>,
        text: String,
    },
    NodeFinished {
        node: Arc<NodeInfo>,
        output: Arc<NodeOutput>,
        reused: bool,
        elapsed: Duration,
    },
    NodeFailed {
        node: Arc<NodeInfo>,
        error: NodeError,
    },
    /// On a branch that was not taken.
    NodeSkipped {
        node: Arc<NodeInfo>,
    },
}

/// How a flow ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Text or JSON of the wanted output; an array if there are several, null if none.
    pub output: Json,
    /// The same by node id.
    pub outputs: BTreeMap<String, Json>,
    /// The same as Langflow's API gives it, if the request asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub langflow: Option<Json>,
    /// Of all nodes, reused ones included.
    pub usage: Usage,
    pub nodes_run: u32,
    pub nodes_reused: u32,
    pub session_id: String,
}

/// Why a flow did not end well.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RunError {
    #[error("{} ({}): {error}", node.display_name, node.id)]
    Node { node: Arc<NodeInfo>, error: NodeError },
    #[error("cancelled")]
    Cancelled,
    /// It came to rest between two nodes because it was asked to: what finished can be resumed from.
    #[error("held between two nodes")]
    Held,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("this flow needs the Python engine: {}", describe_unsupported(.0))]
    Unsupported(Vec<Unsupported>),
    /// The host that executed the whole flow outside this engine.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The scheduler has unfinished nodes but nothing ready: a bug of this engine, not of the flow.
    #[error("the schedule is stuck at {}", .0.join(", "))]
    Deadlock(Vec<String>),
}

/// Why a host did not bring a flow to its end, where no node can be named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    pub code: &'static str,
    pub message: String,
    /// Whether another attempt of the run may succeed.
    pub retryable: bool,
    /// The run had no part in it: as if its machine had been lost.
    pub interrupted: bool,
}

impl RunError {
    /// Whether another attempt of the run may succeed.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Node { error, .. } => error.retryable,
            Self::Host(error) => error.retryable,
            _ => false,
        }
    }

    /// Stable and machine-readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Node { error, .. } => error.code,
            Self::Cancelled => "cancelled",
            Self::Held => "held",
            Self::Request(error) => error.code,
            Self::Unsupported(_) => "flow_unsupported",
            Self::Host(error) => error.code,
            Self::Deadlock(_) => "engine_deadlock",
        }
    }

    /// The id of the node that failed.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Node { node, .. } => Some(&node.id),
            Self::Request(error) => error.problems.first().and_then(|problem| problem.node.as_deref()),
            Self::Unsupported(nodes) => nodes.first().map(|node| node.node.as_str()),
            Self::Cancelled | Self::Held | Self::Host(_) | Self::Deadlock(_) => None,
        }
    }
}

fn describe_unsupported(nodes: &[Unsupported]) -> String {
    let Some(first) = nodes.first() else {
        return "unknown component".to_owned();
    };
    match nodes.len() {
        1 => first.reason.clone(),
        n => format!("{} (and {} more)", first.reason, n - 1),
    }
}
