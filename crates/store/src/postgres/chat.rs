//! What was said in conversations.

use async_trait::async_trait;
use flowfleet_core::chat::{RECALL_BYTES, Recall, Remember, Said};
use flowfleet_core::port::{ChatStore, Result as PortResult};
use flowfleet_core::{FlowName, Tenant};
use futures::TryStreamExt as _;

use super::Postgres;
use crate::chat::{self, SaidRow, Session, WrittenRow};
use crate::error::{Error, Repeat, attempt};

/// The state is compared as the module `write` explains.
const REMEMBER: &str = "
INSERT INTO messages (
    tenant, id, flow_name, said_at, run_id, epoch, session_id, node, flow_id, sender, sender_name, context_id, category, text, files, properties,
    content_blocks
)
SELECT r.tenant, m.id, r.flow_name, now(), r.id, r.epoch, m.session_id, m.node, m.flow_id, m.sender, m.sender_name,
    m.context_id, m.category, m.text, m.files, m.properties, m.content_blocks
FROM ROWS FROM (json_to_recordset($1::json) AS (
    id uuid, run uuid, epoch bigint, session_id text, node text, flow_id text, sender text, sender_name text,
    context_id text, category text, text text, files text, properties text, content_blocks text
)) WITH ORDINALITY AS m (
    id, run, epoch, session_id, node, flow_id, sender, sender_name, context_id, category, text, files, properties,
    content_blocks, place
)
JOIN runs r ON r.id = m.run AND r.epoch = m.epoch AND r.state || '' = 'running'
ORDER BY m.place
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

const TRIM: &str = "
DELETE FROM messages WHERE tenant = $1 AND session_id = $2 AND flow_name = $3 AND seq <= (
    SELECT seq FROM messages WHERE tenant = $1 AND session_id = $2 AND flow_name = $3
    ORDER BY seq DESC LIMIT 1 OFFSET $4
)
";

const FORGET: &str = "DELETE FROM messages WHERE tenant = $1 AND session_id = $2";

impl Postgres {
    async fn remember_once(&self, messages: &[Remember], keep: u32) -> Result<Vec<bool>, Error> {
        let rows: Vec<WrittenRow> = sqlx::query_as(REMEMBER)
            .bind(chat::inputs(messages)?)
            .fetch_all(&self.pool)
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
                .execute(&self.pool)
                .await?;
        }
        Ok(answers)
    }

    async fn recall_once(&self, tenant: &Tenant, wanted: &Recall) -> Result<Vec<Said>, Error> {
        let mut sql = chat::recall::<sqlx::Postgres>(tenant, wanted);
        let mut rows = sql.build_query_as::<SaidRow>().fetch(&self.pool);
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
impl ChatStore for Postgres {
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
            let mut sql = chat::sessions::<sqlx::Postgres>(tenant, flow, offset, limit);
            Ok(sql.build_query_scalar().fetch_all(&self.pool).await?)
        })
        .await
    }

    async fn forget(&self, tenant: &Tenant, session_id: &str) -> PortResult<u64> {
        attempt("forget", Repeat::Idempotent, || async {
            let done = sqlx::query(FORGET)
                .bind(tenant.as_str())
                .bind(session_id)
                .execute(&self.pool)
                .await?;
            Ok(done.rows_affected())
        })
        .await
    }
}
