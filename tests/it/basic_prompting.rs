//! Langflow's own starter flow *Basic Prompting*, unmodified but for its model, on each set of backends.

use std::time::Duration;

use flowfleet_mock_model as mock;
use flowfleet_tests::embedded::Embedded;
use serde_json::{Value, json};

use crate::fleet::{Fleet, is_final, until};
use crate::flows;

#[tokio::test]
async fn through_rabbitmq_postgres_and_redis() -> anyhow::Result<()> {
    let fleet = Fleet::start(
        2,
        mock::Config {
            tokens_per_s: 50.0,
            ..mock::Config::default()
        },
    )
    .await?;
    let put = fleet
        .put_flow("basic-prompting", &flows::basic_prompting()?)
        .await?;
    assert_eq!(put["engine"], "native", "{put}");
    assert_eq!(put["nodes"], 4, "notes are not nodes: {put}");
    let id = fleet
        .submit(&fleet.run("basic-prompting", "What is a queue made of, in one line?"))
        .await?;
    let events = fleet.events(&id, None, |_| false).await?;
    let kinds: Vec<&str> = events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds.first(), Some(&"run.queued"));
    assert_eq!(kinds.last(), Some(&"run.succeeded"));
    assert_eq!(
        kinds.iter().filter(|k| **k == "node.finished").count(),
        4,
        "{kinds:?}"
    );
    let streamed: String = events
        .iter()
        .filter(|e| e.kind == "node.token")
        .filter_map(|e| e.data["data"]["text"].as_str())
        .collect();
    assert_eq!(
        streamed, "echo: What is a queue made of, in one line?",
        "tokens arrive live"
    );

    let run = fleet.get(&id).await?;
    assert_eq!(run["output"], "echo: What is a queue made of, in one line?");
    assert!(run["usage"]["output_tokens"].as_u64() > Some(0), "{run}");
    assert!(
        run["wait_s"].as_f64().is_some() && run["duration_s"].as_f64().is_some(),
        "{run}"
    );
    let worker = fleet.metrics(&fleet.workers[0]).await? + &fleet.metrics(&fleet.workers[1]).await?;
    assert!(worker.contains("flowfleet_runs_finished_total"), "{worker}");
    Ok(())
}

#[tokio::test]
async fn through_the_embedded_fleet() -> anyhow::Result<()> {
    let mock = mock::spawn(mock::Config::default()).await?;
    let data = tempfile::tempdir()?;
    let embedded = Embedded::start(data.path(), &mock.base_url()).await?;
    embedded.put_flow("basic", &flows::basic_prompting()?).await?;
    let run: Value = embedded
        .client
        .post(format!("{}/v1/runs?wait_s=30", embedded.url))
        .json(&json!({"flow": "basic", "input": "hello"}))
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["output"], "echo: hello");
    let docs = embedded
        .client
        .get(format!("{}/openapi.json", embedded.url))
        .send()
        .await?
        .json::<Value>()
        .await?;
    assert!(docs["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")));
    Ok(())
}

#[tokio::test]
async fn tweaks_and_sessions_reach_the_flow() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, mock::Config::default()).await?;
    fleet.put_flow("basic", &flows::basic_prompting()?).await?;
    let mut run = json!({"flow": "basic", "queue": fleet.pool});
    run["tweaks"] = json!({"Chat Input": {"input_value": "tweaked"}});
    run["session_id"] = json!("s-1");
    let done = fleet.complete(&run).await?;
    assert_eq!(done["session_id"], "s-1", "{done}");
    assert_eq!(done["output"], "echo: tweaked", "{done}");
    let mut refused = fleet.run("basic", "x");
    refused["tweaks"] = json!({"Chat Input": {"code": "print(1)"}});
    let answer = fleet
        .client
        .post(format!("{}/v1/runs", fleet.url))
        .json(&refused)
        .send()
        .await?;
    assert_eq!(answer.status(), 422);
    let problem: Value = answer.json().await?;
    assert!(
        problem["detail"].as_str().is_some_and(|d| d.contains("code")),
        "{problem}"
    );
    Ok(())
}

#[tokio::test]
async fn two_hundred_at_once_share_two_workers() -> anyhow::Result<()> {
    let fleet = Fleet::start(
        2,
        mock::Config {
            latency_ms: 200,
            ..mock::Config::default()
        },
    )
    .await?;
    fleet.put_flow("basic", &flows::basic_prompting()?).await?;
    let runs: Vec<Value> = (0..200)
        .map(|n| fleet.run("basic", &format!("hello {n}")))
        .collect();
    let ids = fleet.submit_batch(&runs).await?;
    fleet.all_succeed(200, Duration::from_secs(60)).await?;
    assert_eq!(fleet.mock.requests(), 200);
    let mut workers = std::collections::BTreeSet::new();
    for id in &ids {
        let run = fleet.get(id).await?;
        assert!(is_final(&run));
        workers.insert(run["attempts"][0]["worker"].to_string());
    }
    assert_eq!(workers.len(), 2, "no worker hoards: both took part");
    until("the leases are gone", Duration::from_secs(5), || async {
        Ok((fleet.count("running").await? == 0).then_some(()))
    })
    .await
}
