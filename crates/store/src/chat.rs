//! What both databases share of conversations: the batch as it is bound, rows, and when a session is trimmed.

use std::collections::HashMap;

use flowfleet_core::chat::{ChatMessage, NAME_BYTES, RECALL_MESSAGES, Recall, Remember, Said};
use flowfleet_core::{FlowName, RunId, Tenant};
use serde::Serialize;
use serde_json::Value;
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use crate::batch::long;
use crate::columns::columns;
use crate::error::Error;
use crate::row::parse;
use crate::value::{Id, Time};

/// Messages of one call; more is a caller that does not bound its batches.
const BATCH: usize = 1_000;
/// One message in so many has its session trimmed, if more than that may stay.
const TRIM_EVERY: u8 = 32;
/// Sessions listed at once.
pub(crate) const SESSIONS_LIMIT: u32 = 1_000;

/// A message as both databases take it, out of one JSON text.
#[derive(Debug, Serialize)]
pub(crate) struct Input {
    id: Id,
    run: Id,
    epoch: i64,
    session_id: String,
    node: String,
    flow_id: String,
    sender: String,
    sender_name: String,
    context_id: String,
    category: String,
    text: String,
    files: String,
    properties: String,
    content_blocks: String,
}

/// PostgreSQL's texts hold no such character.
fn whole(text: &str) -> String {
    text.replace('\0', "")
}

/// The batch, each id once: what was said last counts. As JSON text.
pub(crate) fn inputs(messages: &[Remember]) -> Result<String, Error> {
    if messages.len() > BATCH {
        return Err(Error::Refused(format!("at most {BATCH} messages in one call")));
    }
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    let mut inputs: Vec<Input> = Vec::with_capacity(messages.len());
    for Remember { lease, message } in messages {
        if message.session_id.is_empty() || message.session_id.len() > NAME_BYTES {
            return Err(Error::Refused(format!(
                "the session id of a message must have 1 to {NAME_BYTES} bytes"
            )));
        }
        let message = message.clone().bounded();
        let input = Input {
            id: Id(message.id),
            run: Id::from(lease.run),
            epoch: long(lease.epoch),
            session_id: whole(&message.session_id),
            node: whole(&message.node),
            flow_id: whole(&message.flow_id),
            sender: whole(&message.sender),
            sender_name: whole(&message.sender_name),
            context_id: whole(&message.context_id),
            category: whole(&message.category),
            text: whole(&message.text),
            files: serde_json::to_string(&message.files)?,
            properties: message.properties.to_string(),
            content_blocks: message.content_blocks.to_string(),
        };
        match places.get(&message.id) {
            Some(place) => inputs[*place] = input,
            None => {
                places.insert(message.id, inputs.len());
                inputs.push(input);
            }
        }
    }
    Ok(serde_json::to_string(&inputs)?)
}

columns! {
    /// A message that was written.
    pub(crate) struct WrittenRow {
        id: Id,
        run_id: Id,
        tenant: String,
        flow_name: String,
        session_id: String,
    }
}

/// Which messages were written.
pub(crate) fn answers(messages: &[Remember], rows: &[WrittenRow]) -> Vec<bool> {
    let written = |message: &Remember| {
        rows.iter()
            .any(|row| row.id.0 == message.message.id && row.run_id == Id::from(message.lease.run))
    };
    messages.iter().map(written).collect()
}

/// A session of a flow, whose old messages may have to go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) tenant: String,
    pub(crate) flow: String,
    pub(crate) session_id: String,
}

