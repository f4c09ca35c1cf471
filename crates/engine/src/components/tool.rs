//! Components as tools of an agent: what a model is told of them, and running one with what the model says.
//!
//! A node in tool mode hands on no value but itself: what it is called with comes from the agent's model, over what the
//! node's own fields say.

use serde_json::{Map, Value as Json, json};

use super::{calculator, current_date, memory_base, message_history};
use crate::component::{Kind, NodeCall, NodeContext, NodeError, Param};
use crate::template::{python_json, python_repr};
use crate::value::Value;

/// The output of a node in tool mode.
pub(crate) const TOOLSET: &str = "component_as_tool";

/// A text that the model fills in.
#[derive(Debug)]
struct Argument {
    name: &'static str,
    description: &'static str,
    /// `None`: the model has to say it.
    default: Option<&'static str>,
    /// What it may say; empty means anything.
    options: &'static [&'static str],
}

/// What a component offers to models. The words are part of what a flow does: a model decides by them.
#[derive(Debug)]
struct Offer {
    name: &'static str,
    description: &'static str,
    arguments: &'static [Argument],
    /// The output that answers.
    output: &'static str,
}

/// What nodes of a kind offer: a tool for each output that can be one.
fn offers(kind: Kind) -> &'static [Offer] {
    static CALCULATOR: [Offer; 1] = [Offer {
        name: "evaluate_expression",
        description: "Perform basic arithmetic operations on a given expression.",
        arguments: &[Argument {
            name: "expression",
            description: "The arithmetic expression to evaluate (e.g., '4*4*(33/22)+12-20').",
            default: Some(""),
            options: &[],
        }],
        output: calculator::OUTPUT,
    }];
    static CURRENT_DATE: [Offer; 1] = [Offer {
        name: "get_current_date",
        description: "Returns the current date and time in the selected timezone.",
        arguments: &[Argument {
            name: "timezone",
            description: "Select the timezone for the current date and time.",
            default: Some("UTC"),
            options: &[],
        }],
        output: current_date::OUTPUT,
    }];
    static MEMORY_BASE: [Offer; 1] = [Offer {
        name: "retrieve_memory",
        description: "Retrieve long-term memory from a Memory Base attached to this workflow. When 'Filter by Session' \
                      is off, queries run across all sessions.",
        arguments: &[Argument {
            name: "search_query",
            description: "Query used for semantic retrieval against the memory base.",
            default: Some(""),
            options: &[],
        }],
        output: memory_base::OUTPUT,
    }];
    const HISTORY: &str =
        "Stores or retrieves stored chat messages from Langflow tables or an external memory.";
    const HISTORY_ARGUMENTS: &[Argument] = &[
        Argument {
            name: "message",
            description: "The chat message to be stored.",
            default: Some(""),
            options: &[],
        },
        Argument {
            name: "order",
            description: "Order of the messages.",
            default: None,
            options: &["Ascending", "Descending"],
        },
    ];
    static MESSAGE_HISTORY: [Offer; 2] = [
        Offer {
            name: "retrieve_messages_as_text",
            description: HISTORY,
            arguments: HISTORY_ARGUMENTS,
            output: message_history::TEXT,
        },
        Offer {
            name: "retrieve_messages_dataframe",
            description: HISTORY,
            arguments: HISTORY_ARGUMENTS,
            output: message_history::TABLE,
        },
    ];
    match kind {
        Kind::Calculator => &CALCULATOR,
        Kind::CurrentDate => &CURRENT_DATE,
        Kind::MemoryBase => &MEMORY_BASE,
        Kind::MessageHistory => &MESSAGE_HISTORY,
        _ => &[],
    }
}

/// Whether nodes of this kind can be tools natively.
pub(crate) fn is_tool(kind: Kind) -> bool {
    !offers(kind).is_empty()
}

impl Argument {
    fn takes(&self, text: &str) -> bool {
        self.options.is_empty() || self.options.contains(&text)
    }
}

/// One tool of an agent.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: String,
    description: String,
    offer: &'static Offer,
    call: NodeCall,
}

/// A call that the model made wrongly, or that failed: it is told, and may try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint(pub(super) String);

