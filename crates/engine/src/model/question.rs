//! What is asked and what is answered, in words that belong to no provider.

use serde_json::{Map, Value as Json};

use super::Endpoint;
use crate::component::Usage;

/// One question to a model.
#[derive(Debug, Clone)]
pub(crate) struct Chat {
    pub endpoint: Endpoint,
    pub model: String,
    pub turns: Vec<Turn>,
    pub options: Options,
    /// Whether the answer is wanted piece by piece.
    pub stream: bool,
}

/// Something said in a conversation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Turn {
    System(String),
    User(String),
    Assistant {
        text: String,
        calls: Vec<ToolCall>,
        /// The turn in the provider's own words, if it wants to hear them again.
        blocks: Vec<Json>,
    },
    /// What came of a call.
    Tool {
        id: String,
        content: String,
        failed: bool,
    },
}

impl Turn {
    /// Something the model said without calling anything.
    pub(crate) fn said(text: String) -> Self {
        Self::Assistant {
            text,
            calls: Vec::new(),
            blocks: Vec::new(),
        }
    }
}

/// Everything else of a question.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub temperature: Option<f64>,
    /// Tokens of the answer.
    pub limit: Option<i64>,
    pub tools: Vec<ToolSpec>,
    /// The tool that has to be called.
    pub must_call: Option<String>,
    /// What the answer has to look like.
    pub shape: Option<Shape>,
    /// The provider's own options, as it names them.
    pub more: Map<String, Json>,
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON schema.
    pub parameters: Json,
}

/// The shape of an answer that is an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub name: String,
    /// JSON schema.
    pub schema: Json,
    /// The same, with everything else forbidden.
    pub strict: Json,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Reply {
    pub text: String,
    /// What the model wants to be called, in its order.
    pub tool_calls: Vec<ToolCall>,
    pub usage: Usage,
    /// See [`Turn::Assistant`].
    pub blocks: Vec<Json>,
}

/// A tool the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

impl ToolCall {
    /// The arguments as an object; empty if they are none.
    pub(super) fn object(&self) -> Map<String, Json> {
        serde_json::from_str(&self.arguments).unwrap_or_default()
    }
}
