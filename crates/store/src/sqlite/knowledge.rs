//! Knowledge. A search reads the vectors of its base.

use async_trait::async_trait;
use flowfleet_core::knowledge::{
    BASES, Found, Ingest, Ingested, Knowledge, NewKnowledge, Search, SearchBy, Tags,
};
use flowfleet_core::port::{KnowledgeStore, Page, Result as PortResult};
use flowfleet_core::{KnowledgeName, Tenant};
use futures::TryStreamExt as _;
use sqlx::Row as _;
use uuid::Uuid;

use super::Sqlite;
use crate::batch::long;
use crate::error::{Error, Repeat, attempt};
use crate::knowledge::{
    self, ContentRow, Fate, KnowledgeRow, KnownRow, Nearest, SizeRow, TagsRow, knowledge_columns,
};
use crate::value::{Id, Time};
use crate::{LIST_LIMIT, page};

const COUNT: &str = "SELECT count(*) FROM knowledge WHERE tenant = ?1";

const CREATE: &str = "
INSERT INTO knowledge (id, tenant, name, provider, model, settings, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT DO NOTHING
";

const NAMED: &str = concat!(
    "SELECT ",
    knowledge_columns!(),
    " FROM knowledge WHERE tenant = ?1 AND name = ?2"
);

const LIST: &str = concat!(
    "SELECT ",
    knowledge_columns!(),
    " FROM knowledge WHERE tenant = ?1 AND name > ?2 ORDER BY name LIMIT ?3"
);

const DELETE: &str = "DELETE FROM knowledge WHERE tenant = ?1 AND name = ?2 RETURNING id";

const EMPTY: &str = "DELETE FROM knowledge_chunks WHERE knowledge = ?1";

const SIZE: &str = "SELECT dimensions, chunks FROM knowledge WHERE tenant = ?1 AND id = ?2";

const SAME_HASH: &str = "SELECT id, hash FROM knowledge_chunks WHERE knowledge = ?1 AND hash IN (SELECT value FROM json_each(?2))";

const KNOWN: &str = "
SELECT id, hash FROM knowledge_chunks WHERE knowledge = ?1 AND id IN (SELECT value FROM json_each(?2))
UNION
SELECT id, hash FROM knowledge_chunks WHERE knowledge = ?1 AND hash IN (SELECT value FROM json_each(?3))
";

const GROW: &str = "
UPDATE knowledge SET dimensions = ?2, chunks = chunks + ?3, words = words + ?4, characters = characters + ?5
WHERE id = ?1
";

const FENCE: &str = "SELECT tenant FROM runs WHERE id = ?1 AND epoch = ?2 AND state = 'running'";

const TAGS: &str = "SELECT seq, tags FROM knowledge_chunks WHERE knowledge = ?1 AND tags IS NOT NULL";

const SCAN: &str = "SELECT seq, embedding FROM knowledge_chunks WHERE knowledge = ?1 AND (?2 IS NULL OR seq IN (SELECT value FROM json_each(?2)))";

const CONTENT: &str =
    "SELECT seq, content, metadata FROM knowledge_chunks WHERE seq IN (SELECT value FROM json_each(?1))";

impl Sqlite {
    async fn create_knowledge_once(
        &self,
        tenant: &Tenant,
        new: &NewKnowledge,
    ) -> Result<Option<Knowledge>, Error> {
        let settings = knowledge::settings(new)?;
        let mut tx = self.begin().await?;
        let made = sqlx::query(CREATE)
            .bind(Id(new.id))
            .bind(tenant.as_str())
            .bind(new.name.as_str())
            .bind(&new.provider)
            .bind(&new.model)
            .bind(settings)
            .bind(Time::now())
            .execute(&mut *tx)
            .await?;
        let count: i64 = sqlx::query_scalar(COUNT)
            .bind(tenant.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if made.rows_affected() > 0 && count > i64::from(BASES) {
            return Err(knowledge::too_many_bases());
        }
        let row: Option<KnowledgeRow> = sqlx::query_as(NAMED)
            .bind(tenant.as_str())
            .bind(new.name.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        let found = row.map(KnowledgeRow::knowledge).transpose()?;
        Ok(found.filter(|found| found.id == new.id))
    }

    async fn delete_knowledge_once(&self, tenant: &Tenant, name: &KnowledgeName) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let id: Option<Id> = sqlx::query_scalar(DELETE)
            .bind(tenant.as_str())
            .bind(name.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(id) = id {
            sqlx::query(EMPTY).bind(id).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(id.is_some())
    }

    async fn unknown_once(
        &self,
        tenant: &Tenant,
        knowledge: Uuid,
        chunks: &[(Uuid, String)],
    ) -> Result<Vec<bool>, Error> {
        if self.size(tenant, knowledge).await?.is_none() {
            return Ok(vec![true; chunks.len()]);
        }
        let hashes: Vec<&str> = chunks.iter().map(|(_, hash)| hash.as_str()).collect();
        let known: Vec<KnownRow> = sqlx::query_as(SAME_HASH)
            .bind(Id(knowledge))
            .bind(serde_json::to_string(&hashes)?)
            .fetch_all(&self.readers)
            .await?;
        Ok(knowledge::unknown(chunks, &known))
    }

    async fn size(&self, tenant: &Tenant, knowledge: Uuid) -> Result<Option<SizeRow>, Error> {
        let row = sqlx::query_as(SIZE)
            .bind(tenant.as_str())
            .bind(Id(knowledge))
            .fetch_optional(&self.readers);
        Ok(row.await?)
    }

    async fn ingest_once(&self, ingest: &Ingest) -> Result<Ingested, Error> {
        let dimensions = knowledge::checked(ingest)?;
        let mut tx = self.begin().await?;
        let tenant: Option<String> = sqlx::query_scalar(FENCE)
            .bind(Id::from(ingest.lease.run))
            .bind(long(ingest.lease.epoch))
            .fetch_optional(&mut *tx)
            .await?;
        let Some(tenant) = tenant else {
            return Ok(Ingested::Stale);
        };
        let size: Option<SizeRow> = sqlx::query_as(SIZE)
            .bind(tenant)
            .bind(Id(ingest.knowledge))
            .fetch_optional(&mut *tx)
            .await?;
        let Some(size) = size else {
            return Ok(Ingested::Gone);
        };
        if ingest.chunks.is_empty() {
            return Ok(Ingested::Kept(Vec::new()));
        }
        let ids: Vec<Uuid> = ingest.chunks.iter().map(|chunk| chunk.id).collect();
        let hashes: Vec<&str> = ingest.chunks.iter().map(|chunk| chunk.hash.as_str()).collect();
        let known: Vec<KnownRow> = sqlx::query_as(KNOWN)
            .bind(Id(ingest.knowledge))
            .bind(serde_json::to_string(&ids)?)
            .bind(serde_json::to_string(&hashes)?)
            .fetch_all(&mut *tx)
            .await?;
        let fates = knowledge::fates(&ingest.chunks, ingest.unique, &known);
        let written = knowledge::written(&ingest.chunks, &fates);
        if let Some(unfit) = knowledge::unfit(&size, dimensions, written.len()) {
            return Ok(unfit);
        }
        if !written.is_empty() {
            let mut sql = knowledge::insert::<sqlx::Sqlite, _>(ingest.knowledge, &written, bytes)?;
            sql.build().persistent(false).execute(&mut *tx).await?;
            let (words, characters) = knowledge::counted(&written);
            sqlx::query(GROW)
                .bind(Id(ingest.knowledge))
                .bind(crate::batch::int(dimensions))
                .bind(long(written.len()))
                .bind(words)
                .bind(characters)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(Ingested::Kept(
            fates.iter().map(|fate| *fate != Fate::Duplicate).collect(),
        ))
    }

    async fn search_once(&self, tenant: &Tenant, search: &Search) -> Result<Vec<Found>, Error> {
        let size = self.size(tenant, search.knowledge).await?;
        let size = size.ok_or_else(|| Error::Refused(knowledge::GONE.to_owned()))?;
        if !knowledge::searchable(&size, search)? {
            return Ok(Vec::new());
        }
        let only = match search.tags.is_empty() {
            true => None,
            false => Some(serde_json::to_string(
                &self.tagged(search.knowledge, &search.tags).await?,
            )?),
        };
        let mut nearest = Nearest::to(search);
        knowledge::scannable(&size, "keep it in PostgreSQL with pgvector")?;
        let mut rows = sqlx::query(SCAN)
            .bind(Id(search.knowledge))
            .bind(only)
            .fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            nearest.see(row.try_get(0)?, numbers(row.try_get(1)?))?;
        }
        drop(rows);
        let rows: Vec<ContentRow> = sqlx::query_as(CONTENT)
            .bind(serde_json::to_string(&nearest.seqs())?)
            .fetch_all(&self.readers)
            .await?;
        nearest.found(rows)
    }

    async fn tagged(&self, knowledge: Uuid, wanted: &Tags) -> Result<Vec<i64>, Error> {
        let mut rows = sqlx::query_as(TAGS).bind(Id(knowledge)).fetch(&self.readers);
        let mut seqs = Vec::new();
        while let Some(TagsRow { seq, tags }) = rows.try_next().await? {
            if knowledge::has_tags(&tags, wanted)? {
                seqs.push(seq);
            }
        }
        Ok(seqs)
    }
}

/// A vector as it is kept.
fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

#[async_trait]
impl KnowledgeStore for Sqlite {
    async fn create_knowledge(&self, tenant: &Tenant, new: &NewKnowledge) -> PortResult<Option<Knowledge>> {
        attempt("create_knowledge", Repeat::Idempotent, || {
            self.create_knowledge_once(tenant, new)
        })
        .await
    }

    async fn knowledge(&self, tenant: &Tenant, name: &KnowledgeName) -> PortResult<Option<Knowledge>> {
        attempt("knowledge", Repeat::Idempotent, || async {
            let row: Option<KnowledgeRow> = sqlx::query_as(NAMED)
                .bind(tenant.as_str())
                .bind(name.as_str())
                .fetch_optional(&self.readers)
                .await?;
            row.map(KnowledgeRow::knowledge).transpose()
        })
        .await
    }

    async fn knowledge_list(
        &self,
        tenant: &Tenant,
        after: Option<&KnowledgeName>,
        limit: u32,
    ) -> PortResult<Page<Knowledge>> {
        attempt("knowledge_list", Repeat::Idempotent, || async {
            let limit = limit.min(LIST_LIMIT);
            let rows: Vec<KnowledgeRow> = sqlx::query_as(LIST)
                .bind(tenant.as_str())
                .bind(after.map_or("", |name| name.as_str()))
                .bind(i64::from(limit) + 1)
                .fetch_all(&self.readers)
                .await?;
            page(rows, limit, KnowledgeRow::knowledge)
        })
        .await
    }

    async fn delete_knowledge(&self, tenant: &Tenant, name: &KnowledgeName) -> PortResult<bool> {
        attempt("delete_knowledge", Repeat::Idempotent, || {
            self.delete_knowledge_once(tenant, name)
        })
        .await
    }

    async fn unknown_chunks(
        &self,
        tenant: &Tenant,
        knowledge: Uuid,
        chunks: &[(Uuid, String)],
    ) -> PortResult<Vec<bool>> {
        attempt("unknown_chunks", Repeat::Idempotent, || {
            self.unknown_once(tenant, knowledge, chunks)
        })
        .await
    }

    async fn ingest(&self, ingest: &Ingest) -> PortResult<Ingested> {
        attempt("ingest", Repeat::Idempotent, || self.ingest_once(ingest)).await
    }

    async fn search(&self, tenant: &Tenant, search: &Search) -> PortResult<Vec<Found>> {
        attempt("search", Repeat::Idempotent, || self.search_once(tenant, search)).await
    }

    async fn searches_by(&self) -> PortResult<SearchBy> {
        Ok(SearchBy::Scan)
    }
}
