//! A run's conversation: the engine's memory, as messages of lfx that go along with a run and come back from it.

use std::collections::HashMap;
use std::sync::Arc;

use flowfleet_engine::{HostError, Memory, MemoryError, Message, Recall, Remembered, Services};
use serde_json::{Map, Value as Json, json};

/// Messages of its session that a run is given: the newest.
const GIVEN: usize = 1_000;
/// What of a message is kept beside who said what.
const KEPT: [&str; 3] = ["context_id", "properties", "content_blocks"];

/// The conversation of one run, if it is part of one.
#[derive(Debug)]
pub(crate) struct Conversation<'a> {
    services: &'a Services,
    run_id: &'a str,
    flow_id: String,
    /// What was said last under each id: components say a message again whenever they have added to it.
    said: HashMap<String, Json>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(services: &'a Services, run_id: &'a str, flow_id: Option<&str>) -> Self {
        Self {
            services,
            run_id,
            flow_id: flow_id.unwrap_or_default().to_owned(),
            said: HashMap::new(),
        }
    }

    fn memory(&self) -> Option<&'a dyn Memory> {
        self.services.memory.as_deref()
    }

    /// What was said in the session before, oldest first.
    pub(crate) async fn history(&self, session_id: &str) -> Result<Vec<Json>, HostError> {
        let Some(memory) = self.memory() else {
            return Ok(Vec::new());
        };
        let wanted = Recall {
            session_id: Some(session_id.to_owned()),
            limit: GIVEN,
            ..Recall::default()
        };
        let said = memory.recall(&wanted).await.map_err(|error| failed(&error))?;
        Ok(said.into_iter().rev().map(written).collect())
    }

    /// Keeps a message once its text is whole.
    pub(crate) async fn keep(&mut self, node: String, message: Json) -> Result<(), HostError> {
        let Some(memory) = self.memory() else {
            return Ok(());
        };
        let text = |name: &str| message[name].as_str().map(str::to_owned);
        let (Some(id), Some(words)) = (text("id"), text("text")) else {
            return Ok(());
        };
        let partial = message["properties"]["state"] == "partial";
        let known = self.said.get(&id) == Some(&message);
        if partial || message["error"] == true || known {
            return Ok(());
        }
        let kept = |name: &&str| Some(((*name).to_owned(), message.get(*name)?.clone()));
        let files = message["files"].as_array().into_iter().flatten();
        let remembered = Remembered {
            id: id.clone(),
            node,
            flow_id: self.flow_id.clone(),
            run_id: self.run_id.to_owned(),
            at: (self.services.clock)(),
            message: Message {
                text: words,
                sender: text("sender"),
                sender_name: text("sender_name"),
                session_id: text("session_id"),
                files: files.filter_map(Json::as_str).map(str::to_owned).collect(),
                extra: Arc::new(KEPT.iter().filter_map(kept).collect::<Map<_, _>>()),
            },
        };
        memory
            .remember(remembered)
            .await
            .map_err(|error| failed(&error))?;
        self.said.insert(id, message);
        Ok(())
    }
}

fn failed(error: &MemoryError) -> HostError {
    HostError {
        code: "python_memory_unavailable",
        message: format!("the conversation cannot be read or kept: {}", error.message),
        retryable: error.retryable,
        interrupted: false,
    }
}

/// As lfx reads a message.
fn written(said: Remembered) -> Json {
    let message = said.message;
    let extra = |name: &str| message.extra.get(name).cloned();
    json!({
        "id": said.id,
        "timestamp": said.at.strftime("%Y-%m-%d %H:%M:%S.%6f UTC").to_string(),
        "sender": message.sender,
        "sender_name": message.sender_name,
        "session_id": message.session_id,
        "context_id": extra("context_id").unwrap_or_else(|| "".into()),
        "text": message.text,
        "files": message.files,
        "error": false,
        "edit": false,
        "properties": extra("properties").unwrap_or_else(|| json!({})),
        "category": "message",
        "content_blocks": extra("content_blocks").unwrap_or_else(|| json!([])),
        "session_metadata": {"graph_run_id": said.run_id},
        "flow_id": said.flow_id,
        "run_id": said.run_id,
    })
}
