//! The HTTP server: a bounded number of connections, a bound on how slowly a request's head may come, and an end that
//! lets requests in flight finish.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use flowfleet_runtime::Shutdown;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a connection may take to send the head of its next request.
const HEAD: Duration = Duration::from_secs(60);

/// After a failed accept (out of file descriptors, say).
const BREATHER: Duration = Duration::from_millis(100);

/// Serves until draining, then up to `drain` longer for requests in flight.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections: usize,
    shutdown: &Shutdown,
    drain: Duration,
) {
    let places = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
    let open = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = shutdown.draining.cancelled() => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATHER).await;
                continue;
            }
        };
        // Small answers and events go out at once. A failure here means that the peer has gone already.
        let _ = stream.set_nodelay(true);
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let service = TowerToHyperService::new(router.clone());
        let connection = open.watch(builder.serve_connection(TokioIo::new(stream), service));
        let stop = shutdown.stop.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    tracing::info!(connections = open.count(), "finishing requests in flight");
    tokio::select! {
        ended = timeout(drain, open.shutdown()) => if ended.is_err() {
            tracing::warn!("requests were still in flight at the end of drain_s");
            shutdown.stop.cancel();
        },
        () = shutdown.stop.cancelled() => {}
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}
