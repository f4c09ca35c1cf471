//! What breaks, and what must hold all the same (invariants I1, I2, I5, I10).

use std::time::Duration;

use anyhow::Context as _;
use flowfleet_mock_model as mock;
use flowfleet_tests::embedded::Embedded;
use serde_json::Value;

use crate::fleet::{Fleet, until};
use crate::{flows, services};

fn attempts(run: &Value) -> Vec<&str> {
    run["attempts"]
        .as_array()
        .map(|all| all.iter().filter_map(|a| a["ended_because"].as_str()).collect())
        .unwrap_or_default()
}

/// Every event of a finished run, whose sequence must start at 1 and have no hole.
async fn whole_history(fleet: &Fleet, id: &str) -> anyhow::Result<Vec<String>> {
    let events = fleet.events(id, None, |_| false).await?;
    let sequence: Vec<u64> = events.iter().filter_map(|e| e.id).collect();
    let gapless: Vec<u64> = (1..=sequence.len() as u64).collect();
    assert_eq!(sequence, gapless, "the events of {id}");
    Ok(events.into_iter().map(|e| e.kind).collect())
}

#[tokio::test]
async fn a_killed_worker_costs_no_finished_node() -> anyhow::Result<()> {
    let model = mock::Config {
        latency_ms: 600,
        ..mock::Config::default()
    };
    let mut fleet = Fleet::start(1, model).await?;
    fleet.put_flow("three", &flows::chain_of_models(3)).await?;
    let id = fleet.submit(&fleet.run("three", "hi")).await?;
    let mut models_done = 0;
    fleet
        .events(&id, None, |event| {
            let component = event.data["data"]["component"].as_str().unwrap_or_default();
            models_done += u32::from(event.kind == "node.finished" && component.contains("Model"));
            models_done == 1
        })
        .await?;
    assert_eq!(models_done, 1, "the first model answered");
    until("the second model is asked", Duration::from_secs(10), || async {
        Ok((fleet.mock.requests() == 2).then_some(()))
    })
    .await?;
    fleet.workers[0].kill()?;
    fleet.start_worker(&[]).await?;

    let run = fleet.wait(&id, Duration::from_secs(60)).await?;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["output"], "echo: echo: echo: hi");
    assert_eq!(attempts(&run), ["worker_lost", "succeeded"]);
    assert_eq!(run["attempt"], 1, "losing a machine is not a failure of the flow");
    assert_eq!(run["interruptions"], 1);
    let asked = fleet.mock.counts();
    assert_eq!(asked["hi"], 1, "a finished node is never paid for twice");
    assert_eq!(asked["echo: hi"], 2, "the node that was cut short ran again");
    assert_eq!(asked["echo: echo: hi"], 1);
    let history = whole_history(&fleet, &id).await?;
    assert!(
        history.iter().any(|kind| kind == "run.interrupted"),
        "{history:?}"
    );
    Ok(())
}

#[tokio::test]
async fn sigterm_hands_long_runs_to_another_worker() -> anyhow::Result<()> {
    let model = mock::Config {
        latency_ms: 4_000,
        ..mock::Config::default()
    };
    let mut fleet = Fleet::start(0, model).await?;
    fleet.start_worker(&[("FLOWFLEET_DRAIN_S", "0.5")]).await?;
    fleet.put_flow("two", &flows::chain_of_models(2)).await?;
    let id = fleet.submit(&fleet.run("two", "hi")).await?;
    until("the second model is asked", Duration::from_secs(20), || async {
        Ok((fleet.mock.requests() == 2).then_some(()))
    })
    .await?;
    fleet.workers[0].signal("-TERM")?;
    let status = fleet.workers[0].ended(Duration::from_secs(10)).await?;
    assert!(status.success(), "a drained worker leaves cleanly: {status}");
    let queued = fleet.get(&id).await?;
    assert_eq!(
        queued["state"], "queued",
        "handed back at once, without waiting for the lease: {queued}"
    );
    fleet.start_worker(&[]).await?;
    let run = fleet.wait(&id, Duration::from_secs(30)).await?;
    assert_eq!(run["output"], "echo: echo: hi");
    assert_eq!(attempts(&run), ["interrupted", "succeeded"]);
    assert_eq!(fleet.mock.counts()["hi"], 1);
    Ok(())
}

