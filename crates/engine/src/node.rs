//! A node of a plan: which component it is, its fields and outputs, and whether it may run natively.
//!
//! # Trust
//! Every node of a Langflow export embeds the Python that Langflow would execute. The native engine stands in for a
//! node only if the full sha256 of that code is on a list made from released wheels (`known`): an edited node is
//! somebody's own program.
//!
//! There is also a form without code: a node whose template has no `code` field at all, and whose `metadata.module`
//! or `type` names a component this engine implements. Nothing could be executed differently, so it is native. Flows
//! written by hand or by a program use it. Langflow itself does not run such a node.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use metrics::Histogram;
use serde_json::Value as Json;

use crate::component::{Kind, NearChat};
use crate::components;
use crate::document::{Object, RawNode};
use crate::known;
use crate::metrics::NODE_DURATION_SECONDS;
use crate::plan::NodeInfo;
use crate::problem::clip;

/// A template field, as far as running needs it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Langflow's field type: `str`, `int`, `other` for a handle, ...
    pub(crate) kind: String,
    pub(crate) value: Json,
    pub(crate) default: Json,
    pub(crate) file_path: Json,
    pub(crate) list: bool,
    pub(crate) required: bool,
    pub(crate) show: bool,
    pub(crate) override_skip: bool,
    pub(crate) load_from_db: bool,
    pub(crate) secret: bool,
    pub(crate) input_types: Option<Vec<String>>,
    pub(crate) display_name: Option<String>,
}

/// An output with the types it can give.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) types: Vec<String>,
    /// An edge may come back to it.
    pub(crate) loops: bool,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) info: Arc<NodeInfo>,
    /// See [`components::origin`].
    pub(crate) origin: Arc<Object>,
    /// Why it cannot run natively, or what it is.
    pub(crate) kind: Result<Kind, String>,
    pub(crate) fields: BTreeMap<String, Field>,
    pub(crate) outputs: Vec<Output>,
    /// See [`crate::component::NodeCall::methods`].
    pub(crate) methods: Arc<[(String, String)]>,
    /// The name of the picture that Langflow draws it with.
    pub(crate) icon: Option<String>,
    pub(crate) is_input: bool,
    pub(crate) is_output: bool,
    pub(crate) tool_mode: bool,
    /// Known when the edges are.
    pub(crate) near_chat: NearChat,
    pub(crate) pointer: String,
    /// Where it stands in the document: the order of outputs, and which of two equal names a tweak means.
    pub(crate) position: usize,
    /// Made when the node first runs, and kept with the plan: to look it up takes longer than to record.
    duration: OnceLock<Histogram>,
}

impl Node {
    pub(crate) fn new(mut raw: RawNode, position: usize) -> Self {
        let display_name = clip(raw.display_name().to_owned());
        let kind = identify(&raw, &display_name);
        let tool_mode = flag(&raw.body, "tool_mode");
        let names = [
            raw.id.split('-').next().unwrap_or_default().to_owned(),
            raw.component.clone(),
        ];
        let is_one_of = |wanted: [&str; 3]| names.iter().any(|name| wanted.contains(&name.as_str()));
        let is_input = flag(&raw.body, "is_input") || is_one_of(["ChatInput", "Webhook", "TextInput"]);
        let is_output = flag(&raw.body, "is_output") || is_one_of(["ChatOutput", "DataOutput", "TextOutput"]);
        let methods = methods(&raw.body);
        let mut outputs = parse_outputs(&raw.body);
        if let (true, Ok(kind)) = (outputs.is_empty(), &kind) {
            let native = |name: &&str| Output {
                name: (*name).to_owned(),
                types: vec!["Message".to_owned()],
                loops: false,
            };
            outputs = native_outputs(*kind).iter().map(native).collect();
        }
        let icon = raw.body.get("icon").and_then(Json::as_str);
        let icon = icon.map(|icon| clip(icon.to_owned()));
        let template = match raw.body.remove("template") {
            Some(Json::Object(template)) => template,
            _ => Object::new(),
        };
        // Langflow hides a field that does not say `show`; written by hand it is meant to be seen.
        let show = !template.contains_key("code");
        let fields = template.into_iter().filter_map(|(name, field)| match field {
            Json::Object(field) => Some((name, Field::new(field, show))),
            _ => None,
        });
        let info = NodeInfo {
            id: raw.id,
            display_name,
            component: clip(raw.component),
        };
        Self {
            fields: fields.collect(),
            origin: components::origin(&info),
            info: Arc::new(info),
            duration: OnceLock::new(),
            pointer: raw.pointer,
            kind,
            outputs,
            methods,
            icon,
            is_input,
            is_output,
            tool_mode,
            near_chat: NearChat::default(),
            position,
        }
    }

    /// Where the time that it took is recorded. Bounded: only components with a native implementation run here.
    pub(crate) fn duration(&self) -> &Histogram {
        let component = self.kind.as_ref().map_or("unknown", |kind| kind.name());
        self.duration
            .get_or_init(|| metrics::histogram!(NODE_DURATION_SECONDS, "component" => component))
    }

