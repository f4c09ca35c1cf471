//! Flows and their immutable versions.

use async_trait::async_trait;
use bytes::Bytes;
use flowfleet_core::port::{FlowRecord, FlowStore, NewFlow, Page, PutFlow, Result as PortResult};
use flowfleet_core::{FlowId, FlowName, FlowVersion, Tenant};

use super::Postgres;
use crate::LIST_LIMIT;
use crate::batch::int;
use crate::error::{Error, Repeat, attempt};
use crate::row::FlowRow;
use crate::value::Id;

macro_rules! flow_columns {
    () => {
        "SELECT v.name, v.version, v.flow_id, v.digest, v.nodes, v.engine, v.created_at FROM flows f
         JOIN flow_versions v ON v.tenant = f.tenant AND v.name = f.name "
    };
}

/// Makes the flow's row and locks it, so that two writers number their versions one after the other.
const RESERVE: &str = "
INSERT INTO flows (tenant, name, version) VALUES ($1, $2, 0)
ON CONFLICT (tenant, name) DO UPDATE SET version = flows.version
RETURNING version, deleted_at IS NOT NULL
";

const INSERT: &str = "
INSERT INTO flow_versions (tenant, name, version, flow_id, digest, nodes, engine, created_at, document)
VALUES ($1, $2, $3, $4, $5, $6, $7, now(), $8)
RETURNING name, version, flow_id, digest, nodes, engine, created_at
";

const NEWEST: &str = concat!(
    flow_columns!(),
    "AND v.version = f.version WHERE f.tenant = $1 AND f.name = $2 AND f.deleted_at IS NULL"
);

const VERSION: &str = concat!(
    flow_columns!(),
    "WHERE f.tenant = $1 AND f.name = $2 AND f.deleted_at IS NULL AND v.version = $3"
);

const BY_ID: &str = concat!(
    flow_columns!(),
    "AND v.version = f.version WHERE v.tenant = $1 AND v.flow_id = $2 AND f.deleted_at IS NULL
     ORDER BY v.created_at DESC, v.name LIMIT 1"
);

const LIST: &str = concat!(
    flow_columns!(),
    "AND v.version = f.version
     WHERE f.tenant = $1 AND f.deleted_at IS NULL AND f.name COLLATE \"C\" > $2
     ORDER BY f.name COLLATE \"C\" LIMIT $3"
);

const DOCUMENT: &str = "
SELECT document FROM flow_versions WHERE tenant = $1 AND name = $2 AND version = $3 AND digest = $4
";

const DELETE: &str =
    "UPDATE flows SET deleted_at = now() WHERE tenant = $1 AND name = $2 AND deleted_at IS NULL";

impl Postgres {
    async fn put_once(&self, flow: &NewFlow) -> Result<PutFlow, Error> {
        let mut tx = self.begin().await?;
        let (newest, deleted): (i32, bool) = sqlx::query_as(RESERVE)
            .bind(flow.tenant.as_str())
            .bind(flow.name.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if !deleted {
            let same: Option<FlowRow> = sqlx::query_as(NEWEST)
                .bind(flow.tenant.as_str())
                .bind(flow.name.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(row) = same.filter(|row| row.digest() == flow.digest) {
                return Ok(PutFlow {
                    record: row.record()?,
                    created: false,
                });
            }
        }
        let row: FlowRow = sqlx::query_as(INSERT)
            .bind(flow.tenant.as_str())
            .bind(flow.name.as_str())
            .bind(newest + 1)
            .bind(Id::from(flow.id))
            .bind(&flow.digest)
            .bind(int(flow.nodes))
            .bind(&flow.engine)
            .bind(flow.document.as_ref())
            .fetch_one(&mut *tx)
            .await?;
        sqlx::query("UPDATE flows SET version = $3, deleted_at = NULL WHERE tenant = $1 AND name = $2")
            .bind(flow.tenant.as_str())
            .bind(flow.name.as_str())
            .bind(newest + 1)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(PutFlow {
            record: row.record()?,
            created: true,
        })
    }

    async fn flow_once(
        &self,
        tenant: &Tenant,
        name: &FlowName,
        version: Option<u32>,
    ) -> Result<Option<FlowRecord>, Error> {
        let query = sqlx::query_as(if version.is_some() { VERSION } else { NEWEST })
            .bind(tenant.as_str())
            .bind(name.as_str());
        let query = match version {
            Some(version) => query.bind(int(version)),
            None => query,
        };
        let row: Option<FlowRow> = query.fetch_optional(&self.pool).await?;
        row.map(FlowRow::record).transpose()
    }

    async fn flows_once(
        &self,
        tenant: &Tenant,
        after: Option<&FlowName>,
        limit: u32,
    ) -> Result<Page<FlowRecord>, Error> {
        let limit = limit.clamp(1, LIST_LIMIT);
        let rows: Vec<FlowRow> = sqlx::query_as(LIST)
            .bind(tenant.as_str())
            .bind(after.map_or("", FlowName::as_str))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.pool)
            .await?;
        crate::page(rows, limit, FlowRow::record)
    }
}

#[async_trait]
impl FlowStore for Postgres {
    async fn put_flow(&self, flow: NewFlow) -> PortResult<PutFlow> {
        attempt("put_flow", Repeat::Idempotent, || self.put_once(&flow)).await
    }

    async fn flow(
        &self,
        tenant: &Tenant,
        name: &FlowName,
        version: Option<u32>,
    ) -> PortResult<Option<FlowRecord>> {
        attempt("flow", Repeat::Idempotent, || {
            self.flow_once(tenant, name, version)
        })
        .await
    }

    async fn flow_by_id(&self, tenant: &Tenant, id: FlowId) -> PortResult<Option<FlowRecord>> {
        attempt("flow_by_id", Repeat::Idempotent, || async {
            let row: Option<FlowRow> = sqlx::query_as(BY_ID)
                .bind(tenant.as_str())
                .bind(Id::from(id))
                .fetch_optional(&self.pool)
                .await?;
            row.map(FlowRow::record).transpose()
        })
        .await
    }

    async fn flow_document(&self, tenant: &Tenant, flow: &FlowVersion) -> PortResult<Option<Bytes>> {
        attempt("flow_document", Repeat::Idempotent, || async {
            let document: Option<Vec<u8>> = sqlx::query_scalar(DOCUMENT)
                .bind(tenant.as_str())
                .bind(flow.name.as_str())
                .bind(int(flow.version))
                .bind(&flow.digest)
                .fetch_optional(&self.pool)
                .await?;
            Ok(document.map(Bytes::from))
        })
        .await
    }

    async fn flows(
        &self,
        tenant: &Tenant,
        after: Option<&FlowName>,
        limit: u32,
    ) -> PortResult<Page<FlowRecord>> {
        attempt("flows", Repeat::Idempotent, || {
            self.flows_once(tenant, after, limit)
        })
        .await
    }

    async fn delete_flow(&self, tenant: &Tenant, name: &FlowName) -> PortResult<bool> {
        attempt("delete_flow", Repeat::Idempotent, || async {
            let done = sqlx::query(DELETE)
                .bind(tenant.as_str())
                .bind(name.as_str())
                .execute(&self.pool)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }
}
