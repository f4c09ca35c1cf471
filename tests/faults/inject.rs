//! How faults are done and undone. What is done at once has nothing to undo.

use std::time::Duration;

use futures::StreamExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::json;
use uuid::Uuid;

use super::fault::{Fault, Role};
use super::fleet::{Fleet, Member, POOL};
use super::load::Ledger;
use super::plan::{Planned, Round};
use super::proxy::Mode;
use crate::process::until;

/// Messages published at once.
const ABREAST: usize = 8;

/// Carries out a round: every fault at its time, for its time.
pub async fn carry_out(fleet: &Fleet, ledger: &Ledger, round: &Round, seed: u64) -> anyhow::Result<()> {
    let faults = round.0.iter().enumerate().map(|(n, planned)| async move {
        let Planned { fault, after, hold } = *planned;
        tokio::time::sleep(after).await;
        inject(fleet, ledger, fault, seed.wrapping_add(n as u64)).await?;
        tokio::time::sleep(hold).await;
        heal(fleet, fault).await
    });
    futures::future::try_join_all(faults).await.map(drop)
}

fn queues() -> [String; 3] {
    ["high", "normal", "low"].map(|priority| format!("flowfleet.{POOL}.{priority}"))
}

async fn inject(fleet: &Fleet, ledger: &Ledger, fault: Fault, seed: u64) -> anyhow::Result<()> {
    match fault {
        Fault::Kill(who) => fleet.member(who).kill(),
        Fault::Pause(who) => fleet.member(who).signal("-STOP"),
        Fault::Drain(who) => {
            if who.role == Role::Worker {
                wait_until_busy(fleet.member(who)).await;
            }
            fleet.member(who).ask_to_leave();
        }
        Fault::Skew(who, seconds) => {
            fleet.member(who).kill();
            fleet.member(who).start(Some(seconds))?;
        }
        Fault::Partition(who, service, mode) => fleet.member(who).link(service).set(mode),
        Fault::BrokerStop => fleet.rabbitmq.lock().await.stop_app().await?,
        Fault::BrokerKill => fleet.rabbitmq.lock().await.kill(),
        Fault::BrokerConnections => fleet.rabbitmq.lock().await.close_connections().await?,
        Fault::Purge => {
            for queue in queues() {
                fleet.rabbitmq.lock().await.purge(&queue).await?;
            }
        }
        Fault::DeleteQueues => {
            for queue in queues() {
                fleet.rabbitmq.lock().await.delete(&queue).await?;
            }
        }
        Fault::Duplicates(count) => publish(fleet, duplicates(ledger, count, seed)).await?,
        Fault::Garbage(count) => publish(fleet, garbage(count, seed)).await?,
        Fault::StoreStop => fleet.postgres.lock().await.stop_at_once().await?,
        Fault::StoreConnections => {
            let others = "select pg_terminate_backend(pid) from pg_stat_activity \
                where backend_type = 'client backend' and pid <> pg_backend_pid()";
            fleet.postgres.lock().await.query(others).await?;
        }
        Fault::BusKill => fleet.redis.lock().await.kill(),
        Fault::BusConnections => {
            for kind in ["normal", "pubsub"] {
                fleet
                    .redis
                    .lock()
                    .await
                    .call(&["client", "kill", "type", kind])
                    .await?;
            }
        }
        Fault::BusFlush => drop(fleet.redis.lock().await.call(&["flushall"]).await?),
    }
    Ok(())
}

/// Draining an idle worker interrupts nothing. Waits for some work, unless another fault keeps it away.
async fn wait_until_busy(worker: &Member) {
    let patience = Duration::from_secs(10);
    let busy = async || Ok((worker.busy().await >= 3).then_some(()));
    let _ = until("the worker is busy", patience, busy).await;
}

async fn heal(fleet: &Fleet, fault: Fault) -> anyhow::Result<()> {
    match fault {
        Fault::Kill(who) => fleet.member(who).start(None)?,
        Fault::Pause(who) => fleet.member(who).signal("-CONT"),
        Fault::Drain(who) => {
            fleet.member(who).gone().await?;
            fleet.member(who).start(None)?;
        }
        Fault::Skew(who, _) => {
            // The clock is set right while the process runs: time jumps. Then without the library again.
            fleet.member(who).set_clock(0)?;
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            fleet.member(who).kill();
            fleet.member(who).start(None)?;
        }
        Fault::Partition(who, service, _) => fleet.member(who).link(service).set(Mode::Sound),
        Fault::BrokerStop => fleet.rabbitmq.lock().await.start_app().await?,
        Fault::BrokerKill => fleet.rabbitmq.lock().await.resume().await?,
        Fault::StoreStop => fleet.postgres.lock().await.resume().await?,
        Fault::BusKill => fleet.redis.lock().await.resume().await?,
        Fault::BrokerConnections
        | Fault::Purge
        | Fault::DeleteQueues
        | Fault::Duplicates(_)
        | Fault::Garbage(_)
        | Fault::StoreConnections
        | Fault::BusConnections
        | Fault::BusFlush => {}
    }
    Ok(())
}

async fn publish(fleet: &Fleet, messages: Vec<Vec<u8>>) -> anyhow::Result<()> {
    let rabbitmq = fleet.rabbitmq.lock().await;
    let (broker, queues) = (&*rabbitmq, &queues());
    let sent = futures::stream::iter(messages.iter().enumerate())
        .map(|(n, bytes)| broker.publish(&queues[n % queues.len()], bytes))
        .buffer_unordered(ABREAST);
    sent.collect::<Vec<_>>().await.into_iter().collect()
}

/// Messages as dispatchers publish them, of runs that wait, run, or have long ended.
fn duplicates(ledger: &Ledger, count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = StdRng::seed_from_u64(seed);
    let ids = ledger.ids();
    let recent = &ids[ids.len().saturating_sub(50)..];
    let mut pick = || {
        let from = if random.random_bool(0.5) { recent } else { &ids };
        from.choose(&mut random).cloned()
    };
    (0..count)
        .filter_map(|_| pick())
        .map(|id| message(1, &id))
        .collect()
}

fn message(version: u32, run: &str) -> Vec<u8> {
    json!({"v": version, "run": run}).to_string().into_bytes()
}

/// What no dispatcher ever published.
fn garbage(count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut one = |n: usize| match n % 9 {
        0 => Vec::new(),
        1 => message(2, &Uuid::now_v7().to_string()),
        2 => message(1, &Uuid::now_v7().to_string()),
        3 => message(1, &Uuid::nil().to_string()),
        4 => b"{\"v\":1,\"run\":".to_vec(),
        5 => vec![b'['; 10_000],
        6 => message(1, "no id at all"),
        7 => {
            let mut bytes = vec![0; random.random_range(1..2_000)];
            random.fill_bytes(&mut bytes);
            bytes
        }
        // One large one is enough.
        _ if n == 8 => vec![b'x'; 4 << 20],
        _ => json!({"v": 1, "run": {"nested": [1, 2, 3]}})
            .to_string()
            .into_bytes(),
    };
    (0..count).map(&mut one).collect()
}
