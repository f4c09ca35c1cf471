//! Whether the backends answer. The store is needed; without queue, bus or blob store the dispatcher still takes runs
//! (messages wait in the outbox), only worse.

use std::time::Duration;

use flowfleet_core::PortError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Deps;

const INTERVAL: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks every few seconds until `stop`.
pub(crate) async fn watch(deps: Deps, stop: CancellationToken) {
    loop {
        let (store, queue, bus, blob) = tokio::join!(
            said(deps.store.ping()),
            said(deps.queue.ping(PATIENCE)),
            said(deps.bus.ping()),
            said(deps.blob.ping()),
        );
        deps.readiness.set("store", store);
        deps.readiness.set_optional("queue", queue);
        deps.readiness.set_optional("bus", bus);
        deps.readiness.set_optional("blob", blob);
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn said(ping: impl Future<Output = Result<(), PortError>>) -> Result<(), String> {
    match timeout(PATIENCE + Duration::from_secs(1), ping).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}
