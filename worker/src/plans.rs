//! Compiled flows, kept by the digest of their document: a run of a flow seen before compiles nothing.

use std::sync::Arc;

use bytes::Bytes;
use flowfleet_core::error::PortError;
use flowfleet_core::flow::FlowVersion;
use flowfleet_core::name::Tenant;
use flowfleet_core::port::Store;
use flowfleet_engine::{CompileLimits, EngineKind, Plan, compile};
use flowfleet_runtime::payload::hex_sha256;
use moka::future::Cache;

/// Bytes of documents whose plans are kept.
const KEPT_BYTES: u64 = 128 << 20;

/// Plans of this worker.
#[derive(Debug)]
pub(crate) struct Plans {
    kept: Cache<String, Kept>,
}

/// A flow version, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) plan: Arc<Plan>,
    /// The export, of a flow that runs whole in Python.
    pub(crate) document: Option<Bytes>,
    bytes: u32,
}

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NoPlan {
    /// The store did not answer: it may later.
    #[error("{0}")]
    Away(Arc<PortError>),
    /// No attempt of this run will get one.
    #[error("{message}")]
    Never { code: &'static str, message: String },
}

impl Plans {
    pub(crate) fn new() -> Self {
        let kept = Cache::builder()
            .max_capacity(KEPT_BYTES)
            .weigher(|_, kept: &Kept| kept.bytes)
            .build();
        Self { kept }
    }

    /// The plan of a flow version. Runs that ask at once share one compilation; failures are not kept.
    pub(crate) async fn get(
        &self,
        store: &dyn Store,
        tenant: &Tenant,
        flow: &FlowVersion,
    ) -> Result<Kept, NoPlan> {
        let kept = self
            .kept
            .try_get_with_by_ref(&flow.digest, load(store, tenant, flow))
            .await;
        kept.map_err(|error| (*error).clone())
    }
}

async fn load(store: &dyn Store, tenant: &Tenant, flow: &FlowVersion) -> Result<Kept, NoPlan> {
    let named = format!("flow {}@{}", flow.name, flow.version);
    let never = |code, message| NoPlan::Never { code, message };
    let document = match store.flow_document(tenant, flow).await {
        Ok(Some(document)) => document,
        Ok(None) => return Err(never("flow_missing", format!("{named} is not in the store"))),
        Err(error) if error.is_retryable() => return Err(NoPlan::Away(Arc::new(error))),
        Err(error) => {
            return Err(never(
                "flow_unreadable",
                format!("{named} cannot be read: {error}"),
            ));
        }
    };
    let bytes = u32::try_from(document.len()).unwrap_or(u32::MAX);
    let digest = flow.digest.clone();
    // Hashing and compiling a large document takes long enough to hold up the heartbeat of a small machine.
    let compiled = tokio::task::spawn_blocking(move || {
        let found = hex_sha256(&document);
        if found != digest {
            return Err((
                "flow_digest",
                format!("has the digest {found}, but the run was made for {digest}"),
            ));
        }
        let plan = compile(&document, &CompileLimits::default());
        let plan = plan.map_err(|error| ("flow_invalid", error.to_string()))?;
        let document = (plan.engine() == EngineKind::Python).then_some(document);
        Ok((plan, document))
    });
    match compiled.await {
        Ok(Ok((plan, document))) => Ok(Kept {
            plan: Arc::new(plan),
            document,
            bytes,
        }),
        Ok(Err((code, problem))) => Err(never(code, format!("{named} cannot be run: {problem}"))),
        Err(panic) => Err(never(
            "internal",
            format!("{named} could not be compiled: {panic}"),
        )),
    }
}
