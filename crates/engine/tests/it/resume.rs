//! Attempts that end early, and the attempts after them.

use std::collections::BTreeMap;
use std::time::Duration;

use flowfleet_engine::{NodeOutput, Progress};
use flowfleet_mock_model::Config;
use serde_json::json;

use crate::draw::Draw;
use crate::run::{Runner, plan};

/// ChatInput, three models one after the other, ChatOutput.
fn three_models() -> Draw {
    let mut draw = Draw::new().node("ChatInput-a");
    let mut previous = ("ChatInput-a".to_owned(), "message");
    for id in ["LanguageModelComponent-1", "LanguageModelComponent-2", "LanguageModelComponent-3"] {
        draw = draw.node(id).edge(&previous.0, previous.1, id, "input_value");
        previous = (id.to_owned(), "text_output");
    }
    draw.node("ChatOutput-z").edge(&previous.0, previous.1, "ChatOutput-z", "input_value")
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
        let resume: BTreeMap<String, NodeOutput> =
            whole.started[..done].iter().map(|id| (id.clone(), whole.finished[id].clone())).collect();
        runner.resume = serde_json::from_str(&serde_json::to_string(&resume).unwrap()).unwrap();
        let before = model.requests();
        let ran = runner.run(&plan).await;
        assert_eq!(ran.reused, whole.started[..done]);
        assert_eq!(ran.started, whole.started[done..]);
        let models = ran.started.iter().filter(|id| id.starts_with("LanguageModel")).count();
        assert_eq!(u64::try_from(models).unwrap(), u64::try_from(model.requests() - before).unwrap());
        let again = ran.result.unwrap();
        assert_eq!((again.output, again.usage), (outcome.output.clone(), outcome.usage));
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
        .edge("ConditionalRouter-r", "true_result", "ChatOutput-yes", "input_value")
        .edge("ConditionalRouter-r", "false_result", "ChatOutput-no", "input_value");
    let plan = plan(&draw);
    let mut runner = Runner::new("yes");
    let first = runner.run(&plan).await;
    runner.resume = first.finished.into_iter().filter(|(id, _)| !id.starts_with("ChatOutput")).collect();
    let second = runner.run(&plan).await;
    assert_eq!((second.started, second.skipped), (vec!["ChatOutput-yes".to_owned()], vec!["ChatOutput-no".to_owned()]));
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
    runner.resume.insert("ChatInput-a".to_owned(), NodeOutput::default());
    runner.resume.insert("Gone-x".to_owned(), NodeOutput::default());
    let ran = runner.run(&plan).await;
    assert_eq!(ran.started, ["ChatInput-a", "ChatOutput-b"]);
    assert!(ran.reused.is_empty());
}

#[tokio::test]
async fn cancelling_ends_a_run_that_waits_for_a_model() {
    let config = Config { latency: Duration::from_secs(60), ..Config::default() };
    let model = flowfleet_mock_model::spawn(config).await.unwrap();
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
    assert_eq!((error.code(), error.retryable(), error.node()), ("cancelled", false, None));
    assert_eq!(ran.finished.keys().collect::<Vec<_>>(), ["ChatInput-a"]);
}

#[tokio::test]
async fn a_failing_node_ends_the_run_and_says_which() {
    let plan = plan(&three_models());
    // Nothing listens there: the address was free a moment ago and is closed again.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let ran = Runner::new("hi").model(&base_url).run(&plan).await;
    assert_eq!(ran.failed, ["LanguageModelComponent-1"]);
    let error = ran.result.unwrap_err();
    assert_eq!((error.code(), error.node()), ("model_unreachable", Some("LanguageModelComponent-1")));
    assert!(error.retryable());
    assert!(error.to_string().starts_with("Language Model (LanguageModelComponent-1): "), "{error}");
}

#[tokio::test]
async fn tokens_are_reported_as_they_come() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let draw = three_models().set("LanguageModelComponent-3", "stream", true);
    let ran = Runner::new("hi").model(&model.base_url()).run(&plan(&draw)).await;
    assert!(ran.tokens.ends_with("echo: echo: echo: hi"), "{:?}", ran.tokens);
}