    pub(crate) fn output(&self, name: &str) -> Option<&Output> {
        self.outputs.iter().find(|output| output.name == name)
    }
}

impl Field {
    fn new(mut field: Object, show: bool) -> Self {
        let kind = field
            .get("type")
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned();
        // Code is only ever compared, and large: it does not stay in memory with the plan.
        let value = if kind == "code" {
            Json::Null
        } else {
            field.remove("value").unwrap_or_default()
        };
        let input_type = field.get("_input_type").and_then(Json::as_str);
        Self {
            value,
            list: flag(&field, "list"),
            required: flag(&field, "required"),
            show: field
                .get("show")
                .map_or(show, |show| show.as_bool().unwrap_or(false)),
            override_skip: flag(&field, "override_skip"),
            load_from_db: flag(&field, "load_from_db"),
            secret: flag(&field, "password") || input_type == Some("SecretStrInput"),
            input_types: field
                .get("input_types")
                .and_then(Json::as_array)
                .map(|types| strings(types)),
            display_name: field
                .get("display_name")
                .and_then(Json::as_str)
                .map(str::to_owned),
            default: field.remove("default").unwrap_or_default(),
            file_path: field.remove("file_path").unwrap_or_default(),
            kind,
        }
    }

    /// What a user calls it.
    pub(crate) fn label<'f>(&'f self, name: &'f str) -> &'f str {
        self.display_name.as_deref().unwrap_or(name)
    }
}

pub(crate) fn flag(object: &Object, key: &str) -> bool {
    object.get(key).and_then(Json::as_bool).unwrap_or(false)
}

/// Type lists are compared with each other for every edge: their length is bounded.
const MAX_TYPES: usize = 64;
/// Outputs of a node are searched for every edge.
const MAX_OUTPUTS: usize = 256;

