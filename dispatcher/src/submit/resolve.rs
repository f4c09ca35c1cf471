//! Which version a run means, and its compiled plan. Both are cached: what a name means for at most a second (and
//! never across a change made here), plans by digest for as long as they fit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use flowfleet_core::flow::FlowRef;
use flowfleet_core::port::Store;
use flowfleet_core::{FlowId, FlowName, FlowVersion, PortError, Tenant};
use flowfleet_engine::{CompileLimits, FlowError, Plan, compile};
use moka::future::Cache;
use tokio::sync::Semaphore;

use crate::api::problem::{Code, ErrorItem, Problem};

/// How stale the newest version may be when another dispatcher changed it.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Bytes of documents whose plans are kept.
const PLAN_BYTES: u64 = 256 << 20;
/// Documents compiled at once: each may be 16 MiB and take a while.
const COMPILERS: usize = 2;

/// A flow that a run may be submitted to.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub id: FlowId,
    pub version: FlowVersion,
    pub plan: Arc<Plan>,
}

/// What a name means, and its plan once somebody needed it.
#[derive(Debug)]
struct Known {
    id: FlowId,
    version: FlowVersion,
    resolved: OnceLock<Arc<Resolved>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    generation: u64,
    tenant: Tenant,
    name: FlowName,
    version: Option<u32>,
}

#[derive(Debug)]
enum Miss {
    NoSuchFlow,
    Port(PortError),
}

/// Resolves flows and compiles documents.
#[derive(Debug)]
pub(crate) struct Flows {
    store: Arc<dyn Store>,
    limits: CompileLimits,
    /// Grows with every change made here, so that a look-up that began before it is not found after it.
    generation: AtomicU64,
    known: Cache<Key, Arc<Known>>,
    /// Names by id, under the generation in which they were looked up.
    names: Cache<(u64, Tenant, FlowId), FlowName>,
    plans: Cache<String, (Arc<Plan>, u32)>,
    compilers: Semaphore,
}

impl Flows {
    pub(crate) fn new(store: Arc<dyn Store>, limits: CompileLimits) -> Self {
        let weigh = |digest: &String, (_, size): &(Arc<Plan>, u32)| size.saturating_add(digest.len() as u32);
        Self {
            store,
            limits,
            generation: AtomicU64::new(0),
            known: Cache::builder()
                .max_capacity(10_000)
                .time_to_live(FRESH_FOR)
                .build(),
            names: Cache::builder()
                .max_capacity(10_000)
                .time_to_live(FRESH_FOR)
                .build(),
            plans: Cache::builder().max_capacity(PLAN_BYTES).weigher(weigh).build(),
            compilers: Semaphore::new(COMPILERS),
        }
    }

    /// A flow was stored or deleted here: what names mean is looked up anew.
    pub(crate) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// The flow a run means, ready to check requests. Problems point to `/flow`.
    pub(crate) async fn resolve(&self, tenant: &Tenant, flow: &FlowRef) -> Result<Arc<Resolved>, Problem> {
        let key = Key {
            generation: self.generation.load(Ordering::SeqCst),
            tenant: tenant.clone(),
            name: flow.name.clone(),
            version: flow.version,
        };
        let look = async {
            let record = self
                .store
                .flow(tenant, &flow.name, flow.version)
                .await
                .map_err(Miss::Port)?;
            let record = record.ok_or(Miss::NoSuchFlow)?;
            Ok(Arc::new(Known {
                id: record.id,
                version: record.flow,
                resolved: OnceLock::new(),
            }))
        };
        let known = match self.known.try_get_with(key, look).await {
            Ok(known) => known,
            Err(miss) => {
                return Err(match &*miss {
                    Miss::Port(error) => error.into(),
                    Miss::NoSuchFlow => {
                        let detail = format!(
                            "there is no flow {flow}: upload it with PUT /v1/flows/{}",
                            flow.name
                        );
                        Problem::of(Code::FlowNotFound, vec![ErrorItem::new("/flow", detail)])
                    }
                });
            }
        };
        if let Some(resolved) = known.resolved.get() {
            return Ok(Arc::clone(resolved));
        }
        let version = known.version.clone();
        let plan = self.plan(tenant, &version).await?;
        let resolved = Arc::new(Resolved {
            id: known.id,
            version,
            plan,
        });
        Ok(Arc::clone(known.resolved.get_or_init(|| resolved)))
    }

