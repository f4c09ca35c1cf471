//! Watches for what EC2 says is to become of the instance: a spot interruption two minutes ahead, a recommendation to
//! rebalance, and termination by its Auto Scaling group.

use std::sync::Arc;
use std::time::Duration;

use flowfleet_core::port::{Notice, NoticeKind};
use flowfleet_runtime::Shutdown;
use flowfleet_runtime::backoff::Backoff;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::imds::{Imds, Trouble};
use super::settings::Rebalance;
use crate::Inner;
use crate::metrics::SPOT_NOTICES_TOTAL;

/// Between two looks at a service that is away or asks for less, at most. A notice comes two minutes ahead.
const SLOWEST: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize)]
struct Action {
    action: String,
    time: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Recommendation {
    #[serde(rename = "noticeTime")]
    notice_time: Option<Timestamp>,
}

/// Looks until the worker ends. Without an instance there is nothing to look at.
pub(crate) async fn run(inner: Arc<Inner>, shutdown: Shutdown, ending: CancellationToken) {
    if let Some(imds) = &inner.imds {
        let _: Option<()> = ending.run_until_cancelled(watch(&inner, imds, &shutdown)).await;
    }
    ending.cancelled().await;
}

async fn watch(inner: &Inner, imds: &Imds, shutdown: &Shutdown) {
    let mut ticks = tokio::time::interval(inner.config.place.poll());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = || Backoff::new(inner.config.place.poll(), SLOWEST);
    let mut backoff = patience();
    loop {
        ticks.tick().await;
        match look(inner, imds, shutdown).await {
            Ok(()) => backoff = patience(),
            Err(error) => {
                tracing::warn!(%error, "notices are not seen");
                backoff.wait().await;
                ticks.reset();
            }
        }
    }
}

async fn look(inner: &Inner, imds: &Imds, shutdown: &Shutdown) -> Result<(), Trouble> {
    if let Some(action) = imds.json::<Action>("meta-data/spot/instance-action").await?
        && inner.noticed(NoticeKind::Interruption, action.time)
    {
        metrics::counter!(SPOT_NOTICES_TOTAL, "kind" => NoticeKind::Interruption.as_str()).increment(1);
        tracing::warn!(action = action.action, at = ?action.time, "the instance is to be interrupted: draining");
        shutdown.drain();
    }
    if let Some(said) = imds
        .json::<Recommendation>("meta-data/events/recommendations/rebalance")
        .await?
        && inner.noticed(NoticeKind::Rebalance, said.notice_time)
    {
        metrics::counter!(SPOT_NOTICES_TOTAL, "kind" => NoticeKind::Rebalance.as_str()).increment(1);
        let drains = inner.config.place.rebalance == Rebalance::Drain;
        tracing::warn!(
            drains,
            "the instance is likelier than others to be interrupted soon"
        );
        if drains {
            shutdown.drain();
        }
    }
    let state = imds.text("meta-data/autoscaling/target-lifecycle-state").await?;
    if state.as_deref() == Some("Terminated") && !inner.draining.is_cancelled() {
        tracing::warn!("the Auto Scaling group terminates the instance: draining");
        shutdown.drain();
    }
    Ok(())
}

impl Inner {
    /// Takes note of a notice; whether it is new. An interruption is not forgotten for anything less.
    fn noticed(&self, kind: NoticeKind, at: Option<Timestamp>) -> bool {
        let mut known = self.lock_place();
        let older = known.notice.as_ref().map(|notice| notice.kind);
        let new = older != Some(kind) && older != Some(NoticeKind::Interruption);
        if new {
            known.notice = Some(Notice { kind, at });
            drop(known);
            self.changed.notify_one();
        }
        new
    }

    /// When the machine goes, if that was said: `Some(None)` if it was not said when.
    pub(crate) fn interruption(&self) -> Option<Option<Timestamp>> {
        let place = self.lock_place();
        let notice = place.notice.as_ref();
        let goes = notice.filter(|notice| notice.kind == NoticeKind::Interruption);
        goes.map(|notice| notice.at)
    }
}