/// Sessions to trim now. Ids are hashes, so that one write in [`TRIM_EVERY`] trims; looking for the oldest message
/// that may stay costs as much as reading the session's index.
pub(crate) fn due(rows: Vec<WrittenRow>, keep: u32) -> Vec<Session> {
    let is_due = |row: &WrittenRow| {
        let last = row.id.0.as_bytes()[15];
        keep < u32::from(TRIM_EVERY) || last.is_multiple_of(TRIM_EVERY)
    };
    let mut due: Vec<Session> = Vec::new();
    for row in rows.into_iter().filter(is_due) {
        let session = Session {
            tenant: row.tenant,
            flow: row.flow_name,
            session_id: row.session_id,
        };
        if !due.contains(&session) {
            due.push(session);
        }
    }
    due
}

columns! {
    /// A message with what it says.
    pub(crate) struct SaidRow {
        id: Id,
        flow_name: String,
        run_id: Id,
        said_at: Time,
        session_id: String,
        node: String,
        flow_id: String,
        sender: String,
        sender_name: String,
        context_id: String,
        category: String,
        text: String,
        files: String,
        properties: String,
        content_blocks: String,
    }
}

impl SaidRow {
    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.files.len() + self.properties.len() + self.content_blocks.len()
    }

    pub(crate) fn said(self) -> Result<Said, Error> {
        let json = |text: &str| serde_json::from_str::<Value>(text);
        Ok(Said {
            flow: parse("flow name", &self.flow_name)?,
            run: RunId(self.run_id.0),
            at: self.said_at.stamp(),
            message: ChatMessage {
                id: self.id.0,
                session_id: self.session_id,
                sender: self.sender,
                sender_name: self.sender_name,
                context_id: self.context_id,
                text: self.text,
                files: serde_json::from_str(&self.files)?,
                properties: json(&self.properties)?,
                content_blocks: json(&self.content_blocks)?,
                category: self.category,
                flow_id: self.flow_id,
                node: self.node,
            },
        })
    }
}

/// The statement of `recall`. Only conditions that are asked for stand in it, so that the planner sees which index
/// will do.
pub(crate) fn recall<'a, D: Database>(tenant: &'a Tenant, wanted: &'a Recall) -> QueryBuilder<'a, D>
where
    &'a str: Encode<'a, D> + Type<D>,
    i64: Encode<'a, D> + Type<D>,
{
    let mut sql = QueryBuilder::new(
        "SELECT id, flow_name, run_id, said_at, session_id, node, flow_id, sender, sender_name, context_id, category,
            text, files, properties, content_blocks
         FROM messages WHERE tenant = ",
    );
    sql.push_bind(tenant.as_str());
    for (column, value) in [
        ("session_id", wanted.session_id.as_deref()),
        ("flow_name", wanted.flow.as_ref().map(FlowName::as_str)),
        ("context_id", wanted.context_id.as_deref()),
        ("sender", wanted.sender.as_deref()),
        ("sender_name", wanted.sender_name.as_deref()),
    ] {
        if let Some(value) = value {
            sql.push(" AND ").push(column).push(" = ").push_bind(value);
        }
    }
    sql.push(" ORDER BY seq DESC LIMIT ")
        .push_bind(i64::from(wanted.limit.min(RECALL_MESSAGES)));
    sql.push(" OFFSET ").push_bind(i64::from(wanted.offset));
    sql
}

/// The statement of `sessions`.
pub(crate) fn sessions<'a, D: Database>(
    tenant: &'a Tenant,
    flow: Option<&'a FlowName>,
    offset: u32,
    limit: u32,
) -> QueryBuilder<'a, D>
where
    &'a str: Encode<'a, D> + Type<D>,
    i64: Encode<'a, D> + Type<D>,
{
    let mut sql = QueryBuilder::new("SELECT session_id FROM messages WHERE tenant = ");
    sql.push_bind(tenant.as_str());
    if let Some(flow) = flow {
        sql.push(" AND flow_name = ").push_bind(flow.as_str());
    }
    sql.push(" GROUP BY session_id ORDER BY max(seq) DESC LIMIT ")
        .push_bind(i64::from(limit.min(SESSIONS_LIMIT)));
    sql.push(" OFFSET ").push_bind(i64::from(offset));
    sql
}
