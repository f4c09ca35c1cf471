//! What a run's tenant knows: the engine's knowledge over the store, written under the run's lease.

use std::sync::Arc;

use flowfleet_core::knowledge::{self, Chunk, Ingest, Ingested, Search};
use flowfleet_core::port::Store;
use flowfleet_core::run::ClaimedRun;
use flowfleet_core::{Kind, KnowledgeName, Lease, PortError, Tenant};
use flowfleet_engine::{Bring, Knowledge, KnowledgeBase, KnowledgeError, Look, Seen};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use uuid::Uuid;

use crate::progress::until_there;

/// What the nodes of one attempt know.
#[derive(Debug)]
pub(crate) struct RunKnowledge {
    store: Arc<dyn Store>,
    tenant: Tenant,
    lease: Lease,
}

impl RunKnowledge {
    pub(crate) fn of(store: Arc<dyn Store>, run: &ClaimedRun) -> Arc<dyn Knowledge> {
        Arc::new(Self {
            store,
            tenant: run.tenant.clone(),
            lease: run.lease,
        })
    }

    async fn named(&self, name: &str) -> Result<Option<KnowledgeBase>, KnowledgeError> {
        // What cannot be a name is no base's.
        let Ok(name) = name.parse::<KnowledgeName>() else {
            return Ok(None);
        };
        let found = until_there("knowledge", || self.store.knowledge(&self.tenant, &name)).await;
        Ok(found.map_err(|error| failed(&error))?.map(|base| KnowledgeBase {
            id: base.id.to_string(),
            name: base.name.to_string(),
            provider: base.provider,
            model: base.model,
        }))
    }

    async fn fresh(
        &self,
        base: &KnowledgeBase,
        chunks: Vec<(String, String)>,
    ) -> Result<Vec<bool>, KnowledgeError> {
        let (base, mut asked) = (uuid(&base.id)?, Vec::with_capacity(chunks.len()));
        for (id, hash) in chunks {
            asked.push((uuid(&id)?, hash));
        }
        let fresh = until_there("unknown_chunks", || {
            self.store.unknown_chunks(&self.tenant, base, &asked)
        })
        .await;
        fresh.map_err(|error| failed(&error))
    }

    async fn keep(
        &self,
        base: &KnowledgeBase,
        brought: Vec<Bring>,
        unique: bool,
    ) -> Result<Vec<bool>, KnowledgeError> {
        let mut chunks = Vec::with_capacity(brought.len());
        for bring in brought {
            chunks.push(Chunk {
                id: uuid(&bring.id)?,
                hash: bring.hash,
                content: bring.content,
                metadata: Value::Object(bring.metadata),
                tags: bring.tags,
                vector: bring.vector,
            });
        }
        let ingest = Ingest {
            lease: self.lease,
            knowledge: uuid(&base.id)?,
            chunks,
            unique,
        };
        let kept = until_there("ingest", || self.store.ingest(&ingest)).await;
        let why = match kept.map_err(|error| failed(&error))? {
            Ingested::Kept(kept) => return Ok(kept),
            Ingested::Stale => "the run is held by another worker".to_owned(),
            Ingested::Gone => "it was deleted meanwhile".to_owned(),
            Ingested::Dimensions(dimensions) => format!(
                "it holds vectors of {dimensions} dimensions, and the model gave others: make another base for it"
            ),
            Ingested::Full => format!(
                "it would hold more than {} texts: delete it or make another",
                knowledge::CHUNKS
            ),
        };
        Err(permanent(why))
    }

    async fn found(&self, base: &KnowledgeBase, look: Look) -> Result<Vec<Seen>, KnowledgeError> {
        let search = Search {
            knowledge: uuid(&base.id)?,
            vector: look.vector,
            limit: look.limit,
            tags: look.tags,
        };
        let found = until_there("search", || self.store.search(&self.tenant, &search)).await;
        let seen = |found: knowledge::Found| Seen {
            content: found.content,
            metadata: match found.metadata {
                Value::Object(metadata) => metadata,
                _ => serde_json::Map::new(),
            },
            vector: found.vector,
            distance: found.distance,
        };
        Ok(found
            .map_err(|error| failed(&error))?
            .into_iter()
            .map(seen)
            .collect())
    }
}

impl Knowledge for RunKnowledge {
    fn base<'k>(&'k self, name: &'k str) -> BoxFuture<'k, Result<Option<KnowledgeBase>, KnowledgeError>> {
        self.named(name).boxed()
    }

    fn unknown<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        chunks: Vec<(String, String)>,
    ) -> BoxFuture<'k, Result<Vec<bool>, KnowledgeError>> {
        self.fresh(base, chunks).boxed()
    }

    fn bring<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        chunks: Vec<Bring>,
        unique: bool,
    ) -> BoxFuture<'k, Result<Vec<bool>, KnowledgeError>> {
        self.keep(base, chunks, unique).boxed()
    }

    fn look<'k>(
        &'k self,
        base: &'k KnowledgeBase,
        look: Look,
    ) -> BoxFuture<'k, Result<Vec<Seen>, KnowledgeError>> {
        self.found(base, look).boxed()
    }
}

fn uuid(id: &str) -> Result<Uuid, KnowledgeError> {
    id.parse().map_err(|_| permanent(format!("{id:?} is not a UUID")))
}

fn permanent(message: String) -> KnowledgeError {
    KnowledgeError {
        message,
        retryable: false,
    }
}

fn failed(error: &PortError) -> KnowledgeError {
    KnowledgeError {
        message: error.to_string(),
        retryable: error.kind == Kind::Retryable,
    }
}
