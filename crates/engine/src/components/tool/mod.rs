//! Components as tools of an agent: what a model is told of them, and running one with what the model says.
//!
//! A node in tool mode hands on no value but itself: what it is called with comes from the agent's model, over what the
//! node's own fields say.

mod offers;

use serde_json::{Map, Value as Json, json};

use super::printed::printed;
use super::read_file;
use crate::component::{Kind, NodeCall, NodeContext, NodeError, Param};
use crate::model::ToolSpec;
use crate::template::{python_json, python_repr};
use crate::value::Value;

use offers::{Offer, offers};

/// The output of a node in tool mode.
pub(crate) const TOOLSET: &str = "component_as_tool";

/// What the model is told of a node: for some, what the node holds is part of it.
fn described(call: &NodeCall, offer: &Offer) -> String {
    match call.kind {
        Kind::File => read_file::description(call),
        _ => offer.description.to_owned(),
    }
}

/// Whether nodes of this kind can be tools natively.
pub(crate) fn is_tool(kind: Kind) -> bool {
    !offers(kind).is_empty()
}

/// What the tools of a kind are called.
pub(crate) fn names(kind: Kind) -> impl Iterator<Item = &'static str> {
    offers(kind).iter().map(|offer| offer.name)
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
            description: described(call, offer),
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
    pub(super) fn spec(&self) -> ToolSpec {
        let properties: Map<String, Json> = self
            .offer
            .arguments
            .iter()
            .map(|argument| (argument.name.to_owned(), argument.schema()))
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
        ToolSpec {
            name: self.name.clone(),
            description: self.description.clone(),
            parameters: Json::Object(parameters),
        }
    }

    /// Runs it once: the text for the model.
    pub(super) async fn run(
        &self,
        given: &Map<String, Json>,
        ctx: &NodeContext,
    ) -> Result<String, Complaint> {
        let mut call = self.call.clone();
        let mut wrong = Vec::new();
        for argument in self.offer.arguments {
            let said = given.get(argument.name);
            wrong.extend(argument.complaints(said));
            let value = said.cloned().or_else(|| argument.default.map(Json::from));
            call.params
                .insert(argument.name, Param::Field(value.unwrap_or_default()));
        }
        if !wrong.is_empty() {
            let given = python_repr(&Json::Object(given.clone()));
            return Err(Complaint(format!(
                "Error invoking tool '{}' with kwargs {given} with error:\n {}\n Please fix the error and try again.",
                self.name,
                wrong.join("\n")
            )));
        }
        call.wanted = vec![self.offer.output.to_owned()].into();
        if call.kind == Kind::File {
            return Ok(read_file::tool(&call, ctx).await);
        }
        let mut output = Box::pin(super::run(&call, ctx))
            .await
            .map_err(|NodeError { message, .. }| Complaint(message))?;
        match output.values.remove(self.offer.output) {
            Some(Value::Message(message)) => Ok(message.text),
            Some(Value::Data(data)) => Ok(python_json(&Json::Object(data))),
            Some(Value::Table(rows)) => {
                printed(&rows).map_err(|NodeError { message, .. }| Complaint(message))
            }
            // No component that is a tool gives anything else.
            Some(Value::Json(_)) | None => Ok(String::new()),
        }
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