    /// The flow that `text` means to Langflow's clients: the one with this id, else the one with this name.
    pub(crate) async fn find(&self, tenant: &Tenant, text: &str) -> Result<FlowName, Problem> {
        if let Ok(id) = text.parse::<FlowId>() {
            let key = (self.generation.load(Ordering::SeqCst), tenant.clone(), id);
            if let Some(name) = self.names.get(&key).await {
                return Ok(name);
            }
            if let Some(record) = self.store.flow_by_id(tenant, id).await? {
                self.names.insert(key, record.flow.name.clone()).await;
                return Ok(record.flow.name);
            }
        }
        text.parse().map_err(|_| no_such_flow(text))
    }

    /// The newest version of a flow for Langflow's clients, to whom a missing one is a 404.
    pub(crate) async fn named(&self, tenant: &Tenant, name: &FlowName) -> Result<Arc<Resolved>, Problem> {
        let flow = FlowRef {
            name: name.clone(),
            version: None,
        };
        let found = self.resolve(tenant, &flow).await;
        found.map_err(|problem| match problem.code == Code::FlowNotFound.as_str() {
            true => no_such_flow(name.as_str()),
            false => problem,
        })
    }

    /// The plan of a stored version. Requests that ask at once share one look-up and one compilation: after a start
    /// they all ask, and each would hold the whole document.
    pub(crate) async fn plan(&self, tenant: &Tenant, version: &FlowVersion) -> Result<Arc<Plan>, Problem> {
        let load = async {
            let Some(document) = self.store.flow_document(tenant, version).await? else {
                tracing::error!(flow = %version.name, version = version.version, "the document of a flow is missing");
                return Err(Problem::internal());
            };
            let size = u32::try_from(document.len()).unwrap_or(u32::MAX);
            match self.compiled(&version.digest, document).await? {
                Ok(plan) => Ok((plan, size)),
                Err(error) => {
                    let detail = format!("the stored flow can no longer be planned: {error}");
                    Err(Problem::of(
                        Code::FlowInvalid,
                        vec![ErrorItem::new("/flow", detail)],
                    ))
                }
            }
        };
        let found = self.plans.try_get_with_by_ref(&version.digest, load).await;
        found
            .map(|(plan, _)| plan)
            .map_err(|problem: Arc<Problem>| (*problem).clone())
    }

    /// Compiles a document away from the runtime's threads.
    pub(crate) async fn compile(
        &self,
        digest: &str,
        document: Bytes,
    ) -> Result<Result<Arc<Plan>, FlowError>, Problem> {
        if let Some((plan, _)) = self.plans.get(digest).await {
            return Ok(Ok(plan));
        }
        let size = u32::try_from(document.len()).unwrap_or(u32::MAX);
        let compiled = self.compiled(digest, document).await?;
        if let Ok(plan) = &compiled {
            self.plans.insert(digest.to_owned(), (plan.clone(), size)).await;
        }
        Ok(compiled)
    }

    async fn compiled(&self, digest: &str, document: Bytes) -> Result<Result<Arc<Plan>, FlowError>, Problem> {
        let Ok(_turn) = self.compilers.acquire().await else {
            return Err(Problem::internal());
        };
        let limits = self.limits.clone();
        let compiled = tokio::task::spawn_blocking(move || compile(&document, &limits)).await;
        match compiled {
            Ok(Ok(plan)) => Ok(Ok(Arc::new(plan))),
            Ok(Err(error)) => Ok(Err(error)),
            Err(panic) => {
                tracing::error!(error = %panic, digest, "compiling a flow panicked");
                Err(Problem::internal())
            }
        }
    }
}

/// What Langflow's clients are told of a flow that is not there.
pub(crate) fn no_such_flow(text: &str) -> Problem {
    let text: String = text.chars().take(FlowName::MAX).collect();
    Problem::not_found(format!("there is no flow with the id or the name {text}"))
}
