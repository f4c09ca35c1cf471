//! The seam between the driver and the components: what a node is given and what it gives back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;

use crate::files::Files;
use crate::knowledge::Knowledge;
use crate::memory::{Memory, Voices};
use crate::model::ModelSettings;
use crate::outbound::{Http, OutboundSettings};
use crate::plan::NodeInfo;
use crate::run::{Clock, Environment, Progress};
use crate::value::Value;

/// The components with a native implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    ChatInput,
    ChatOutput,
    /// The one of before lfx 1.12.4, which prints a table that it is given as it is.
    EarlyChatOutput,
    TextInput,
    TextOutput,
    /// `Prompt` and `Prompt Template`: f-string style or mustache.
    Prompt,
    LanguageModel,
    OpenAiModel,
    Parser,
    /// If-Else.
    ConditionalRouter,
    Agent,
    /// The agent of lfx 1.12.4 to 1.12.8, whose instructions may name the time to the second.
    TimedAgent,
    Calculator,
    CurrentDate,
    Webhook,
    /// Read File.
    File,
    SplitText,
    /// The one of before lfx 1.13, which keeps a separator at the start where it should at the end.
    EarlySplitText,
    CombineText,
    TypeConverter,
    SaveToFile,
    StructuredOutput,
    BatchRun,
    /// Fetches pages.
    Url,
    WebSearch,
    /// `Memory`: reads and keeps messages of conversations.
    MessageHistory,
    MemoryBase,
    /// Runs the nodes of its body once for each item; the driver does.
    Loop,
    /// Searches arXiv.
    ArXiv,
    /// Brings texts into a knowledge base, or finds them.
    Knowledge,
    /// The one of old flows that only brings them.
    KnowledgeIngestion,
    /// The one of old flows that only finds them.
    KnowledgeBase,
    ApiRequest,
    /// The one of before lfx 1.10.1, which takes other headers along to where it is redirected.
    EarlyApiRequest,
    DataOperations,
    /// The one of before lfx 1.13, which gives keys to data by name.
    EarlyDataOperations,
}

impl Kind {
    /// Whether tools can be connected to it.
    pub(crate) fn is_agent(self) -> bool {
        matches!(self, Self::Agent | Self::TimedAgent)
    }

    pub(crate) fn is_chat_output(self) -> bool {
        matches!(self, Self::ChatOutput | Self::EarlyChatOutput)
    }

    /// Whether it neither asks anybody outside nor takes time worth speaking of.
    pub(crate) fn is_cheap(self) -> bool {
        matches!(
            self,
            Self::ChatInput
                | Self::ChatOutput
                | Self::EarlyChatOutput
                | Self::TextInput
                | Self::TextOutput
                | Self::Prompt
                | Self::Parser
                | Self::ConditionalRouter
                | Self::Calculator
                | Self::CurrentDate
                | Self::Webhook
                | Self::CombineText
                | Self::TypeConverter
        )
    }

    /// As metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ChatInput => "ChatInput",
            Self::ChatOutput | Self::EarlyChatOutput => "ChatOutput",
            Self::TextInput => "TextInput",
            Self::TextOutput => "TextOutput",
            Self::Prompt => "Prompt",
            Self::LanguageModel => "LanguageModel",
            Self::OpenAiModel => "OpenAiModel",
            Self::Parser => "Parser",
            Self::ConditionalRouter => "ConditionalRouter",
            Self::Agent | Self::TimedAgent => "Agent",
            Self::Calculator => "Calculator",
            Self::CurrentDate => "CurrentDate",
            Self::Webhook => "Webhook",
            Self::File => "File",
            Self::SplitText | Self::EarlySplitText => "SplitText",
            Self::CombineText => "CombineText",
            Self::TypeConverter => "TypeConverter",
            Self::SaveToFile => "SaveToFile",
            Self::StructuredOutput => "StructuredOutput",
            Self::BatchRun => "BatchRun",
            Self::Url => "Url",
            Self::WebSearch => "WebSearch",
            Self::MessageHistory => "MessageHistory",
            Self::MemoryBase => "MemoryBase",
            Self::Loop => "Loop",
            Self::ArXiv => "ArXiv",
            Self::Knowledge => "Knowledge",
            Self::KnowledgeIngestion => "KnowledgeIngestion",
            Self::KnowledgeBase => "KnowledgeBase",
            Self::ApiRequest | Self::EarlyApiRequest => "ApiRequest",
            Self::DataOperations | Self::EarlyDataOperations => "DataOperations",
        }
    }
}

/// A field of a node after edges, tweaks and variables have been applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Param {
    /// From the template or a tweak.
    Field(Json),
    /// From one edge.
    Edge(Value),
    /// A list input: one entry an edge, in edge order.
    Edges(Vec<Value>),
}

/// The parameters of one execution. What the flow says is shared by all its runs; a run has only what it puts over
/// that as its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params {
    shared: Arc<BTreeMap<String, Param>>,
    /// `None` hides a shared one.
    own: BTreeMap<String, Option<Param>>,
}

