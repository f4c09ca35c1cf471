//! What the API promises, asked of real processes on real services.

use std::time::{Duration, Instant};

use flowfleet_mock_model as mock;
use futures::future::try_join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fleet::{Fleet, body, until};
use crate::flows;

#[tokio::test]
async fn fifty_equal_submits_make_one_run() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, mock::Config::default()).await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    let mut run = fleet.run("one", "hi");
    run["idempotency_key"] = json!("order-1");
    let submits = (0..50).map(|_| async {
        let answer = fleet
            .client
            .post(format!("{}/v1/runs", fleet.url))
            .json(&run)
            .send()
            .await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        anyhow::Ok((status, body["id"].as_str().unwrap_or_default().to_owned()))
    });
    let answers = try_join_all(submits).await?;
    let created = answers
        .iter()
        .filter(|(status, _)| *status == StatusCode::ACCEPTED)
        .count();
    let repeated = answers
        .iter()
        .filter(|(status, _)| *status == StatusCode::OK)
        .count();
    assert_eq!((created, repeated), (1, 49), "{answers:?}");
    assert!(answers.iter().all(|(_, id)| *id == answers[0].1));
    fleet.wait(&answers[0].1, Duration::from_secs(30)).await?;
    assert_eq!(fleet.mock.requests(), 1);
    run["input"] = json!("something else");
    let conflict = fleet
        .client
        .post(format!("{}/v1/runs", fleet.url))
        .json(&run)
        .send()
        .await?;
    assert_eq!(conflict.status(), StatusCode::CONFLICT);
    Ok(())
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() -> anyhow::Result<()> {
    let fleet = Fleet::start(0, mock::Config::default()).await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    let good = fleet.run("one", "hi");
    let bad = json!({"flow": "one", "input": "hi", "prioritty": "high"});
    let lines = [&good, &good, &bad, &good].map(Value::to_string).join("\n");
    let answer = fleet
        .client
        .post(format!("{}/v1/runs/batch", fleet.url))
        .header("content-type", "application/x-ndjson")
        .body(lines)
        .send()
        .await?;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = answer.json().await?;
    assert!(
        problem.to_string().contains("line 3"),
        "the bad line is named: {problem}"
    );
    assert_eq!(fleet.count("queued").await?, 0, "nothing was stored");
    Ok(())
}

#[tokio::test]
async fn a_stream_resumes_where_it_was_cut() -> anyhow::Result<()> {
    let fleet = Fleet::start(
        1,
        mock::Config {
            latency_ms: 300,
            ..mock::Config::default()
        },
    )
    .await?;
    fleet.put_flow("three", &flows::chain_of_models(3)).await?;
    let id = fleet.submit(&fleet.run("three", "hi")).await?;
    let mut finished = 0;
    let first = fleet
        .events(&id, None, |event| {
            finished += u32::from(event.kind == "node.finished");
            finished == 2
        })
        .await?;
    let last = first.iter().filter_map(|e| e.id).next_back();
    let rest = fleet.events(&id, last, |_| false).await?;
    let sequence: Vec<u64> = first.iter().chain(&rest).filter_map(|e| e.id).collect();
    assert_eq!(
        sequence,
        (1..=sequence.len() as u64).collect::<Vec<_>>(),
        "no hole, nothing twice"
    );
    assert_eq!(rest.last().map(|e| e.kind.as_str()), Some("run.succeeded"));
    Ok(())
}

