//! What flows along an edge, and is checkpointed: Langflow's Message, Data (JSON) and DataFrame (table).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// A chat message: Langflow's `Message`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Message {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Everything else Langflow carries (properties, usage, context id).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Json>,
}

/// A value on an edge. Tagged, so that a checkpoint reads back as exactly what was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Value {
    Message(Message),
    /// Langflow's `Data`, also called JSON.
    Data(Map<String, Json>),
    /// Langflow's `DataFrame`, also called Table: one object a row.
    Table(Vec<Map<String, Json>>),
    /// A plain JSON value: what a field holds.
    Json(Json),
}
