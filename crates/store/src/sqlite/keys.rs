//! API keys and the audit log.

use async_trait::async_trait;
use flowfleet_core::port::{Actor, AuditEntry, KeyRecord, KeyStore, NewKey, Page, Result as PortResult};
use flowfleet_core::{KeyId, Tenant};
use jiff::Timestamp;

use super::Sqlite;
use crate::error::{Error, Repeat, attempt};
use crate::row::{AuditRow, KeyRow};
use crate::value::{Id, Time};
use crate::{KEYS_LIMIT, LIST_LIMIT};

const CREATE: &str = "
INSERT INTO api_keys (id, tenant, name, role, hash, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (id) DO NOTHING
";

const BY_ID: &str =
    "SELECT id, tenant, name, role, created_at, revoked_at FROM api_keys WHERE id = ?1 AND tenant = ?2";

const BY_HASH: &str = "
SELECT id, tenant, name, role, created_at, revoked_at FROM api_keys WHERE hash = ?1 AND revoked_at IS NULL
";

const LIST: &str = "
SELECT id, tenant, name, role, created_at, revoked_at FROM api_keys WHERE tenant = ?1
ORDER BY id DESC LIMIT ?2
";

const REVOKE: &str =
    "UPDATE api_keys SET revoked_at = ?3 WHERE id = ?1 AND tenant = ?2 AND revoked_at IS NULL";

/// After the newest entry of the tenant, whatever the clock says: the time is the cursor of the log.
const AUDIT: &str = "
INSERT INTO audit (tenant, at, actor, action, target)
SELECT ?1, max(?5, coalesce((SELECT max(at) FROM audit WHERE tenant = ?1) + 1, 0)), ?2, ?3, ?4
";

const AUDIT_LOG: &str = "
SELECT at, actor, action, target FROM audit WHERE tenant = ?1 AND (?2 IS NULL OR at < ?2)
ORDER BY at DESC LIMIT ?3
";

impl Sqlite {
    async fn create_key_once(&self, key: &NewKey) -> Result<KeyRecord, Error> {
        sqlx::query(CREATE)
            .bind(Id::from(key.id))
            .bind(key.tenant.as_str())
            .bind(&key.name)
            .bind(key.role.as_str())
            .bind(&key.hash)
            .bind(Time::now())
            .execute(&self.writer)
            .await?;
        let row: Option<KeyRow> = sqlx::query_as(BY_ID)
            .bind(Id::from(key.id))
            .bind(key.tenant.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.ok_or_else(|| Error::Refused(format!("the id {} belongs to another key", key.id)))?
            .record()
    }

    async fn audit_once(&self, actor: &Actor, action: &str, target: &str) -> Result<(), Error> {
        sqlx::query(AUDIT)
            .bind(actor.tenant.as_str())
            .bind(&actor.name)
            .bind(action)
            .bind(target)
            .bind(Time::now())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn audit_log_once(
        &self,
        tenant: &Tenant,
        before: Option<Timestamp>,
        limit: u32,
    ) -> Result<Page<AuditEntry>, Error> {
        let limit = limit.clamp(1, LIST_LIMIT);
        let rows: Vec<AuditRow> = sqlx::query_as(AUDIT_LOG)
            .bind(tenant.as_str())
            .bind(before.map(Time::from))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.readers)
            .await?;
        crate::page(rows, limit, |row| Ok(row.into()))
    }
}

#[async_trait]
impl KeyStore for Sqlite {
    async fn create_key(&self, key: NewKey) -> PortResult<KeyRecord> {
        attempt("create_key", Repeat::Idempotent, || self.create_key_once(&key)).await
    }

    async fn key_by_hash(&self, hash: &str) -> PortResult<Option<KeyRecord>> {
        attempt("key_by_hash", Repeat::Idempotent, || async {
            let row: Option<KeyRow> = sqlx::query_as(BY_HASH)
                .bind(hash)
                .fetch_optional(&self.readers)
                .await?;
            row.map(KeyRow::record).transpose()
        })
        .await
    }

    async fn keys(&self, tenant: &Tenant) -> PortResult<Vec<KeyRecord>> {
        attempt("keys", Repeat::Idempotent, || async {
            let rows: Vec<KeyRow> = sqlx::query_as(LIST)
                .bind(tenant.as_str())
                .bind(KEYS_LIMIT)
                .fetch_all(&self.readers)
                .await?;
            rows.into_iter().map(KeyRow::record).collect()
        })
        .await
    }

    async fn revoke_key(&self, tenant: &Tenant, key: KeyId) -> PortResult<bool> {
        attempt("revoke_key", Repeat::Idempotent, || async {
            let done = sqlx::query(REVOKE)
                .bind(Id::from(key))
                .bind(tenant.as_str())
                .bind(Time::now())
                .execute(&self.writer)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn any_key(&self) -> PortResult<bool> {
        attempt("any_key", Repeat::Idempotent, || async {
            Ok(
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM api_keys WHERE revoked_at IS NULL)")
                    .fetch_one(&self.readers)
                    .await?,
            )
        })
        .await
    }

    async fn audit(&self, actor: &Actor, action: &str, target: &str) -> PortResult<()> {
        attempt("audit", Repeat::Once, || self.audit_once(actor, action, target)).await
    }

    async fn audit_log(
        &self,
        tenant: &Tenant,
        before: Option<Timestamp>,
        limit: u32,
    ) -> PortResult<Page<AuditEntry>> {
        attempt("audit_log", Repeat::Idempotent, || {
            self.audit_log_once(tenant, before, limit)
        })
        .await
    }
}
