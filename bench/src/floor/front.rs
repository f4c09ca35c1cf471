//! The floor's process that takes runs: a bare HTTP endpoint, group commit, publishing.
//!
//! Each committer has a connection to the store and stores all that waits, at most a batch; its publisher sends
//! what was stored meanwhile, so that inserts and publishes overlap.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use lapin::Channel;
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use super::queue;
use crate::client::now_us;

const INSERT: &str = "INSERT INTO runs (id, input) SELECT * FROM unnest($1::uuid[], $2::text[])";

/// Most messages whose confirms are awaited together.
const WINDOW: usize = 1000;
/// Requests that may wait for a committer.
const WAITING: usize = 100_000;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: String,
    #[arg(long)]
    store: String,
    #[arg(long)]
    queue: String,
    #[arg(long)]
    committers: usize,
    #[arg(long)]
    batch: usize,
}

struct Submit {
    input: String,
    stored: oneshot::Sender<Uuid>,
}

#[derive(Deserialize)]
struct Wanted {
    input: String,
}

#[derive(Debug, Deserialize)]
struct Generate {
    runs: usize,
}

/// What `/generate` did.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Generated {
    pub(super) began_us: u64,
    pub(super) submit_s: f64,
}

type Waiting = Arc<Mutex<mpsc::Receiver<Submit>>>;

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (submits, waiting) = mpsc::channel(WAITING);
    let waiting: Waiting = Arc::new(Mutex::new(waiting));
    let mut tasks = tokio::task::JoinSet::new();
    // One connection a committer: a connection is one process of the broker.
    for _ in 0..args.committers {
        let broker = queue::connect(&args.queue).await?;
        let channel = queue::publisher(&broker).await?;
        let store = PgConnection::connect(&args.store).await?;
        let (stored, ids) = mpsc::channel(4);
        tasks.spawn(commit(store, Arc::clone(&waiting), args.batch, stored));
        tasks.spawn(async move {
            let _open = broker;
            publish(channel, ids).await
        });
    }
    let router = Router::new()
        .route("/v1/runs", post(submit))
        .route("/generate", post(generate))
        .route("/ready", get(|| async {}))
        .with_state(submits);
    let listener = tokio::net::TcpListener::bind(&args.listen).await?;
    tokio::select! {
        served = axum::serve(listener, router) => Ok(served?),
        Some(ended) = tasks.join_next() => ended?.and(Err(anyhow::anyhow!("a task of the floor ended"))),
    }
}

async fn submit(State(submits): State<mpsc::Sender<Submit>>, body: Bytes) -> impl IntoResponse {
    let Ok(wanted) = serde_json::from_slice::<Wanted>(&body) else {
        return (
            StatusCode::UNPROCESSABLE_ENTITY,
            [(header::CONTENT_TYPE, "text/plain")],
            String::new(),
        );
    };
    let (stored, answer) = oneshot::channel();
    let waits = submits.send(Submit {
        input: wanted.input,
        stored,
    });
    let json = [(header::CONTENT_TYPE, "application/json")];
    match (waits.await, answer.await) {
        (Ok(()), Ok(id)) => (StatusCode::ACCEPTED, json, format!(r#"{{"id":"{id}"}}"#)),
        _ => (StatusCode::SERVICE_UNAVAILABLE, json, String::new()),
    }
}

/// Makes runs here: in batches there is no least client, so there is none.
async fn generate(
    State(submits): State<mpsc::Sender<Submit>>,
    Query(wanted): Query<Generate>,
) -> Result<Json<Generated>, StatusCode> {
    let (began_us, began) = (now_us(), Instant::now());
    let mut answers = Vec::with_capacity(wanted.runs);
    for number in 0..wanted.runs {
        let (stored, answer) = oneshot::channel();
        let run = Submit {
            input: format!("Ada {number}"),
            stored,
        };
        submits
            .send(run)
            .await
            .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        answers.push(answer);
    }
    for answer in answers {
        answer.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    }
    Ok(Json(Generated {
        began_us,
        submit_s: began.elapsed().as_secs_f64(),
    }))
}

async fn commit(
    mut store: PgConnection,
    waiting: Waiting,
    batch: usize,
    stored: mpsc::Sender<Vec<Uuid>>,
) -> anyhow::Result<()> {
    let mut runs = Vec::with_capacity(batch);
    loop {
        let taken = waiting.lock().await.recv_many(&mut runs, batch).await;
        if taken == 0 {
            return Ok(());
        }
        let (mut ids, mut inputs, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for run in runs.drain(..) {
            ids.push(Uuid::now_v7());
            inputs.push(run.input);
            answers.push(run.stored);
        }
        sqlx::query(INSERT)
            .bind(&ids)
            .bind(&inputs)
            .execute(&mut store)
            .await
            .context("inserting")?;
        for (answer, &id) in answers.into_iter().zip(&ids) {
            let _ = answer.send(id);
        }
        stored.send(ids).await?;
    }
}

async fn publish(channel: Channel, mut stored: mpsc::Receiver<Vec<Uuid>>) -> anyhow::Result<()> {
    while let Some(mut ids) = stored.recv().await {
        while ids.len() < WINDOW
            && let Ok(more) = stored.try_recv()
        {
            ids.extend(more);
        }
        for window in ids.chunks(WINDOW) {
            queue::publish(&channel, window).await.context("publishing")?;
        }
    }
    Ok(())
}
