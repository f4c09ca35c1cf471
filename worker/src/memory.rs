//! The conversation of one run: the engine's memory over the store, for the run's tenant and flow, under its lease.

use std::sync::Arc;

use flowfleet_core::chat::{self, ChatMessage, Remember, Said};
use flowfleet_core::port::Store;
use flowfleet_core::run::ClaimedRun;
use flowfleet_core::{FlowName, Kind, Lease, PortError, Tenant};
use flowfleet_engine::{Memory, MemoryError, Message, Recall, Remembered};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::progress::until_there;

/// What the nodes of one attempt remember.
#[derive(Debug)]
pub(crate) struct RunMemory {
    store: Arc<dyn Store>,
    tenant: Tenant,
    flow: FlowName,
    lease: Lease,
    /// Messages that may stay of a session.
    keep: u32,
}

impl RunMemory {
    pub(crate) fn of(store: Arc<dyn Store>, run: &ClaimedRun, keep: u32) -> Arc<dyn Memory> {
        Arc::new(Self {
            store,
            tenant: run.tenant.clone(),
            flow: run.flow.name.clone(),
            lease: run.lease,
            keep,
        })
    }

    async fn keep(&self, message: Remembered) -> Result<(), MemoryError> {
        let remember = Remember {
            lease: self.lease,
            message: stored(message)?,
        };
        let batch = [remember];
        let kept = until_there("remember", || self.store.remember(&batch, self.keep)).await;
        match kept.map_err(|error| failed(&error))?.first() {
            Some(true) => Ok(()),
            _ => Err(MemoryError {
                message: "the run is held by another worker, or its flow said something else by this id"
                    .to_owned(),
                retryable: false,
            }),
        }
    }

    async fn look_up(&self, wanted: &Recall) -> Result<Vec<Remembered>, MemoryError> {
        let wanted = chat::Recall {
            flow: Some(self.flow.clone()),
            session_id: wanted.session_id.clone(),
            context_id: wanted.context_id.clone(),
            sender: wanted.sender.clone(),
            sender_name: wanted.sender_name.clone(),
            offset: 0,
            limit: u32::try_from(wanted.limit).unwrap_or(u32::MAX),
        };
        let said = until_there("recall", || self.store.recall(&self.tenant, &wanted)).await;
        let said = said.map_err(|error| failed(&error))?;
        Ok(said.into_iter().map(remembered).collect())
    }
}

impl Memory for RunMemory {
    fn recall<'m>(&'m self, wanted: &'m Recall) -> BoxFuture<'m, Result<Vec<Remembered>, MemoryError>> {
        self.look_up(wanted).boxed()
    }

    fn remember(&self, message: Remembered) -> BoxFuture<'_, Result<(), MemoryError>> {
        self.keep(message).boxed()
    }
}

fn failed(error: &PortError) -> MemoryError {
    MemoryError {
        message: error.to_string(),
        retryable: error.kind == Kind::Retryable,
    }
}

fn stored(said: Remembered) -> Result<ChatMessage, MemoryError> {
    let id = said.id.parse().map_err(|_| MemoryError {
        message: "the message has an id that is not a UUID".to_owned(),
        retryable: false,
    })?;
    let Message {
        text,
        sender,
        sender_name,
        session_id,
        files,
        extra,
    } = said.message;
    let field = |name: &str, default: fn() -> Value| extra.get(name).cloned().unwrap_or_else(default);
    let context_id = extra
        .get("context_id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Ok(ChatMessage {
        id,
        session_id: session_id.unwrap_or_default(),
        sender: sender.unwrap_or_default(),
        sender_name: sender_name.unwrap_or_default(),
        context_id: context_id.to_owned(),
        text,
        files,
        properties: field("properties", || Value::Object(serde_json::Map::new())),
        content_blocks: field("content_blocks", || Value::Array(Vec::new())),
        category: "message".to_owned(),
        flow_id: said.flow_id,
        node: said.node,
    })
}

fn remembered(said: Said) -> Remembered {
    let ChatMessage {
        id,
        session_id,
        sender,
        sender_name,
        context_id,
        text,
        files,
        properties,
        content_blocks,
        flow_id,
        node,
        ..
    } = said.message;
    let extra = [
        ("context_id", Value::String(context_id)),
        ("properties", properties),
        ("content_blocks", content_blocks),
    ];
    Remembered {
        id: id.to_string(),
        node,
        flow_id,
        run_id: said.run.to_string(),
        at: said.at,
        message: Message {
            text,
            sender: Some(sender),
            sender_name: Some(sender_name),
            session_id: Some(session_id),
            files,
            extra: Arc::new(
                extra
                    .map(|(name, value)| (name.to_owned(), value))
                    .into_iter()
                    .collect(),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowfleet_core::RunId;
    use jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let mut message = Message::of("hi");
        message.sender = Some("User".to_owned());
        message.sender_name = Some("Ada".to_owned());
        message.session_id = Some("s".to_owned());
        message.files = vec!["a.png".to_owned()];
        let extra = [
            ("context_id", json!("c")),
            ("properties", json!({"state": "complete"})),
            ("content_blocks", json!([{"type": "text"}])),
        ];
        message.extra = Arc::new(
            extra
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect(),
        );
        let run = RunId::generate();
        let said = Remembered {
            id: uuid_of(run),
            node: "n".to_owned(),
            flow_id: "f".to_owned(),
            run_id: run.to_string(),
            at: Timestamp::UNIX_EPOCH,
            message,
        };
        let kept = Said {
            flow: "hello".parse().unwrap(),
            run,
            at: said.at,
            message: stored(said.clone()).unwrap(),
        };
        assert_eq!(remembered(kept), said);
        let odd = Remembered {
            id: "1".to_owned(),
            ..said
        };
        assert!(!stored(odd).unwrap_err().retryable);
    }

    fn uuid_of(run: RunId) -> String {
        run.to_string()
    }
}
