//! Attempts that end early, and the attempts after them.

use std::collections::BTreeMap;
use std::time::Duration;

use flowfleet_engine::{NodeOutput, OutputType, Progress};
use flowfleet_mock_model::Config;
use serde_json::json;

use crate::draw::Draw;
use crate::run::{Runner, plan};

/// ChatInput, three models one after the other, ChatOutput.
fn three_models() -> Draw {
    let mut draw = Draw::new().node("ChatInput-a");
    let mut previous = ("ChatInput-a".to_owned(), "message");
    for id in [
        "LanguageModelComponent-1",
        "LanguageModelComponent-2",
        "LanguageModelComponent-3",
    ] {
        draw = draw.node(id).edge(&previous.0, previous.1, id, "input_value");
        previous = (id.to_owned(), "text_output");
    }
    draw.node("ChatOutput-z")
        .edge(&previous.0, previous.1, "ChatOutput-z", "input_value")
}

#[tokio::test]
async fn every_prefix_resumes_without_asking_the_model_again() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let plan = plan(&three_models());
    let mut runner = Runner::new("hi").model(&model.base_url());
    let whole = runner.run(&plan).await;
    let outcome = whole.result.unwrap();
    assert_eq!(outcome.output, json!("echo: echo: echo: hi"));
    for done in 0..=whole.started.len() {
        // What a checkpoint stores is what it reads back.
        let resume: BTreeMap<String, NodeOutput> = whole.started[..done]
            .iter()
            .map(|id| (id.clone(), whole.finished[id].clone()))
            .collect();
        runner.resume = serde_json::from_str(&serde_json::to_string(&resume).unwrap()).unwrap();
        let before = model.requests();
        let ran = runner.run(&plan).await;
        assert_eq!(ran.reused, whole.started[..done]);
        assert_eq!(ran.started, whole.started[done..]);
        let models = ran
            .started
            .iter()
            .filter(|id| id.starts_with("LanguageModel"))
            .count();
        assert_eq!(u64::try_from(models).unwrap(), model.requests() - before);
        let again = ran.result.unwrap();
        assert_eq!(
            (again.output, again.usage),
            (outcome.output.clone(), outcome.usage)
        );
    }
}

#[tokio::test]
async fn a_reused_router_still_excludes_its_branch() {
    let draw = Draw::new()
        .node("ChatInput-a")
        .node("ConditionalRouter-r")
        .set("ConditionalRouter-r", "match_text", "yes")
        .node("ChatOutput-yes")
        .node("ChatOutput-no")
        .edge("ChatInput-a", "message", "ConditionalRouter-r", "input_text")
        .edge(
            "ConditionalRouter-r",
            "true_result",
            "ChatOutput-yes",
            "input_value",
        )
        .edge(
            "ConditionalRouter-r",
            "false_result",
            "ChatOutput-no",
            "input_value",
        );
    let plan = plan(&draw);
    let mut runner = Runner::new("yes");
    let first = runner.run(&plan).await;
    runner.resume = first
        .finished
        .into_iter()
        .filter(|(id, _)| !id.starts_with("ChatOutput"))
        .collect();
    let second = runner.run(&plan).await;
    assert_eq!(
        (second.started, second.skipped),
        (
            vec!["ChatOutput-yes".to_owned()],
            vec!["ChatOutput-no".to_owned()]
        )
    );
}

#[tokio::test]
async fn an_output_that_lacks_what_is_wanted_is_not_reused() {
    let plan = plan(&Draw::new().node("ChatInput-a").node("ChatOutput-b").edge(
        "ChatInput-a",
        "message",
        "ChatOutput-b",
        "input_value",
    ));
    let mut runner = Runner::new("hi");
    runner
        .resume
        .insert("ChatInput-a".to_owned(), NodeOutput::default());
    runner.resume.insert("Gone-x".to_owned(), NodeOutput::default());
    let ran = runner.run(&plan).await;
    assert_eq!(ran.started, ["ChatInput-a", "ChatOutput-b"]);
    assert!(ran.reused.is_empty());
}

async fn slow_model() -> flowfleet_mock_model::Handle {
    flowfleet_mock_model::spawn(Config {
        latency_ms: 60_000,
        ..Config::default()
    })
    .await
    .unwrap()
}

/// A server that nobody runs: the address was free a moment ago.
async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

#[tokio::test]
async fn cancelling_ends_a_run_that_waits_for_a_model() {
    let model = slow_model().await;
    let plan = plan(&three_models());
    let runner = Runner::new("hi").model(&model.base_url());
    let cancel = runner.cancel.clone();
    let ran = runner
        .run_with(&plan, move |progress| {
            if matches!(progress, Progress::NodeStarted { node } if node.id == "LanguageModelComponent-1") {
                cancel.cancel();
            }
        })
        .await;
    let error = ran.result.unwrap_err();
    assert_eq!(
        (error.code(), error.retryable(), error.node()),
        ("cancelled", false, None)
    );
    assert_eq!(ran.finished.keys().collect::<Vec<_>>(), ["ChatInput-a"]);
}