#[tokio::test]
async fn a_stopped_worker_that_wakes_up_changes_nothing() -> anyhow::Result<()> {
    let model = mock::Config {
        latency_ms: 2_000,
        ..mock::Config::default()
    };
    let mut fleet = Fleet::start(1, model).await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    let id = fleet.submit(&fleet.run("one", "hi")).await?;
    until("the model is asked", Duration::from_secs(10), || async {
        Ok((fleet.mock.requests() == 1).then_some(()))
    })
    .await?;
    // Anywhere: it may be in the middle of a transaction, and the broker may send it the second attempt too.
    fleet.workers[0].signal("-STOP")?;
    fleet.start_worker(&[]).await?;
    let run = fleet.wait(&id, Duration::from_secs(60)).await?;
    fleet.workers[0].signal("-CONT")?;
    assert_eq!(run["state"], "succeeded");
    assert_eq!(attempts(&run), ["worker_lost", "succeeded"]);
    until(
        "the woken worker is ready again",
        Duration::from_secs(20),
        || async {
            let ready = fleet
                .client
                .get(format!("{}/health/ready", fleet.workers[0].admin))
                .send()
                .await;
            Ok(ready.is_ok_and(|ready| ready.status().is_success()).then_some(()))
        },
    )
    .await?;
    let after = fleet.get(&id).await?;
    assert_eq!(after["attempts"], run["attempts"], "a stale epoch writes nothing");
    assert_eq!(after["finished_at"], run["finished_at"]);
    whole_history(&fleet, &id).await?;
    Ok(())
}

#[tokio::test]
async fn a_broker_restart_loses_and_repeats_none() -> anyhow::Result<()> {
    const RUNS: usize = 1_000;
    let model = mock::Config {
        latency_ms: 50,
        ..mock::Config::default()
    };
    let fleet = Fleet::start(2, model).await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    let runs: Vec<Value> = (0..RUNS).map(|n| fleet.run("one", &format!("run {n}"))).collect();
    let (before, after) = runs.split_at(RUNS / 2);
    fleet.submit_batch(before).await?;
    until("a tenth is done", Duration::from_secs(60), || async {
        Ok((fleet.mock.requests() >= RUNS as u64 / 10).then_some(()))
    })
    .await?;
    let restart = tokio::task::spawn_blocking(services::restart_rabbitmq);
    // The dispatcher goes on accepting while there is no broker: the outbox keeps what cannot be published.
    for chunk in after.chunks(50) {
        fleet.submit_batch(chunk).await?;
    }
    restart.await??;
    fleet.all_succeed(RUNS as u64, Duration::from_secs(180)).await?;
    let asked = fleet.mock.counts();
    let once = runs
        .iter()
        .filter(|run| asked.get(run["input"].as_str().unwrap_or_default()) == Some(&1))
        .count();
    assert_eq!(once, RUNS, "each model was asked exactly once");
    Ok(())
}

#[tokio::test]
async fn purging_the_queue_loses_none() -> anyhow::Result<()> {
    const RUNS: u64 = 200;
    let mut fleet = Fleet::start(0, mock::Config::default()).await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    let runs: Vec<Value> = (0..RUNS).map(|n| fleet.run("one", &format!("run {n}"))).collect();
    fleet.submit_batch(&runs).await?;
    until(
        "the queue was filled and purged",
        Duration::from_secs(20),
        || async { Ok((services::purge(&fleet.pool)? == 3).then_some(())) },
    )
    .await?;
    fleet.start_worker(&[]).await?;
    fleet.all_succeed(RUNS, Duration::from_secs(90)).await?;
    assert_eq!(fleet.mock.requests(), RUNS);
    Ok(())
}

#[tokio::test]
async fn a_killed_dispatcher_loses_nothing_it_accepted() -> anyhow::Result<()> {
    const RUNS: u64 = 300;
    let mut fleet = Fleet::start(
        1,
        mock::Config {
            latency_ms: 30,
            ..mock::Config::default()
        },
    )
    .await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    let runs: Vec<Value> = (0..RUNS).map(|n| fleet.run("one", &format!("run {n}"))).collect();
    fleet.submit_batch(&runs).await?;
    if let Some(dispatcher) = &mut fleet.dispatcher {
        dispatcher.kill()?;
    }
    fleet.start_dispatcher().await?;
    fleet.all_succeed(RUNS, Duration::from_secs(90)).await?;
    assert_eq!(fleet.mock.requests(), RUNS);
    Ok(())
}

#[tokio::test]
async fn the_embedded_fleet_survives_kill_with_its_runs() -> anyhow::Result<()> {
    let mock = mock::spawn(mock::Config {
        latency_ms: 1_500,
        ..mock::Config::default()
    })
    .await?;
    let data = tempfile::tempdir()?;
    let mut embedded = Embedded::start(data.path(), &mock.base_url()).await?;
    embedded.put_flow("two", &flows::chain_of_models(2)).await?;
    let (_, submitted) = embedded.submit("two", "hi").await?;
    let id = submitted["id"].as_str().context("an id")?;
    until("the second model is asked", Duration::from_secs(20), || async {
        Ok((mock.requests() == 2).then_some(()))
    })
    .await?;
    // Queued, started, two nodes begun and finished: the first answer is kept. The second question does not wait for that.
    until("the first answer is stored", Duration::from_secs(20), || async {
        let run = embedded.get(id).await?;
        Ok((run["last_event"].as_u64() >= Some(6)).then_some(()))
    })
    .await?;
    embedded.process.kill()?;
    let embedded = Embedded::start(data.path(), &mock.base_url()).await?;
    let run = embedded.wait(id, Duration::from_secs(90)).await?;
    assert_eq!(run["output"], "echo: echo: hi", "{run}");
    assert_eq!(mock.counts()["hi"], 1);
    Ok(())
}
