//! What was said in conversations.

use async_trait::async_trait;
use flowfleet_core::chat::{RECALL_BYTES, Recall, Remember, Said};
use flowfleet_core::port::{ChatStore, Result as PortResult};
use flowfleet_core::{FlowName, Tenant};
use futures::TryStreamExt as _;

use super::Sqlite;
use crate::chat::{self, SaidRow, Session, WrittenRow};
use crate::error::{Error, Repeat, attempt};
use crate::value::Time;

/// `?2` is the time.
pub(super) const REMEMBER: &str = "
INSERT INTO messages (
    tenant, id, flow_name, said_at, run_id, epoch, session_id, node, flow_id, sender, sender_name, context_id, category, text, files, properties,
    content_blocks
)
SELECT r.tenant, m.value ->> 'id', r.flow_name, ?2, r.id, r.epoch, m.value ->> 'session_id', m.value ->> 'node',
    m.value ->> 'flow_id', m.value ->> 'sender', m.value ->> 'sender_name', m.value ->> 'context_id',
    m.value ->> 'category', m.value ->> 'text', m.value ->> 'files', m.value ->> 'properties',
    m.value ->> 'content_blocks'
FROM json_each(?1) AS m
CROSS JOIN runs r ON r.id = m.value ->> 'run' AND r.epoch = m.value ->> 'epoch' AND r.state = 'running'
WHERE true
ORDER BY m.key
ON CONFLICT (tenant, id) DO UPDATE SET
    run_id = excluded.run_id,
    epoch = excluded.epoch,
    session_id = excluded.session_id,
    node = excluded.node,
    flow_id = excluded.flow_id,
    sender = excluded.sender,
    sender_name = excluded.sender_name,
    context_id = excluded.context_id,
    category = excluded.category,
    text = excluded.text,
    files = excluded.files,
    properties = excluded.properties,
    content_blocks = excluded.content_blocks
WHERE messages.flow_name = excluded.flow_name
  AND (messages.run_id <> excluded.run_id OR messages.epoch <= excluded.epoch)
RETURNING id, run_id, tenant, flow_name, session_id
";

pub(super) const TRIM: &str = "
DELETE FROM messages WHERE tenant = ?1 AND session_id = ?2 AND flow_name = ?3 AND seq <= (
    SELECT seq FROM messages WHERE tenant = ?1 AND session_id = ?2 AND flow_name = ?3
    ORDER BY seq DESC LIMIT 1 OFFSET ?4
)
";

const FORGET: &str = "DELETE FROM messages WHERE tenant = ?1 AND session_id = ?2";

impl Sqlite {
    async fn remember_once(&self, messages: &[Remember], keep: u32) -> Result<Vec<bool>, Error> {
        let rows: Vec<WrittenRow> = sqlx::query_as(REMEMBER)
            .bind(chat::inputs(messages)?)
            .bind(Time::now())
            .fetch_all(&self.writer)
            .await?;
        let answers = chat::answers(messages, &rows);
        for Session {
            tenant,
            flow,
            session_id,
        } in chat::due(rows, keep)
        {
            sqlx::query(TRIM)
                .bind(tenant)
                .bind(session_id)
                .bind(flow)
                .bind(i64::from(keep))
                .execute(&self.writer)
                .await?;
        }
        Ok(answers)
    }

    async fn recall_once(&self, tenant: &Tenant, wanted: &Recall) -> Result<Vec<Said>, Error> {
        let mut sql = chat::recall::<sqlx::Sqlite>(tenant, wanted);
        let mut rows = sql.build_query_as::<SaidRow>().fetch(&self.readers);
        let (mut said, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            bytes += row.bytes();
            if bytes > RECALL_BYTES && !said.is_empty() {
                break;
            }
            said.push(row.said()?);
        }
        Ok(said)
    }
}

#[async_trait]
impl ChatStore for Sqlite {
    async fn remember(&self, messages: &[Remember], keep: u32) -> PortResult<Vec<bool>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        attempt("remember", Repeat::Idempotent, || {
            self.remember_once(messages, keep)
        })
        .await
    }

    async fn recall(&self, tenant: &Tenant, wanted: &Recall) -> PortResult<Vec<Said>> {
        attempt("recall", Repeat::Idempotent, || self.recall_once(tenant, wanted)).await
    }

    async fn sessions(
        &self,
        tenant: &Tenant,
        flow: Option<&FlowName>,
        offset: u32,
        limit: u32,
    ) -> PortResult<Vec<String>> {
        attempt("sessions", Repeat::Idempotent, || async {
            let mut sql = chat::sessions::<sqlx::Sqlite>(tenant, flow, offset, limit);
            Ok(sql.build_query_scalar().fetch_all(&self.readers).await?)
        })
        .await
    }

    async fn forget(&self, tenant: &Tenant, session_id: &str) -> PortResult<u64> {
        attempt("forget", Repeat::Idempotent, || async {
            let done = sqlx::query(FORGET)
                .bind(tenant.as_str())
                .bind(session_id)
                .execute(&self.writer)
                .await?;
            Ok(done.rows_affected())
        })
        .await
    }
}
