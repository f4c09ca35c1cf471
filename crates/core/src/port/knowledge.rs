//! What flows know: the vector store.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Page, Result};
use crate::knowledge::{Found, Ingest, Ingested, Knowledge, NewKnowledge, Search, SearchBy};
use crate::name::{KnowledgeName, Tenant};

/// Bases of knowledge and the chunks in them. Both belong to a tenant and outlive the runs that brought them.
#[async_trait]
pub trait KnowledgeStore: Send + Sync + std::fmt::Debug {
    /// Makes an empty base, or answers `None`: the name is taken, by another id. Idempotent by id.
    async fn create_knowledge(&self, tenant: &Tenant, new: &NewKnowledge) -> Result<Option<Knowledge>>;

    /// The base of this name.
    async fn knowledge(&self, tenant: &Tenant, name: &KnowledgeName) -> Result<Option<Knowledge>>;

    /// Bases by name, after this one.
    async fn knowledge_list(
        &self,
        tenant: &Tenant,
        after: Option<&KnowledgeName>,
        limit: u32,
    ) -> Result<Page<Knowledge>>;

    /// Deletes a base with all that lies in it; false when there is none. Idempotent.
    async fn delete_knowledge(&self, tenant: &Tenant, name: &KnowledgeName) -> Result<bool>;

    /// Of chunks by id and hash, which have a hash that no other chunk of the base has: before their vectors are
    /// paid for. At most [`crate::knowledge::BATCH`].
    async fn unknown_chunks(
        &self,
        tenant: &Tenant,
        knowledge: Uuid,
        chunks: &[(Uuid, String)],
    ) -> Result<Vec<bool>>;

    /// Keeps chunks, all in one transaction, if the run is held under its lease. Idempotent by the chunks' ids. At
    /// most [`crate::knowledge::BATCH`].
    async fn ingest(&self, ingest: &Ingest) -> Result<Ingested>;

    /// The nearest chunks, nearest first; of those at the same distance the older one first. At most
    /// [`crate::knowledge::FOUND`]. A vector of another length than the base's is refused.
    async fn search(&self, tenant: &Tenant, search: &Search) -> Result<Vec<Found>>;

    /// How a search is answered now.
    async fn searches_by(&self) -> Result<SearchBy>;
}
