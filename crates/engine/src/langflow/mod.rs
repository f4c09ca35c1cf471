//! What Langflow's own API says of a run: its answer, with what each output component gave, and the messages in it.
//!
//! Owns the shapes, which clients of Langflow read. The values are those of the nodes; ids are made from the run's, so
//! that a message has the same id while it streams and in the answer.

mod answer;
mod message;

use std::collections::BTreeSet;

use crate::component::Kind;
use crate::plan::Plan;
use crate::request::InputType;

pub(crate) use answer::outputs;
pub use message::{Made, Streaming, announced, message_id, streaming, user_message};
pub(crate) use message::{all_properties, timestamp};

impl Plan {
    /// The nodes whose tokens a chat shows as they come: models and agents that a chat output is connected to.
    pub fn streams(&self) -> Vec<Streaming> {
        let to_chat = |edge: &&crate::edge::Edge| self.nodes[edge.target].kind == Ok(Kind::ChatOutput);
        let sources: BTreeSet<usize> = self
            .edges
            .iter()
            .filter(to_chat)
            .map(|edge| edge.source)
            .collect();
        let model = |node: &&usize| match self.nodes[**node].kind {
            Ok(kind) => matches!(kind, Kind::LanguageModel | Kind::OpenAiModel) || kind.is_agent(),
            Err(_) => false,
        };
        sources
            .iter()
            .filter(model)
            .map(|node| {
                let node = &self.nodes[*node];
                Streaming {
                    node: node.info.id.clone(),
                    display_name: node.info.display_name.clone(),
                    // An agent's messages have one of their own.
                    icon: match node.kind {
                        Ok(kind) if kind.is_agent() => Some("Bot".to_owned()),
                        _ => node.icon.clone(),
                    },
                }
            })
            .collect()
    }

    /// The chat input that tells of the user's message, and its text when the request has none.
    pub fn chat_input(&self, input_type: InputType) -> Option<(&str, &str)> {
        if input_type == InputType::Text {
            return None;
        }
        let node = self.nodes.iter().find(|node| node.kind == Ok(Kind::ChatInput))?;
        let text = node.fields.get("input_value");
        let text = text.and_then(|field| field.value.as_str()).unwrap_or_default();
        Some((&node.info.id, text))
    }
}
