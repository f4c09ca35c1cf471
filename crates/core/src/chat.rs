//! What was said in conversations: the messages that flows remember and read again.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::id::RunId;
use crate::lease::Lease;
use crate::name::FlowName;

/// Bytes of a message's text; what is longer is cut.
pub const TEXT_BYTES: usize = 1 << 20;
/// Bytes of a message's properties, and of its content blocks, as JSON; what is larger is not kept.
pub const JSON_BYTES: usize = 256 << 10;
/// Bytes of a session's id and of the names in a message: databases index them.
pub const NAME_BYTES: usize = 512;
/// References to files in one message.
pub const FILES: usize = 100;
/// Messages recalled at once.
pub const RECALL_MESSAGES: u32 = 10_000;
/// Bytes of text recalled at once: the newest messages that fit.
pub const RECALL_BYTES: usize = 16 << 20;

/// A message as it is kept, with what Langflow's has.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatMessage {
    /// Unique in its tenant. Made from the run, so that a run that goes on elsewhere writes it again and not once more.
    pub id: Uuid,
    pub session_id: String,
    pub sender: String,
    pub sender_name: String,
    pub context_id: String,
    pub text: String,
    pub files: Vec<String>,
    pub properties: Value,
    pub content_blocks: Value,
    pub category: String,
    /// What Langflow's API calls the flow.
    pub flow_id: String,
    /// The node that said it.
    pub node: String,
}

/// A message to keep, written under the lease of the run that says it. Tenant and flow are those of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Remember {
    pub lease: Lease,
    pub message: ChatMessage,
}

/// A message that was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub flow: FlowName,
    pub run: RunId,
    /// When it was said first, by the store's clock.
    pub at: Timestamp,
    pub message: ChatMessage,
}

/// Which messages to recall. `None` means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recall {
    pub flow: Option<FlowName>,
    pub session_id: Option<String>,
    pub context_id: Option<String>,
    pub sender: Option<String>,
    pub sender_name: Option<String>,
    /// Newer ones to pass over.
    pub offset: u32,
    pub limit: u32,
}

impl ChatMessage {
    /// Within the limits: text and names are cut, what is too large beside them is left out. A session's id is not
    /// touched, for cut it would be another session's.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        cut(&mut self.text, TEXT_BYTES);
        for name in [
            &mut self.sender,
            &mut self.sender_name,
            &mut self.context_id,
            &mut self.category,
            &mut self.flow_id,
            &mut self.node,
        ] {
            cut(name, NAME_BYTES);
        }
        self.files.truncate(FILES);
        for file in &mut self.files {
            cut(file, NAME_BYTES * 4);
        }
        if self.properties.to_string().len() > JSON_BYTES {
            self.properties = Value::Object(serde_json::Map::new());
        }
        if self.content_blocks.to_string().len() > JSON_BYTES {
            self.content_blocks = Value::Array(Vec::new());
        }
        self
    }
}

fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_too_long_is_cut_and_what_is_too_large_left_out() {
        let long = "é".repeat(TEXT_BYTES);
        let message = ChatMessage {
            id: Uuid::nil(),
            session_id: "s".repeat(NAME_BYTES * 2),
            sender: "User".to_owned(),
            sender_name: long.clone(),
            context_id: String::new(),
            text: format!("x{long}"),
            files: vec!["f".to_owned(); FILES + 1],
            properties: json!({ "source": long }),
            content_blocks: json!([{"type": "text", "text": "small"}]),
            category: "message".to_owned(),
            flow_id: String::new(),
            node: "n".to_owned(),
        };
        let bounded = message.clone().bounded();
        assert_eq!(bounded.text.len(), TEXT_BYTES - 1, "not inside a character");
        assert!(message.text.starts_with(&bounded.text));
        assert_eq!(bounded.sender_name.len(), NAME_BYTES);
        assert_eq!(bounded.files.len(), FILES);
        assert_eq!(bounded.properties, json!({}));
        assert_eq!(bounded.content_blocks, message.content_blocks);
        assert_eq!(bounded.session_id, message.session_id);
        assert_eq!(bounded.clone().bounded(), bounded);
    }
}
