//! The floor's process that executes: consume, claim, acknowledge, render, finish.
//!
//! Each lane has a consumer and two connections to the store, so that it claims the next batch while the last one is
//! being finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use axum::routing::get;
use axum::{Json, Router};
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::BasicAckOptions;
use lapin::{Channel, Consumer};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::queue;

const CLAIM: &str = "
UPDATE runs r SET state = 1, epoch = r.epoch + 1, started_at = now(), lease_until = now() + interval '30 seconds'
FROM unnest($1::uuid[]) AS c (id)
WHERE r.id = c.id AND r.state = 0
RETURNING r.id, r.epoch, r.input";

const FINISH: &str = "
UPDATE runs r SET state = 2, output = c.output, finished_at = now(), lease_until = NULL
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS c (id, epoch, output)
WHERE r.id = c.id AND r.epoch = c.epoch AND r.state = 1";

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: String,
    #[arg(long)]
    store: String,
    #[arg(long)]
    queue: String,
    #[arg(long)]
    lanes: usize,
    #[arg(long)]
    batch: usize,
}

/// Run, epoch, and first its input, later its output.
type Claimed = (Uuid, i64, String);

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let finished = Arc::new(AtomicUsize::new(0));
    // Twice a batch: the next one is here when this one has been claimed.
    let prefetch = u16::try_from(args.batch * 2)?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..args.lanes {
        let broker = queue::connect(&args.queue).await?;
        let (channel, consumer) = queue::consumer(&broker, prefetch).await?;
        let (claims, finishes) = (
            PgConnection::connect(&args.store).await?,
            PgConnection::connect(&args.store).await?,
        );
        let (claimed, rendered) = mpsc::channel(2);
        let batch = args.batch;
        tasks.spawn(async move {
            let _open = broker;
            claim(claims, channel, consumer, batch, claimed).await
        });
        tasks.spawn(finish(finishes, rendered, Arc::clone(&finished)));
    }
    let count = move || async move { Json(finished.load(Ordering::Relaxed)) };
    let router = Router::new()
        .route("/finished", get(count))
        .route("/ready", get(|| async {}));
    let listener = tokio::net::TcpListener::bind(&args.listen).await?;
    tokio::select! {
        served = axum::serve(listener, router) => Ok(served?),
        Some(ended) = tasks.join_next() => ended?.and(Err(anyhow::anyhow!("a task of the floor ended"))),
    }
}

async fn claim(
    mut store: PgConnection,
    channel: Channel,
    mut consumer: Consumer,
    batch: usize,
    claimed: mpsc::Sender<Vec<Claimed>>,
) -> anyhow::Result<()> {
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let mut last = delivery.delivery_tag;
        let mut ids = vec![Uuid::from_slice(&delivery.data)?];
        while ids.len() < batch
            && let Some(Some(delivery)) = consumer.next().now_or_never()
        {
            let delivery = delivery?;
            last = delivery.delivery_tag;
            ids.push(Uuid::from_slice(&delivery.data)?);
        }
        let mut runs: Vec<Claimed> = sqlx::query_as(CLAIM)
            .bind(&ids)
            .fetch_all(&mut store)
            .await
            .context("claiming")?;
        channel
            .basic_ack(last, BasicAckOptions { multiple: true })
            .await?;
        for (_, _, text) in &mut runs {
            *text = format!("Hello, {text}! This flow ran on Flowfleet.");
        }
        claimed.send(runs).await?;
    }
    anyhow::bail!("the consumer ended")
}

async fn finish(
    mut store: PgConnection,
    mut rendered: mpsc::Receiver<Vec<Claimed>>,
    finished: Arc<AtomicUsize>,
) -> anyhow::Result<()> {
    while let Some(mut runs) = rendered.recv().await {
        while let Ok(more) = rendered.try_recv() {
            runs.extend(more);
        }
        let count = runs.len();
        let (mut ids, mut epochs, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (id, epoch, output) in runs {
            ids.push(id);
            epochs.push(epoch);
            outputs.push(output);
        }
        let written = sqlx::query(FINISH)
            .bind(&ids)
            .bind(&epochs)
            .bind(&outputs)
            .execute(&mut store)
            .await
            .context("finishing")?;
        ensure!(
            written.rows_affected() == count as u64,
            "a run was lost to another epoch"
        );
        finished.fetch_add(count, Ordering::Relaxed);
    }
    Ok(())
}
