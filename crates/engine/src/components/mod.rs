//! The components with a native implementation: one file a kind, each a function of its parameters and context.
//!
//! Owns what a component makes of its inputs. Which nodes run, with which parameters, is the driver's business.
//! A component computes only the outputs that are wanted and never touches the store, the bus or the clock; what it keeps
//! of a conversation or of knowledge goes through a port.

mod agent;
pub(crate) mod api_request;
mod arxiv;
mod ask;
mod batch_run;
mod calculator;
mod chat_input;
mod chat_output;
mod combine_text;
mod conditional_router;
mod conversation;
mod convert;
mod current_date;
pub(crate) mod data_operations;
mod dumps;
pub(crate) mod knowledge;
mod language_model;
mod loads;
pub(crate) mod looping;
pub(crate) mod memory_base;
pub(crate) mod message_history;
mod openai_model;
mod params;
mod parser;
pub(crate) mod pattern;
mod printed;
mod prompt;
mod quoted;
mod read_file;
mod save_file;
mod split_text;
mod structured_output;
mod table;
mod text_input;
mod text_output;
mod tool;
mod type_converter;
mod url;
mod web_search;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::component::{Kind, NodeCall, NodeContext, NodeError, NodeOutput};
use crate::node::Field;
use crate::plan::NodeInfo;
use crate::value::{Message, Value};

pub(crate) use tool::{TOOLSET, is_tool, names as tools_of};

/// Why a node of this kind, with these fields, needs the Python engine.
pub(crate) fn needs_python(kind: Kind, fields: &BTreeMap<String, Field>) -> Option<String> {
    match kind {
        Kind::File => read_file::needs_python(fields),
        Kind::SaveToFile => save_file::needs_python(fields),
        Kind::ApiRequest | Kind::EarlyApiRequest => api_request::needs_python(kind, fields),
        Kind::DataOperations | Kind::EarlyDataOperations => data_operations::needs_python(fields),
        Kind::LanguageModel | Kind::Agent | Kind::TimedAgent | Kind::StructuredOutput | Kind::BatchRun => {
            ask::needs_python(fields.get("model").map(|field| &field.value))
        }
        _ => None,
    }
}

/// Runs one node once.
pub(crate) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    if call.wanted.iter().any(|wanted| wanted == TOOLSET) {
        let mut output = NodeOutput::default();
        output.values.insert(TOOLSET.to_owned(), tool::toolset(call));
        return Ok(output);
    }
    match call.kind {
        Kind::ChatInput => chat_input::run(call, ctx).await,
        Kind::ChatOutput | Kind::EarlyChatOutput => chat_output::run(call, ctx).await,
        Kind::TextInput => text_input::run(call),
        Kind::TextOutput => text_output::run(call),
        Kind::Prompt => prompt::run(call),
        Kind::LanguageModel => Box::pin(language_model::run(call, ctx)).await,
        Kind::OpenAiModel => Box::pin(openai_model::run(call, ctx)).await,
        Kind::Parser => parser::run(call),
        Kind::ConditionalRouter => conditional_router::run(call),
        Kind::Agent | Kind::TimedAgent => Box::pin(agent::run(call, ctx)).await,
        Kind::Calculator => calculator::run(call),
        Kind::CurrentDate => current_date::run(call, ctx),
        Kind::Webhook => webhook::run(call),
        Kind::File => Box::pin(read_file::run(call, ctx)).await,
        Kind::SplitText | Kind::EarlySplitText => split_text::run(call),
        Kind::CombineText => combine_text::run(call),
        Kind::TypeConverter => type_converter::run(call),
        Kind::SaveToFile => Box::pin(save_file::run(call, ctx)).await,
        Kind::StructuredOutput => Box::pin(structured_output::run(call, ctx)).await,
        Kind::BatchRun => Box::pin(batch_run::run(call, ctx)).await,
        Kind::Url => url::run(call, ctx).await,
        Kind::WebSearch => web_search::run(call, ctx).await,
        Kind::MessageHistory => message_history::run(call, ctx).await,
        Kind::MemoryBase => memory_base::run(call),
        Kind::Loop => Err(looping::not_driven(call)),
        Kind::ArXiv => arxiv::run(call, ctx).await,
        Kind::Knowledge | Kind::KnowledgeIngestion | Kind::KnowledgeBase => {
            Box::pin(knowledge::run(call, ctx)).await
        }
        Kind::DataOperations | Kind::EarlyDataOperations => data_operations::run(call),
        Kind::ApiRequest | Kind::EarlyApiRequest => Box::pin(api_request::run(call, ctx)).await,
    }
}

/// Whether an output is to be computed; an empty list means all.
fn wants(call: &NodeCall, output: &str) -> bool {
    call.wanted.is_empty() || call.wanted.iter().any(|wanted| wanted == output)
}

/// The output of a component with one output.
fn single(call: &NodeCall, name: &str, message: Message) -> NodeOutput {
    let mut output = NodeOutput::default();
    if wants(call, name) {
        output
            .values
            .insert(name.to_owned(), Value::Message(from_node(call, message, None)));
    }
    output
}

/// Notes on a message which node made it, where Langflow's chat output says so: `properties.source`.
fn from_node(call: &NodeCall, mut message: Message, model: Option<&str>) -> Message {
    if model.is_none() && message.extra.is_empty() {
        message.extra = Arc::clone(&call.origin);
    } else {
        let source = source(&call.node, model);
        properties(&mut message).insert("source".to_owned(), source);
    }
    message
}

/// What says of a message that this node made it, when nothing else is said: the same in every run.
pub(crate) fn origin(node: &NodeInfo) -> Arc<Map<String, Json>> {
    let mut message = Message::default();
    properties(&mut message).insert("source".to_owned(), source(node, None));
    message.extra
}

