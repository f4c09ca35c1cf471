//! Knowledge. Where pgvector is there it orders chunks by distance; else their vectors are read.

use async_trait::async_trait;
use flowfleet_core::knowledge::{
    BASES, Found, Ingest, Ingested, Knowledge, NewKnowledge, Search, SearchBy, Tags,
};
use flowfleet_core::port::{KnowledgeStore, Page, Result as PortResult};
use flowfleet_core::{KnowledgeName, Tenant};
use futures::TryStreamExt as _;
use sqlx::Row as _;
use uuid::Uuid;

use super::Postgres;
use crate::batch::long;
use crate::error::{Error, Repeat, attempt};
use crate::knowledge::{
    self, ContentRow, Fate, KnowledgeRow, KnownRow, MARGIN, Nearest, SizeRow, TagsRow, knowledge_columns,
};
use crate::value::Id;
use crate::{LIST_LIMIT, page};

/// Held while a base is made, so that no two count them at the same time.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('flowfleet knowledge ' || $1, 0))";

const COUNT: &str = "SELECT count(*) FROM knowledge WHERE tenant = $1";

const CREATE: &str = "
INSERT INTO knowledge (id, tenant, name, provider, model, settings, created_at)
VALUES ($1, $2, $3, $4, $5, $6, now())
ON CONFLICT DO NOTHING
";

const NAMED: &str = concat!(
    "SELECT ",
    knowledge_columns!(),
    " FROM knowledge WHERE tenant = $1 AND name COLLATE \"C\" = $2"
);

const LIST: &str = concat!(
    "SELECT ",
    knowledge_columns!(),
    " FROM knowledge WHERE tenant = $1 AND name COLLATE \"C\" > $2 ORDER BY name COLLATE \"C\" LIMIT $3"
);

const DELETE: &str = "DELETE FROM knowledge WHERE tenant = $1 AND name COLLATE \"C\" = $2 RETURNING id";

const EMPTY: &str = "DELETE FROM knowledge_chunks WHERE knowledge = $1";

const SIZE: &str = "SELECT dimensions, chunks FROM knowledge WHERE tenant = $1 AND id = $2";

/// Writers of one base take turns.
const SIZE_TO_WRITE: &str =
    "SELECT dimensions, chunks FROM knowledge WHERE tenant = $1 AND id = $2 FOR NO KEY UPDATE";

const SAME_HASH: &str =
    "SELECT c.id, c.hash FROM knowledge_chunks c WHERE c.knowledge = $1 AND c.hash = ANY($2)";

const KNOWN: &str = "
SELECT id, hash FROM knowledge_chunks WHERE knowledge = $1 AND id = ANY($2)
UNION
SELECT id, hash FROM knowledge_chunks WHERE knowledge = $1 AND hash = ANY($3)
";

const GROW: &str = "
UPDATE knowledge SET dimensions = $2, chunks = chunks + $3, words = words + $4, characters = characters + $5
WHERE id = $1
";

const FENCE: &str = "SELECT tenant FROM runs WHERE id = $1 AND epoch = $2 AND state = 'running'";

const TAGS: &str = "SELECT seq, tags FROM knowledge_chunks WHERE knowledge = $1 AND tags IS NOT NULL";

const SCAN: &str = "SELECT seq, embedding FROM knowledge_chunks WHERE knowledge = $1 AND ($2::bigint[] IS NULL OR seq = ANY($2))";

const CONTENT: &str = "SELECT seq, content, metadata FROM knowledge_chunks WHERE seq = ANY($1)";

/// Where the extension's names are, if it is there.
const EXTENSION: &str = "
SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
";

impl Postgres {
    async fn create_knowledge_once(
        &self,
        tenant: &Tenant,
        new: &NewKnowledge,
    ) -> Result<Option<Knowledge>, Error> {
        let settings = knowledge::settings(new)?;
        let mut tx = self.begin().await?;
        sqlx::query(LOCK).bind(tenant.as_str()).execute(&mut *tx).await?;
        let made = sqlx::query(CREATE)
            .bind(Id(new.id))
            .bind(tenant.as_str())
            .bind(new.name.as_str())
            .bind(&new.provider)
            .bind(&new.model)
            .bind(settings)
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
            .bind(hashes)
            .fetch_all(&self.pool)
            .await?;
        Ok(knowledge::unknown(chunks, &known))
    }