impl Tool {
    /// The tools of a node, as the node's own list of actions names them and leaves them out.
    pub(super) fn of(call: &NodeCall) -> Vec<Self> {
        let tool = |offer: &'static Offer| Self {
            name: offer.name.to_owned(),
            description: offer.description.to_owned(),
            offer,
            call: call.clone(),
        };
        let tools = offers(call.kind).iter().map(tool);
        match call.params.get("tools_metadata") {
            Some(Param::Field(Json::Array(actions))) => {
                tools.filter_map(|tool| tool.listed(actions)).collect()
            }
            _ => tools.collect(),
        }
    }

    /// Whether it reads the conversation.
    pub(super) fn listens(&self) -> bool {
        self.call.kind == Kind::MessageHistory
    }

    fn listed(mut self, actions: &[Json]) -> Option<Self> {
        let tag = |action: &&Json| action["tags"].get(0).and_then(Json::as_str) == Some(self.offer.name);
        let action = actions.iter().rev().find(tag)?;
        if action.get("status") == Some(&Json::Bool(false)) {
            return None;
        }
        let text = |name: &str| action.get(name).and_then(Json::as_str).map(str::to_owned);
        self.name = text("name").unwrap_or(self.name);
        self.description = text("description").unwrap_or(self.description);
        if let Some(commands) = text("commands").filter(|commands| !commands.is_empty()) {
            self.description = format!(
                "very_time you see one of those commands {commands} run the tool. tool description is {}",
                self.description
            );
        }
        Some(self)
    }

    /// Another name for a tool whose name another node has too.
    pub(super) fn renamed(&mut self, taken: &mut std::collections::BTreeSet<String>) {
        const LONGEST: usize = 64;
        const LONGEST_SUFFIX: usize = 32;
        let slug: String = self
            .call
            .node
            .id
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let slug = slug.trim_matches('_');
        let suffix = &slug[slug.len().saturating_sub(LONGEST_SUFFIX)..];
        let base: String = self
            .name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                    c
                } else {
                    '-'
                }
            })
            .take(LONGEST - suffix.len() - 1)
            .collect();
        let mut name = format!("{base}_{suffix}");
        let mut number = 2;
        while !taken.insert(name.clone()) {
            let cut = base.len().saturating_sub(number.to_string().len() + 1);
            name = format!("{}_{suffix}_{number}", &base[..cut]);
            number += 1;
        }
        self.name = name;
    }

    /// What the model is told.
    pub(super) fn schema(&self) -> Json {
        let properties: Map<String, Json> = self
            .offer
            .arguments
            .iter()
            .map(|argument| {
                let mut schema = Map::new();
                schema.extend(
                    argument
                        .default
                        .map(|default| ("default".to_owned(), default.into())),
                );
                schema.insert("description".to_owned(), argument.description.into());
                if !argument.options.is_empty() {
                    schema.insert("enum".to_owned(), json!(argument.options));
                }
                schema.insert("type".to_owned(), "string".into());
                (argument.name.to_owned(), Json::Object(schema))
            })
            .collect();
        let mut parameters = Map::new();
        parameters.insert("properties".to_owned(), Json::Object(properties));
        let required = self
            .offer
            .arguments
            .iter()
            .filter(|argument| argument.default.is_none());
        let required: Vec<&str> = required.map(|argument| argument.name).collect();
        if !required.is_empty() {
            parameters.insert("required".to_owned(), json!(required));
        }
        parameters.insert("type".to_owned(), "object".into());
        json!({"type": "function", "function": {
            "name": self.name,
            "description": self.description,
            "parameters": parameters,
        }})
    }

    /// Runs it once: the text for the model.
    pub(super) async fn run(
        &self,
        given: &Map<String, Json>,
        ctx: &NodeContext,
    ) -> Result<String, Complaint> {
        let mut call = self.call.clone();
        let mut wrong = String::new();
        for argument in self.offer.arguments {
            match given.get(argument.name) {
                None => match argument.default {
                    Some(default) => call.params.insert(argument.name, Param::Field(default.into())),
                    None => wrong.push_str(&format!(" {}: Field required\n", argument.name)),
                },
                Some(Json::String(text)) if !argument.takes(text) => {
                    let options: Vec<String> = argument
                        .options
                        .iter()
                        .map(|option| format!("'{option}'"))
                        .collect();
                    let options = options.join(" or ");
                    wrong.push_str(&format!(" {}: Input should be {options}\n", argument.name));
                }
                Some(Json::String(text)) => call
                    .params
                    .insert(argument.name, Param::Field(text.as_str().into())),
                Some(_) => {
                    wrong.push_str(&format!(" {}: Input should be a valid string\n", argument.name));
                }
            }
        }
        if !wrong.is_empty() {
            let given = python_repr(&Json::Object(given.clone()));
            return Err(Complaint(format!(
                "Error invoking tool '{}' with kwargs {given} with error:\n{wrong} Please fix the error and try again.",
                self.name
            )));
        }
        call.wanted = vec![self.offer.output.to_owned()].into();
        let mut output = Box::pin(super::run(&call, ctx))
            .await
            .map_err(|NodeError { message, .. }| Complaint(message))?;
        Ok(match output.values.remove(self.offer.output) {
            Some(Value::Message(message)) => message.text,
            Some(Value::Data(data)) => python_json(&Json::Object(data)),
            Some(Value::Table(rows)) => message_history::told(&rows),
            // No component that is a tool gives anything else.
            Some(Value::Json(_)) | None => String::new(),
        })
    }
}

/// What a node in tool mode gives: the names of its tools. The agent that has them runs the node itself.
pub(super) fn toolset(call: &NodeCall) -> Value {
    Value::Json(
        Tool::of(call)
            .into_iter()
            .map(|tool| Json::String(tool.name))
            .collect(),
    )
}