fn source(node: &NodeInfo, model: Option<&str>) -> Json {
    json!({
        "id": node.id,
        "display_name": node.display_name,
        "source": model.unwrap_or(&node.display_name),
    })
}

/// A message's `properties`, made if it has none.
fn properties(message: &mut Message) -> &mut Map<String, Json> {
    let entry = Arc::make_mut(&mut message.extra)
        .entry("properties")
        .or_insert_with(|| Json::Object(Map::new()));
    if !entry.is_object() {
        *entry = Json::Object(Map::new());
    }
    match entry {
        Json::Object(object) => object,
        _ => unreachable!("made an object above"),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Calls and contexts for the components' tests.

    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use futures::future::BoxFuture;
    use tokio_util::sync::CancellationToken;

    use crate::component::{Kind, NearChat, NodeCall, NodeContext, Param, Params, RunContext};
    use crate::files::{FileError, Files};
    use crate::memory::Memory;
    use crate::outbound::Http;
    use crate::plan::NodeInfo;
    use crate::run::Progress;
    use crate::value::Value;

    fn info(name: &str) -> Arc<NodeInfo> {
        Arc::new(NodeInfo {
            id: format!("{name}-1"),
            display_name: name.to_owned(),
            component: name.to_owned(),
        })
    }

    pub(crate) fn call(kind: Kind, params: &[(&str, Param)]) -> NodeCall {
        let node = info(kind.name());
        NodeCall {
            origin: super::origin(&node),
            node,
            kind,
            params: Params::over(&Arc::new(
                params
                    .iter()
                    .map(|(name, param)| ((*name).to_owned(), param.clone()))
                    .collect(),
            )),
            wanted: Arc::default(),
            methods: Arc::default(),
            near_chat: NearChat::default(),
            tools: Vec::new(),
        }
    }

    pub(crate) fn field(value: impl Into<serde_json::Value>) -> Param {
        Param::Field(value.into())
    }

    pub(crate) fn edge(value: impl Into<Value>) -> Param {
        Param::Edge(value.into())
    }

    /// A context whose variables are these, as a run's, and the tokens it was given.
    pub(crate) fn context(variables: &[(&str, &str)]) -> (NodeContext, Arc<Mutex<Vec<String>>>) {
        context_with(variables, None)
    }

    /// A context that is part of a conversation, of session `session`.
    pub(crate) fn conversation(run: &str, memory: &Arc<dyn Memory>) -> NodeContext {
        let (mut ctx, _) = context_with(&[], Some(Arc::clone(memory)));
        if let Some(context) = Arc::get_mut(&mut ctx.run) {
            run.clone_into(&mut context.run_id);
        }
        ctx
    }

    fn context_with(
        variables: &[(&str, &str)],
        memory: Option<Arc<dyn Memory>>,
    ) -> (NodeContext, Arc<Mutex<Vec<String>>>) {
        let known: BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&tokens);
        let run = RunContext {
            http: Http::new().unwrap(),
            run_id: "run".to_owned(),
            session_id: "session".to_owned(),
            flow_id: "flow".to_owned(),
            variables: Arc::new(move |name| known.get(name).cloned()),
            environment: Arc::new(|_| None),
            clock: Arc::new(|| "2026-11-21T20:48:03Z".parse().unwrap()),
            model: Arc::default(),
            files: crate::files::none(),
            outbound: Arc::default(),
            memory,
            knowledge: None,
            voices: Arc::default(),
            place: Arc::default(),
            on_progress: Arc::new(move |progress| {
                if let Progress::Token { text, .. } = progress {
                    seen.lock().unwrap().push(text);
                }
            }),
            cancel: CancellationToken::new(),
        };
        let ctx = NodeContext {
            run: Arc::new(run),
            node: info("Node"),
        };
        (ctx, tokens)
    }

    /// Files in memory.
    #[derive(Debug, Default)]
    pub(crate) struct Stored(pub(crate) Mutex<BTreeMap<String, bytes::Bytes>>);

    impl Stored {
        pub(crate) fn with(files: &[(&str, &[u8])]) -> Arc<Self> {
            let files = files
                .iter()
                .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec().into()));
            Arc::new(Self(Mutex::new(files.collect())))
        }
    }

    impl Files for Stored {
        fn read<'f>(&'f self, path: &'f str, limit: usize) -> BoxFuture<'f, Result<bytes::Bytes, FileError>> {
            let found = self.0.lock().unwrap().get(path).cloned();
            let read = match found {
                Some(bytes) if bytes.len() > limit => Err(FileError::TooLarge(limit)),
                Some(bytes) => Ok(bytes),
                None => Err(FileError::Missing),
            };
            Box::pin(std::future::ready(read))
        }

        fn write<'f>(
            &'f self,
            path: &'f str,
            bytes: bytes::Bytes,
        ) -> BoxFuture<'f, Result<String, FileError>> {
            self.0.lock().unwrap().insert(path.to_owned(), bytes);
            Box::pin(std::future::ready(Ok(format!("memory/{path}"))))
        }
    }

    /// A context with these files.
    pub(crate) fn with_files(files: &Arc<Stored>) -> NodeContext {
        let (mut ctx, _) = context(&[]);
        Arc::make_mut(&mut ctx.run).files = Arc::<Stored>::clone(files);
        ctx
    }

    /// The text of an output.
    pub(crate) fn text_of(output: &crate::component::NodeOutput, name: &str) -> String {
        match output.values.get(name) {
            Some(Value::Message(message)) => message.text.clone(),
            other => panic!("{name} is {other:?}"),
        }
    }
}