#[tokio::test]
async fn bad_flows_are_refused_and_nothing_is_stored() -> anyhow::Result<()> {
    let fleet = Fleet::start(0, mock::Config::default()).await?;
    let mut cycle = flows::chain_of_models(2);
    flows::connect_back(&mut cycle);
    let mut unknown_handle = flows::chain_of_models(1);
    unknown_handle["data"]["edges"][0]["data"]["targetHandle"]["fieldName"] = json!("no_such_field");
    let mut missing_node = flows::chain_of_models(1);
    missing_node["data"]["edges"][0]["target"] = json!("Nobody-1");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = format!("{{\"data\": \"{}\"}}", "x".repeat(50 << 20));
    let cases: Vec<(&str, String)> = vec![
        ("no JSON", "{".to_owned()),
        ("not a flow", "{\"nodes\": 1}".to_owned()),
        ("cycle", cycle.to_string()),
        ("unknown handle", unknown_handle.to_string()),
        ("edge to nobody", missing_node.to_string()),
        ("deep nesting", deep),
        ("50 MB", huge),
    ];
    for (what, text) in cases {
        let answer = fleet
            .client
            .put(format!("{}/v1/flows/bad", fleet.url))
            .body(text)
            .send()
            .await;
        let Ok(answer) = answer else {
            // The server may answer and close before 50 MB are read.
            assert_eq!(what, "50 MB");
            continue;
        };
        let status = answer.status();
        let content_type = answer
            .headers()
            .get("content-type")
            .map(|v| v.as_bytes().to_vec());
        let problem: Value = answer.json().await?;
        let expected: &[u16] = if what == "50 MB" { &[413, 422] } else { &[422] };
        assert!(expected.contains(&status.as_u16()), "{what}: {status} {problem}");
        assert_eq!(
            content_type.as_deref(),
            Some(b"application/problem+json".as_slice()),
            "{what}"
        );
        assert!(
            problem["detail"].as_str().is_some_and(|d| d.len() > 10),
            "{what}: {problem}"
        );
    }
    let flows = body(
        fleet.client.get(format!("{}/v1/flows", fleet.url)).send().await?,
        &[StatusCode::OK],
    )
    .await?;
    assert_eq!(flows["items"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_running_run_is_cancelled_within_a_second() -> anyhow::Result<()> {
    let fleet = Fleet::start(
        1,
        mock::Config {
            latency_ms: 30_000,
            ..mock::Config::default()
        },
    )
    .await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    let id = fleet.submit(&fleet.run("one", "hi")).await?;
    until("the model is asked", Duration::from_secs(10), || async {
        Ok((fleet.mock.requests() == 1).then_some(()))
    })
    .await?;
    let asked = Instant::now();
    let cancel = fleet
        .client
        .post(format!("{}/v1/runs/{id}/cancel", fleet.url))
        .send()
        .await?;
    assert!(cancel.status().is_success(), "{}", cancel.status());
    let run = fleet.wait(&id, Duration::from_secs(10)).await?;
    assert_eq!(run["state"], "cancelled");
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "took {:?}",
        asked.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_model_that_fails_is_tried_again_with_backoff() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, mock::Config::default()).await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    let mut run = fleet.run("one", "hi");
    // Nothing listens on the discard port.
    run["variables"] =
        json!({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "the request's own"});
    run["max_attempts"] = json!(2);
    run["retry"] = json!({"backoff_s": 0.2, "factor": 1.0, "max_s": 0.2});
    let done = fleet.complete(&run).await?;
    assert_eq!(done["state"], "failed", "{done}");
    assert_eq!(done["attempt"], 2, "{done}");
    assert_eq!(done["attempts"].as_array().map(Vec::len), Some(2));
    assert_eq!(done["error"]["code"], "model_unreachable", "{done}");
    Ok(())
}

#[tokio::test]
async fn a_large_payload_comes_back_whole() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, mock::Config::default()).await?;
    fleet.put_flow("hello", &flows::passthrough()).await?;
    let long = "flowfleet ".repeat(60_000);
    let done = fleet.complete(&fleet.run("hello", &long)).await?;
    assert_eq!(done["state"], "succeeded", "{}", done["error"]);
    assert_eq!(done["input"].as_str().map(str::len), Some(long.len()));
    assert_eq!(done["output"].as_str(), Some(long.as_str()));
    Ok(())
}

#[tokio::test]
async fn the_metrics_of_the_contract_are_there_after_one_run() -> anyhow::Result<()> {
    let fleet = Fleet::start(1, mock::Config::default()).await?;
    fleet.put_flow("one", &flows::chain_of_models(1)).await?;
    fleet.complete(&fleet.run("one", "hi")).await?;
    let wanted = [
        ("dispatcher", "runs_submitted_total"),
        ("dispatcher", "workers"),
        ("dispatcher", "publish_confirm_seconds_bucket"),
        ("dispatcher", "store_operation_seconds_bucket"),
        ("dispatcher", "http_requests_total"),
        ("dispatcher", "http_request_seconds_bucket"),
        ("dispatcher", "build_info"),
        ("worker", "runs_finished_total"),
        ("worker", "run_wait_seconds_bucket"),
        ("worker", "run_duration_seconds_bucket"),
        ("worker", "slots"),
        ("worker", "node_duration_seconds_bucket"),
        ("worker", "llm_tokens_total"),
        ("worker", "attempts_ended_total"),
        ("worker", "claim_batch_size"),
        ("worker", "store_operation_seconds_bucket"),
        ("worker", "worker_boot_seconds"),
        ("worker", "build_info"),
    ];
    // Gauges of the leader and of presence come with its next look.
    until("every metric is there", Duration::from_secs(20), || async {
        let dispatcher = fleet
            .client
            .get(format!("{}/metrics", fleet.url))
            .send()
            .await?
            .text()
            .await?;
        let worker = fleet.metrics(&fleet.workers[0]).await?;
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(process, name)| {
                let text = if *process == "worker" {
                    &worker
                } else {
                    &dispatcher
                };
                !text.lines().any(|line| {
                    line.strip_prefix("flowfleet_")
                        .and_then(|line| line.strip_prefix(name))
                        .is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
                })
            })
            .collect();
        for text in [&dispatcher, &worker] {
            anyhow::ensure!(
                !text.contains(&fleet.workers[0].admin),
                "no label names an instance"
            );
        }
        if !missing.is_empty() {
            println!("missing: {missing:?}");
        }
        Ok(missing.is_empty().then_some(()))
    })
    .await
}