    async fn size(&self, tenant: &Tenant, knowledge: Uuid) -> Result<Option<SizeRow>, Error> {
        let row = sqlx::query_as(SIZE)
            .bind(tenant.as_str())
            .bind(Id(knowledge))
            .fetch_optional(&self.pool);
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
        let size: Option<SizeRow> = sqlx::query_as(SIZE_TO_WRITE)
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
            .bind(ids)
            .bind(hashes)
            .fetch_all(&mut *tx)
            .await?;
        let fates = knowledge::fates(&ingest.chunks, ingest.unique, &known);
        let written = knowledge::written(&ingest.chunks, &fates);
        if let Some(unfit) = knowledge::unfit(&size, dimensions, written.len()) {
            return Ok(unfit);
        }
        if !written.is_empty() {
            let mut sql =
                knowledge::insert::<sqlx::Postgres, _>(ingest.knowledge, &written, <[f32]>::to_vec)?;
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
            false => Some(self.tagged(search.knowledge, &search.tags).await?),
        };
        let mut nearest = Nearest::to(search);
        if let Some(schema) = self.extension().await? {
            let sql = by_extension(&schema, search.vector.len());
            let mut rows = sqlx::query(&sql)
                .bind(Id(search.knowledge))
                .bind(only)
                .bind(&search.vector)
                .bind(i64::from(search.limit.saturating_add(MARGIN)))
                .fetch(&self.pool);
            while let Some(row) = rows.try_next().await? {
                nearest.see(row.try_get(0)?, row.try_get(1)?)?;
            }
        } else {
            knowledge::scannable(&size, "let the database's administrator install pgvector")?;
            let mut rows = sqlx::query(SCAN)
                .bind(Id(search.knowledge))
                .bind(only)
                .fetch(&self.pool);
            while let Some(row) = rows.try_next().await? {
                nearest.see(row.try_get(0)?, row.try_get(1)?)?;
            }
        }
        let rows: Vec<ContentRow> = sqlx::query_as(CONTENT)
            .bind(nearest.seqs())
            .fetch_all(&self.pool)
            .await?;
        nearest.found(rows)
    }

    async fn tagged(&self, knowledge: Uuid, wanted: &Tags) -> Result<Vec<i64>, Error> {
        let mut rows = sqlx::query_as(TAGS).bind(Id(knowledge)).fetch(&self.pool);
        let mut seqs = Vec::new();
        while let Some(TagsRow { seq, tags }) = rows.try_next().await? {
            if knowledge::has_tags(&tags, wanted)? {
                seqs.push(seq);
            }
        }
        Ok(seqs)
    }

    async fn extension(&self) -> Result<Option<String>, Error> {
        Ok(sqlx::query_scalar(EXTENSION).fetch_optional(&self.pool).await?)
    }
}

/// The dimensions stand in it, so that an index of the administrator's on `(embedding::vector(N))` serves it.
fn by_extension(schema: &str, dimensions: usize) -> String {
    format!(
        "SELECT seq, embedding FROM knowledge_chunks
         WHERE knowledge = $1 AND ($2::bigint[] IS NULL OR seq = ANY($2))
         ORDER BY embedding::{schema}.vector({dimensions}) OPERATOR({schema}.<->) $3::real[]::{schema}.vector({dimensions})
         LIMIT $4"
    )
}

#[async_trait]
impl KnowledgeStore for Postgres {
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
                .fetch_optional(&self.pool)
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
                .fetch_all(&self.pool)
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
        attempt("searches_by", Repeat::Idempotent, || async {
            Ok(match self.extension().await? {
                Some(_) => SearchBy::Extension,
                None => SearchBy::Scan,
            })
        })
        .await
    }
}