pub(crate) fn strings(values: &[Json]) -> Vec<String> {
    values
        .iter()
        .take(MAX_TYPES)
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn parse_outputs(body: &Object) -> Vec<Output> {
    let outputs = body
        .get("outputs")
        .and_then(Json::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let parse = |output: &Json| {
        let types = output
            .get("types")
            .and_then(Json::as_array)
            .map(|types| strings(types));
        Some(Output {
            name: output.get("name")?.as_str()?.to_owned(),
            types: types.unwrap_or_default(),
            loops: output
                .as_object()
                .is_some_and(|output| flag(output, "allows_loop")),
        })
    };
    outputs.iter().take(MAX_OUTPUTS).filter_map(parse).collect()
}

fn methods(body: &Object) -> Arc<[(String, String)]> {
    let outputs = body.get("outputs").and_then(Json::as_array);
    let parse = |output: &Json| {
        let text = |key: &str| output.get(key).and_then(Json::as_str).map(str::to_owned);
        Some((text("name")?, text("method")?))
    };
    let outputs = outputs.into_iter().flatten().take(MAX_OUTPUTS);
    outputs.filter_map(parse).collect()
}

/// The component a node is, or why this engine must not stand in for it.
fn identify(raw: &RawNode, display_name: &str) -> Result<Kind, String> {
    let metadata = raw.body.get("metadata").and_then(Json::as_object);
    let module = metadata.and_then(|m| m.get("module")).and_then(Json::as_str);
    let by_module = module.map(by_module_path);
    let by_type = by_registry_name(&raw.component);
    let code = raw.template().and_then(|template| template.get("code"));
    let Some(code) = code else {
        return match (by_module, by_type) {
            (Some(Some(module)), Some(name)) if module != name => Err(format!(
                "{display_name}: its type and its metadata.module name different components"
            )),
            (Some(Some(kind)), _) | (None, Some(kind)) => Ok(kind),
            (Some(None), _) | (None, None) => Err(unknown(raw, display_name)),
        };
    };
    let code = code.get("value").and_then(Json::as_str).unwrap_or_default();
    if let Some(kind) = known::kind_of(code) {
        return Ok(kind);
    }
    match by_module.flatten().or(by_type) {
        Some(_) => Err(format!(
            "{display_name}: edited code of {}: it is not the code of a release this engine knows",
            raw.component
        )),
        None => Err(unknown(raw, display_name)),
    }
}

fn unknown(raw: &RawNode, display_name: &str) -> String {
    format!(
        "{display_name}: the component {} has no native implementation",
        raw.component
    )
}

/// Langflow's registry names, old spellings included.
fn by_registry_name(name: &str) -> Option<Kind> {
    Some(match name {
        "ChatInput" => Kind::ChatInput,
        "ChatOutput" => Kind::ChatOutput,
        "TextInput" => Kind::TextInput,
        "TextOutput" => Kind::TextOutput,
        "Prompt" | "Prompt Template" => Kind::Prompt,
        "LanguageModelComponent" => Kind::LanguageModel,
        "OpenAIModel" => Kind::OpenAiModel,
        "ParserComponent" | "parser" => Kind::Parser,
        "ConditionalRouter" => Kind::ConditionalRouter,
        "Agent" => Kind::Agent,
        "CalculatorComponent" => Kind::Calculator,
        "CurrentDate" => Kind::CurrentDate,
        "Webhook" => Kind::Webhook,
        "File" => Kind::File,
        "SplitText" => Kind::SplitText,
        "CombineText" => Kind::CombineText,
        "TypeConverterComponent" => Kind::TypeConverter,
        "SaveToFile" => Kind::SaveToFile,
        "StructuredOutput" => Kind::StructuredOutput,
        "BatchRunComponent" => Kind::BatchRun,
        "Memory" => Kind::MessageHistory,
        "MemoryBase" => Kind::MemoryBase,
        "LoopComponent" => Kind::Loop,
        "ArXivComponent" => Kind::ArXiv,
        "Knowledge" => Kind::Knowledge,
        "KnowledgeIngestion" => Kind::KnowledgeIngestion,
        "KnowledgeBase" => Kind::KnowledgeBase,
        "APIRequest" => Kind::ApiRequest,
        "DataOperations" => Kind::DataOperations,
        _ => return None,
    })
}

/// `metadata.module` ends in the component's class.
fn by_module_path(path: &str) -> Option<Kind> {
    Some(match path.rsplit('.').next()? {
        "ChatInput" => Kind::ChatInput,
        "ChatOutput" => Kind::ChatOutput,
        "TextInputComponent" => Kind::TextInput,
        "TextOutputComponent" => Kind::TextOutput,
        "PromptComponent" => Kind::Prompt,
        "LanguageModelComponent" => Kind::LanguageModel,
        "OpenAIModelComponent" => Kind::OpenAiModel,
        "ParserComponent" => Kind::Parser,
        "ConditionalRouterComponent" => Kind::ConditionalRouter,
        "AgentComponent" => Kind::Agent,
        "CalculatorComponent" => Kind::Calculator,
        "CurrentDateComponent" => Kind::CurrentDate,
        "WebhookComponent" => Kind::Webhook,
        "FileComponent" => Kind::File,
        "SplitTextComponent" => Kind::SplitText,
        "CombineTextComponent" => Kind::CombineText,
        "TypeConverterComponent" => Kind::TypeConverter,
        "SaveToFileComponent" => Kind::SaveToFile,
        "StructuredOutputComponent" => Kind::StructuredOutput,
        "BatchRunComponent" => Kind::BatchRun,
        "MemoryComponent" => Kind::MessageHistory,
        "MemoryBaseComponent" => Kind::MemoryBase,
        "LoopComponent" => Kind::Loop,
        "ArXivComponent" => Kind::ArXiv,
        "KnowledgeComponent" => Kind::Knowledge,
        "KnowledgeIngestionComponent" => Kind::KnowledgeIngestion,
        "KnowledgeBaseComponent" => Kind::KnowledgeBase,
        "APIRequestComponent" => Kind::ApiRequest,
        "DataOperationsComponent" => Kind::DataOperations,
        _ => return None,
    })
}

/// The outputs whose values a native component gives. A model's `model_output` is a Python object: not among them.
pub(crate) fn native_outputs(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::ChatInput | Kind::ChatOutput | Kind::EarlyChatOutput => &["message"],
        Kind::TextInput | Kind::TextOutput => &["text"],
        Kind::Prompt => &["prompt"],
        Kind::LanguageModel | Kind::OpenAiModel => &["text_output"],
        Kind::Parser => &["parsed_text"],
        Kind::ConditionalRouter => &["true_result", "false_result"],
        Kind::Agent => &["response", "structured_response"],
        Kind::TimedAgent => &["response"],
        Kind::Calculator => &["result"],
        Kind::CurrentDate => &["current_date"],
        Kind::Webhook => &["output_data"],
        Kind::File => &["message", "path", "dataframe", "json"],
        Kind::SplitText | Kind::EarlySplitText => &["dataframe"],
        Kind::CombineText => &["combined_text"],
        Kind::TypeConverter => &["message_output", "data_output", "dataframe_output"],
        Kind::SaveToFile => &["message"],
        Kind::StructuredOutput => &["structured_output", "dataframe_output"],
        Kind::BatchRun => &["batch_results"],
        Kind::Url => &["page_results", "raw_results"],
        Kind::WebSearch => &["results"],
        Kind::MessageHistory => components::message_history::outputs(),
        Kind::MemoryBase => &[components::memory_base::OUTPUT],
        Kind::Loop => &[components::looping::ITEM, components::looping::DONE],
        Kind::ArXiv => &["dataframe"],
        Kind::Knowledge => &[components::knowledge::KEPT, components::knowledge::FOUND],
        Kind::KnowledgeIngestion => &[components::knowledge::KEPT],
        Kind::KnowledgeBase => &[components::knowledge::FOUND],
        Kind::ApiRequest | Kind::EarlyApiRequest => &[components::api_request::OUTPUT],
        Kind::DataOperations | Kind::EarlyDataOperations => &[components::data_operations::OUTPUT],
    }
}
