//! The end of a worker, in order: take nothing more, let short runs finish, hand back the rest, flush, say goodbye
//! (invariant I10). In the second half of its time runs come to rest at their next node boundary; those that have not by
//! its end are stopped within a node. A second request stops at once; what is not handed back then comes back when its lease runs out.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use flowfleet_runtime::Shutdown;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::Inner;
use crate::held::Stop;
use crate::metrics::DRAIN_SECONDS;

/// Handing back takes a write to the store; if that takes longer, the leases run out instead.
const HAND_BACK: Duration = Duration::from_secs(10);

/// Messages of handed back runs are published within this, or by the leader's sweep.
const FLUSH: Duration = Duration::from_secs(5);

/// What is left of all this after the second request.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Of the time that a notice leaves, this is kept to hand back in.
const BEFORE_THE_END: Duration = Duration::from_secs(20);

/// Waits for the request to end and carries it out. `intake` is the running intake.
pub(crate) async fn run(
    inner: &Inner,
    shutdown: &Shutdown,
    intake: &mut JoinSet<JoinSet<()>>,
) -> anyhow::Result<()> {
    // The intake ends only when asked to, so ending earlier means that it broke.
    let broken = tokio::select! {
        () = shutdown.draining.cancelled() => None,
        ended = intake.join_next() => ended,
    };
    if let Some(ended) = broken {
        let mut runs = ended.context("the intake broke")?;
        if !inner.draining.is_cancelled() {
            runs.abort_all();
            anyhow::bail!("the intake ended early");
        }
        return finish(inner, shutdown, Some(&mut runs)).await;
    }
    inner.deps.readiness.set("consuming", Err("draining".to_owned()));
    inner.changed.notify_one();
    // At most one claim is still under way; its runs are in nobody's hands if it is not awaited.
    let ended = tokio::select! {
        ended = intake.join_next() => ended,
        () = stopped(shutdown) => {
            inner.held.stop_all(Stop::Interrupted);
            None
        }
    };
    let mut runs = ended.transpose().context("the intake broke")?;
    finish(inner, shutdown, runs.as_mut()).await
}

async fn finish(inner: &Inner, shutdown: &Shutdown, runs: Option<&mut JoinSet<()>>) -> anyhow::Result<()> {
    let began = Instant::now();
    inner.deps.readiness.set("consuming", Err("draining".to_owned()));
    let result = match runs {
        Some(runs) => {
            tracing::info!(
                busy = runs.len(),
                drain_s = patience(inner).0.as_secs_f64(),
                "draining"
            );
            empty(inner, shutdown, runs).await
        }
        None => "forced",
    };
    let patience = if shutdown.stop.is_cancelled() {
        AT_ONCE
    } else {
        FLUSH
    };
    let flushed = async { tokio::join!(inner.relay.idle(), inner.live.idle()) };
    if tokio::time::timeout(patience, flushed).await.is_err() {
        tracing::warn!("some messages are not published: the dispatcher's sweep will find them");
    }
    metrics::histogram!(DRAIN_SECONDS, "result" => result).record(began.elapsed());
    tracing::info!(result, took_s = began.elapsed().as_secs_f64(), "worker ended");
    Ok(())
}

/// How long runs may go on, and why they are given back then.
fn patience(inner: &Inner) -> (Duration, Stop) {
    let Some(goes) = inner.interruption() else {
        return (inner.config.drain(), Stop::Interrupted);
    };
    let left = goes.and_then(|at| Duration::try_from(at.duration_since(Timestamp::now())).ok());
    let longest = inner.config.place.notice();
    let left = left.map_or(longest, |left| longest.min(left.saturating_sub(BEFORE_THE_END)));
    (left, Stop::Noticed)
}

/// Gets rid of all runs; says how.
async fn empty(inner: &Inner, shutdown: &Shutdown, runs: &mut JoinSet<()>) -> &'static str {
    let (patience, why) = patience(inner);
    let rested = inner.steering.rested_runs();
    let mut done = ended(runs, patience / 2, &shutdown.stop).await;
    if !done {
        inner.steering.hold(why);
        done = ended(runs, patience / 2, &shutdown.stop).await;
    }
    if done {
        let all_finished = inner.steering.rested_runs() == rested;
        return if all_finished { "finished" } else { "handed_back" };
    }
    let left = runs.len();
    tracing::info!(runs = left, "handing back what has not finished");
    inner.held.stop_all(why);
    let handed_back = tokio::select! {
        handed_back = all(runs) => handed_back,
        () = tokio::time::sleep(HAND_BACK) => false,
        () = stopped(shutdown) => false,
    };
    if handed_back {
        return "handed_back";
    }
    tracing::warn!(
        runs = runs.len(),
        "not handed back in time: their leases will run out"
    );
    runs.abort_all();
    "forced"
}

/// Waits for all runs for `patience`, or until told to stop; whether all ended.
async fn ended(
    runs: &mut JoinSet<()>,
    patience: Duration,
    stop: &tokio_util::sync::CancellationToken,
) -> bool {
    tokio::select! {
        biased;
        done = all(runs) => done,
        () = stop.cancelled() => false,
        () = tokio::time::sleep(patience) => false,
    }
}

async fn all(runs: &mut JoinSet<()>) -> bool {
    while let Some(ended) = runs.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "an execution broke off; its lease will run out");
        }
    }
    true
}

/// A second after the second request.
async fn stopped(shutdown: &Shutdown) {
    shutdown.stop.cancelled().await;
    tokio::time::sleep(AT_ONCE).await;
}