#[tokio::test]
async fn a_failing_node_ends_the_run_and_says_which() {
    let plan = plan(&three_models());
    let mut runner = Runner::new("hi").model(&nowhere().await);
    let ran = runner.run(&plan).await;
    assert_eq!(ran.failed, ["LanguageModelComponent-1"]);
    let error = ran.result.unwrap_err();
    assert_eq!(
        (error.code(), error.node()),
        ("model_unreachable", Some("LanguageModelComponent-1"))
    );
    assert!(error.retryable());
    assert!(
        error
            .to_string()
            .starts_with("Language Model (LanguageModelComponent-1): "),
        "{error}"
    );
    // The next attempt finds the model and pays only for what is left.
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    runner = runner.model(&model.base_url());
    runner.resume = ran.finished;
    let ran = runner.run(&plan).await;
    assert_eq!(
        (ran.reused, model.requests()),
        (vec!["ChatInput-a".to_owned()], 3)
    );
    assert_eq!(ran.result.unwrap().output, json!("echo: echo: echo: hi"));
}

/// One model that answers and one that cannot be reached, side by side.
fn good_and_bad(good: &str, bad: &str) -> Draw {
    Draw::new()
        .node("ChatInput-a")
        .node("OpenAIModel-good")
        .set("OpenAIModel-good", "openai_api_base", good)
        .node("OpenAIModel-bad")
        .set("OpenAIModel-bad", "openai_api_base", bad)
        .node("ChatOutput-y")
        .node("ChatOutput-z")
        .edge("ChatInput-a", "message", "OpenAIModel-bad", "input_value")
        .edge("ChatInput-a", "message", "OpenAIModel-good", "input_value")
        .edge("OpenAIModel-bad", "text_output", "ChatOutput-y", "input_value")
        .edge("OpenAIModel-good", "text_output", "ChatOutput-z", "input_value")
}

#[tokio::test]
async fn after_a_failure_that_may_pass_what_runs_may_finish_but_nothing_starts() {
    let config = Config {
        latency_ms: 300,
        ..Config::default()
    };
    let model = flowfleet_mock_model::spawn(config).await.unwrap();
    let plan = plan(&good_and_bad(&model.base_url(), &nowhere().await));
    let mut runner = Runner::new("hi");
    let ran = runner.run(&plan).await;
    assert_eq!(ran.result.unwrap_err().node(), Some("OpenAIModel-bad"));
    assert_eq!(ran.failed, ["OpenAIModel-bad"]);
    assert_eq!(
        ran.finished.keys().collect::<Vec<_>>(),
        ["ChatInput-a", "OpenAIModel-good"]
    );
    runner.resume = ran.finished;
    runner.request.tweaks = json!({"OpenAIModel-bad": {"openai_api_base": model.base_url()}});
    let ran = runner.run(&plan).await;
    assert_eq!(ran.result.unwrap().output, json!(["echo: hi", "echo: hi"]));
    assert_eq!(model.requests(), 2);
}

#[tokio::test]
async fn a_failure_for_good_ends_the_run_at_once() {
    let model = slow_model().await;
    let mut draw = good_and_bad(&model.base_url(), &model.base_url());
    // Its key is a variable that nobody set: it fails when the other model already waits.
    draw.body("OpenAIModel-bad")["template"]["api_key"]["load_from_db"] = json!(true);
    let draw = draw.set("OpenAIModel-bad", "api_key", "NO_SUCH_KEY");
    let plan = plan(&draw);
    let runner = Runner::new("hi");
    let ran = tokio::time::timeout(Duration::from_secs(20), runner.run(&plan))
        .await
        .expect("waited for the other");
    let error = ran.result.unwrap_err();
    assert_eq!(
        (error.code(), error.node()),
        ("variable_missing", Some("OpenAIModel-bad"))
    );
}

#[tokio::test]
async fn a_wide_flow_runs_all_its_nodes() {
    let mut draw = Draw::new().node("ChatInput-a");
    for i in 0..200 {
        let id = format!("Prompt-{i}");
        draw = draw
            .node(&id)
            .set(&id, "template", format!("{i}:{{x}}"))
            .variable(&id, "x", "");
        draw = draw.edge("ChatInput-a", "message", &id, "x");
    }
    let plan = plan(&draw);
    let mut runner = Runner::new("hi");
    runner.request.output_type = OutputType::Debug;
    let outcome = runner.run(&plan).await.result.unwrap();
    assert_eq!(
        (outcome.nodes_run, outcome.outputs["Prompt-199"].clone()),
        (201, json!("199:hi"))
    );
}

#[tokio::test]
async fn models_of_one_flow_wait_side_by_side() {
    // Each would wait for a minute: only when both have asked, the run is cancelled.
    let model = std::sync::Arc::new(slow_model().await);
    let plan = plan(&good_and_bad(&model.base_url(), &model.base_url()));
    let runner = Runner::new("hi");
    let (cancel, asked) = (runner.cancel.clone(), std::sync::Arc::clone(&model));
    let watch = tokio::spawn(async move {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while asked.requests() < 2 && tokio::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    let ran = runner.run(&plan).await;
    watch.await.unwrap();
    assert_eq!(
        (ran.result.unwrap_err().code(), model.requests()),
        ("cancelled", 2)
    );
}

#[tokio::test]
async fn tokens_are_reported_as_they_come() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let draw = three_models().set("LanguageModelComponent-3", "stream", true);
    let ran = Runner::new("hi").model(&model.base_url()).run(&plan(&draw)).await;
    assert!(ran.tokens.ends_with("echo: echo: echo: hi"), "{:?}", ran.tokens);
}
