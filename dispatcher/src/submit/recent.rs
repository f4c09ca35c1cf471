//! Idempotency keys that this dispatcher saw lately, so that a batch with a key that was used for another request is
//! refused before anything of it is stored.
//!
//! Best effort: the store decides, run by run, and knows keys that are older or went through another dispatcher.

use std::time::Duration;

use flowfleet_core::Tenant;
use flowfleet_core::run::{Idempotency, NewRun};
use moka::future::Cache;

const KEYS: u64 = 200_000;
const LATELY: Duration = Duration::from_secs(3_600);

/// Keys and the digests of their requests.
#[derive(Debug)]
pub(crate) struct RecentKeys(Cache<(Tenant, String), String>);

impl Default for RecentKeys {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(KEYS).time_to_live(LATELY).build())
    }
}

impl RecentKeys {
    /// Notes that the store took a run under its key.
    pub(crate) async fn note(&self, run: &NewRun) {
        if let Some(Idempotency { key, digest }) = &run.idempotency {
            self.0
                .insert((run.tenant.clone(), key.clone()), digest.clone())
                .await;
        }
    }

    /// Whether the key of a run is known to belong to another request.
    pub(crate) async fn conflicts(&self, tenant: &Tenant, wanted: Option<&Idempotency>) -> bool {
        let Some(Idempotency { key, digest }) = wanted else {
            return false;
        };
        self.0
            .get(&(tenant.clone(), key.clone()))
            .await
            .is_some_and(|known| known != *digest)
    }
}
