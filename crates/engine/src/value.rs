//! What flows along an edge, and is checkpointed: Langflow's Message, Data (JSON) and DataFrame (table).

use std::sync::Arc;

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
    /// Everything else Langflow carries (properties, usage, context id). Shared, because messages are copied along
    /// every edge and seldom changed.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub extra: Arc<Map<String, Json>>,
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

impl Message {
    /// A message that is only text.
    pub fn of(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// From the object form that fields and tweaks use: known keys in their places, the rest kept.
    pub(crate) fn from_object(object: &Map<String, Json>) -> Self {
        let text_of = |key: &str| object.get(key).and_then(Json::as_str).map(str::to_owned);
        let mut message = Self {
            text: text_of("text").unwrap_or_default(),
            sender: text_of("sender"),
            sender_name: text_of("sender_name"),
            session_id: text_of("session_id").filter(|id| !id.is_empty()),
            files: object.get("files").map(paths).unwrap_or_default(),
            extra: Arc::default(),
        };
        let extra = Arc::make_mut(&mut message.extra);
        const KNOWN: [&str; 5] = ["text", "sender", "sender_name", "session_id", "files"];
        for (key, value) in object.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str())) {
            extra.insert(key.clone(), value.clone());
        }
        message
    }

    /// The object form: what a template sees when a message stands where data is expected.
    pub(crate) fn to_object(&self) -> Map<String, Json> {
        let mut object = Map::new();
        object.insert("text".to_owned(), self.text.clone().into());
        object.insert("sender".to_owned(), self.sender.clone().into());
        object.insert("sender_name".to_owned(), self.sender_name.clone().into());
        object.insert(
            "session_id".to_owned(),
            self.session_id.clone().unwrap_or_default().into(),
        );
        object.insert("files".to_owned(), self.files.clone().into());
        object.insert("error".to_owned(), false.into());
        for (key, value) in &*self.extra {
            object.insert(key.clone(), value.clone());
        }
        object
    }
}

/// Marks text that is bytes in Python: an object with this key alone. No key of a document has a NUL in it by chance.
const BYTES: &str = "\u{0}bytes";

/// Python's bytes of a text. They print otherwise than text, and are written as JSON like it.
pub(crate) fn bytes(text: &str) -> Json {
    Json::Object(Map::from_iter([(BYTES.to_owned(), text.into())]))
}

/// The text whose bytes an object stands for.
pub(crate) fn text_of_bytes(object: &Map<String, Json>) -> Option<&str> {
    let text = object.get(BYTES).and_then(Json::as_str);
    text.filter(|_| object.len() == 1)
}

/// The value with text in the place of bytes.
pub(crate) fn without_bytes(value: &Json) -> std::borrow::Cow<'_, Json> {
    use std::borrow::Cow::{Borrowed, Owned};
    fn has_bytes(value: &Json) -> bool {
        match value {
            Json::Object(object) => object.contains_key(BYTES) || object.values().any(has_bytes),
            Json::Array(items) => items.iter().any(has_bytes),
            _ => false,
        }
    }
    fn plain(value: &Json) -> Json {
        match value {
            Json::Object(object) => match text_of_bytes(object) {
                Some(text) => text.into(),
                None => Json::Object(
                    object
                        .iter()
                        .map(|(key, value)| (key.clone(), plain(value)))
                        .collect(),
                ),
            },
            Json::Array(items) => Json::Array(items.iter().map(plain).collect()),
            other => other.clone(),
        }
    }
    match has_bytes(value) {
        true => Owned(plain(value)),
        false => Borrowed(value),
    }
}

fn is_empty(extra: &Arc<Map<String, Json>>) -> bool {
    extra.is_empty()
}

/// File references of a field: one or a list, each a path or an object with one.
pub(crate) fn paths(value: &Json) -> Vec<String> {
    match value {
        Json::String(path) if !path.is_empty() => vec![path.clone()],
        Json::Object(object) => object.get("path").map(paths).unwrap_or_default(),
        Json::Array(items) => items
            .iter()
            .filter(|item| !item.is_array())
            .flat_map(paths)
            .collect(),
        _ => Vec::new(),
    }
}

impl Value {
    /// What this value is called in messages to users.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Message(_) => "Message",
            Self::Data(_) => "Data",
            Self::Table(_) => "DataFrame",
            Self::Json(Json::Null) => "nothing",
            Self::Json(Json::Bool(_)) => "boolean",
            Self::Json(Json::Number(_)) => "number",
            Self::Json(Json::String(_)) => "text",
            Self::Json(Json::Array(_)) => "list",
            Self::Json(Json::Object(_)) => "object",
        }
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}