impl Params {
    pub(crate) fn over(shared: &Arc<BTreeMap<String, Param>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            own: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Param> {
        match self.own.get(name) {
            Some(own) => own.as_ref(),
            None => self.shared.get(name),
        }
    }

    pub(crate) fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn insert(&mut self, name: impl Into<String>, param: Param) {
        self.own.insert(name.into(), Some(param));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.own.insert(name.to_owned(), None);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        let shared = self
            .shared
            .iter()
            .filter(|(name, _)| !self.own.contains_key(*name))
            .map(|(name, param)| (name.as_str(), param));
        let own = self
            .own
            .iter()
            .filter_map(|(name, param)| Some((name.as_str(), param.as_ref()?)));
        shared.chain(own)
    }
}

/// Where a node stands in a chat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NearChat {
    /// It is a neighbour of a chat output, so what it says is shown there.
    pub output: bool,
    /// It is one of several chat outputs.
    pub one_of_many: bool,
}

/// One execution of one node.
#[derive(Debug, Clone)]
pub(crate) struct NodeCall {
    pub node: Arc<NodeInfo>,
    /// What a message carries to say that this node made it.
    pub origin: Arc<Map<String, Json>>,
    pub kind: Kind,
    pub params: Params,
    /// Names of the outputs to compute: those on a connected edge, or all when none is connected.
    pub wanted: Arc<[String]>,
    /// What the node's document calls the methods of its outputs: one name may stand for several.
    pub methods: Arc<[(String, String)]>,
    pub near_chat: NearChat,
    /// Of an agent: calls of the nodes in tool mode that are connected to it.
    pub tools: Vec<Self>,
}

impl NodeCall {
    /// How an output is to be made, where the document says so.
    pub(crate) fn method(&self, output: &str) -> Option<&str> {
        let found = self.methods.iter().find(|(name, _)| name == output);
        found.map(|(_, method)| method.as_str())
    }
}

/// What a node produced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct NodeOutput {
    /// Output name to value, in the component's order; only wanted ones.
    pub values: BTreeMap<String, Value>,
    /// Outputs whose branch must not run (If-Else).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<String>,
    #[serde(default, skip_serializing_if = "Usage::is_zero")]
    pub usage: Usage,
}

/// Tokens a model charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

impl Usage {
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
    }
}

/// Why a node failed. `code` is stable and machine-readable, such as `model_timeout`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NodeError {
    pub code: &'static str,
    pub message: String,
    /// Whether another attempt of the run may succeed (rate limits, timeouts, 5xx), not a bad request.
    pub retryable: bool,
}

impl NodeError {
    /// The same call will fail again.
    pub(crate) fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: false,
        }
    }
}

/// What the components of one run may use.
#[derive(Clone)]
pub(crate) struct RunContext {
    pub http: Http,
    pub run_id: String,
    pub session_id: String,
    pub flow_id: String,
    /// Credentials and base URLs by Langflow's names: request variables first, then the environment.
    pub variables: Environment,
    /// The operator's environment alone: what a run says is not in it.
    pub environment: Environment,
    pub clock: Clock,
    pub model: Arc<ModelSettings>,
    pub files: Arc<dyn Files>,
    pub outbound: Arc<OutboundSettings>,
    /// `None`: this run is not part of a conversation.
    pub memory: Option<Arc<dyn Memory>>,
    /// `None`: nothing here keeps knowledge.
    pub knowledge: Option<Arc<dyn Knowledge>>,
    pub voices: Arc<Voices>,
    /// Which turn of which loop this is; empty outside of loops.
    pub place: Arc<str>,
    pub on_progress: Arc<dyn Fn(Progress) + Send + Sync>,
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for RunContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContext")
            .field("run_id", &self.run_id)
            .finish_non_exhaustive()
    }
}

/// What a component may use while it runs.
#[derive(Debug, Clone)]
pub(crate) struct NodeContext {
    pub run: Arc<RunContext>,
    pub node: Arc<NodeInfo>,
}

impl NodeContext {
    /// Tells of a piece of streamed text.
    pub(crate) fn token(&self, text: &str) {
        (self.run.on_progress)(Progress::Token {
            node: Arc::clone(&self.node),
            text: text.to_owned(),
        });
    }
}

impl std::ops::Deref for NodeContext {
    type Target = RunContext;

    fn deref(&self) -> &RunContext {
        &self.run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_called_what_they_are() {
        for kind in [
            Kind::ChatInput,
            Kind::ChatOutput,
            Kind::TextInput,
            Kind::TextOutput,
            Kind::Prompt,
            Kind::LanguageModel,
            Kind::OpenAiModel,
            Kind::Parser,
            Kind::ConditionalRouter,
            Kind::Agent,
            Kind::Calculator,
            Kind::CurrentDate,
            Kind::Webhook,
            Kind::File,
            Kind::SplitText,
            Kind::CombineText,
            Kind::TypeConverter,
            Kind::SaveToFile,
            Kind::StructuredOutput,
            Kind::BatchRun,
            Kind::Url,
            Kind::WebSearch,
            Kind::MessageHistory,
            Kind::MemoryBase,
            Kind::Loop,
            Kind::ArXiv,
            Kind::Knowledge,
            Kind::KnowledgeIngestion,
            Kind::KnowledgeBase,
            Kind::ApiRequest,
            Kind::DataOperations,
        ] {
            assert_eq!(kind.name(), format!("{kind:?}"));
        }
    }
}
