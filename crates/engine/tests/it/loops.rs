//! Loops: turns, what they leave, and attempts that end in the middle of them.

use std::collections::BTreeMap;

use flowfleet_engine::{CompileLimits, EngineKind, NodeOutput, Progress, compile};
use flowfleet_mock_model::Config;
use serde_json::{Value as Json, json};

use crate::draw::Draw;
use crate::run::{Runner, plan};

/// Goes through the input's parts and asks a model about each.
fn asking() -> Draw {
    Draw::new()
        .node("ChatInput-a")
        .released("SplitText-s", "SplitText")
        .set("SplitText-s", "separator", ",")
        .set("SplitText-s", "chunk_size", 1)
        .set("SplitText-s", "chunk_overlap", 0)
        .released("LoopComponent-l", "LoopComponent")
        .node("ParserComponent-p")
        .set("ParserComponent-p", "pattern", "<{text}>")
        .node("LanguageModelComponent-m")
        .node("ChatOutput-z")
        .edge("ChatInput-a", "message", "SplitText-s", "data_inputs")
        .edge("SplitText-s", "dataframe", "LoopComponent-l", "data")
        .edge("LoopComponent-l", "item", "ParserComponent-p", "input_data")
        .edge(
            "ParserComponent-p",
            "parsed_text",
            "LanguageModelComponent-m",
            "input_value",
        )
        .back(
            "LanguageModelComponent-m",
            "text_output",
            "LoopComponent-l",
            "item",
        )
        .edge("LoopComponent-l", "done", "ChatOutput-z", "input_value")
}

const ANSWER: &str = "| text      |\n|:----------|\n| echo: <x> |\n| echo: <y> |\n| echo: <z> |";

#[tokio::test]
async fn each_turn_has_nodes_of_its_own() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let plan = plan(&asking());
    assert_eq!(plan.engine(), EngineKind::Native);
    assert_eq!(plan.warnings(), [""; 0]);
    let ran = Runner::new("x,y,z").model(&model.base_url()).run(&plan).await;
    assert_eq!(ran.text(), ANSWER);
    let names = [
        "ChatInput-a",
        "SplitText-s",
        "LoopComponent-l",
        "ParserComponent-p#LoopComponent-l.0",
        "LanguageModelComponent-m#LoopComponent-l.0",
        "ParserComponent-p#LoopComponent-l.1",
        "LanguageModelComponent-m#LoopComponent-l.1",
        "ParserComponent-p#LoopComponent-l.2",
        "LanguageModelComponent-m#LoopComponent-l.2",
        "ChatOutput-z",
    ];
    assert_eq!(ran.started, names);
    assert_eq!(ran.finished.len(), names.len());
    let outcome = ran.result.unwrap();
    assert_eq!((model.requests(), outcome.nodes_run), (3, 10));
    let spent: u64 = ran
        .finished
        .values()
        .map(|output| output.usage.input_tokens)
        .sum();
    assert!(spent > 0);
    assert_eq!(
        outcome.usage.input_tokens, spent,
        "the turns are paid for, and once"
    );
}

#[tokio::test]
async fn whatever_an_attempt_left_no_turn_is_paid_for_twice() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let plan = plan(&asking());
    let mut runner = Runner::new("x,y,z").model(&model.base_url());
    let whole = runner.run(&plan).await;
    let outcome = whole.result.unwrap();
    // In the order in which nodes end, a loop ends after its turns.
    let mut order = whole.started.clone();
    let place = order.iter().position(|id| id == "LoopComponent-l").unwrap();
    let id = order.remove(place);
    order.insert(order.len() - 1, id);
    for done in 0..=order.len() {
        let resume: BTreeMap<String, NodeOutput> = order[..done]
            .iter()
            .map(|id| (id.clone(), whole.finished[id].clone()))
            .collect();
        runner.resume = serde_json::from_str(&serde_json::to_string(&resume).unwrap()).unwrap();
        let before = model.requests();
        let ran = runner.run(&plan).await;
        let left = order[done..]
            .iter()
            .filter(|id| id.starts_with("LanguageModel"))
            .count();
        assert_eq!(model.requests() - before, left as u64, "after {done}");
        assert!(ran.started.iter().all(|id| !resume.contains_key(id)));
        let again = ran.result.unwrap();
        assert_eq!((&again.output, again.usage), (&outcome.output, outcome.usage));
    }
}

#[tokio::test]
async fn a_node_that_fails_names_its_turn() {
    let model = flowfleet_mock_model::spawn(Config {
        fail_every: 2,
        fail_status: 400,
        ..Config::default()
    })
    .await
    .unwrap();
    let plan = plan(&asking());
    let ran = Runner::new("x,y,z").model(&model.base_url()).run(&plan).await;
    let error = ran.result.unwrap_err();
    assert_eq!(error.node(), Some("LoopComponent-l"));
    assert!(!error.retryable());
    assert!(
        error
            .to_string()
            .contains("LanguageModelComponent-m#LoopComponent-l.1"),
        "{error}"
    );
    assert_eq!(
        ran.failed,
        ["LanguageModelComponent-m#LoopComponent-l.1", "LoopComponent-l"]
    );
    assert!(
        !ran.started.iter().any(|id| id.ends_with(".2")),
        "a failed turn is the last"
    );
}

#[tokio::test]
async fn a_cancel_ends_a_loop_in_the_middle() {
    let model = flowfleet_mock_model::spawn(Config {
        latency_ms: 60_000,
        ..Config::default()
    })
    .await
    .unwrap();
    let plan = plan(&asking());
    let runner = Runner::new("x,y").model(&model.base_url());
    let cancel = runner.cancel.clone();
    let ran = runner
        .run_with(&plan, move |progress| {
            if matches!(progress, Progress::NodeStarted { node } if node.id.starts_with("LanguageModel")) {
                cancel.cancel();
            }
        })
        .await;
    assert_eq!(ran.result.unwrap_err().code(), "cancelled");
}

#[tokio::test]
async fn nothing_to_go_through_is_an_empty_table() {
    let plan = plan(&asking());
    let ran = Runner::new("").run(&plan).await;
    assert_eq!(ran.text(), "");
    assert_eq!(
        ran.started,
        ["ChatInput-a", "SplitText-s", "LoopComponent-l", "ChatOutput-z"]
    );
}

#[tokio::test]
async fn a_loop_has_a_longest() {
    let plan = plan(&asking());
    let ran = Runner::new(&"x,".repeat(10_001)).run(&plan).await;
    let error = ran.result.unwrap_err();
    assert_eq!(
        (error.code(), error.node()),
        ("loop_too_long", Some("LoopComponent-l"))
    );
}

/// Which engine a flow needs, and why.
fn engine(draw: &Draw) -> (EngineKind, String) {
    let plan = compile(&draw.bytes(), &CompileLimits::default()).unwrap();
    let reasons: Vec<&str> = plan
        .unsupported()
        .iter()
        .map(|node| node.reason.as_str())
        .collect();
    (plan.engine(), reasons.join("; "))
}

#[test]
fn what_the_shape_does_not_settle_is_left_to_python() {
    let both = || {
        asking().released("CombineText-c", "CombineText").edge(
            "ParserComponent-p",
            "parsed_text",
            "CombineText-c",
            "text1",
        )
    };
    let cases = [
        (
            asking().edge(
                "ChatInput-a",
                "message",
                "LanguageModelComponent-m",
                "system_message",
            ),
            "depends on the chat input ChatInput-a",
        ),
        (
            both()
                .node("ParserComponent-d")
                .edge("LoopComponent-l", "done", "ParserComponent-d", "input_data")
                .edge("ParserComponent-d", "parsed_text", "CombineText-c", "text2"),
            "takes both its items and its result",
        ),
        (
            both().back("CombineText-c", "combined_text", "LoopComponent-l", "item"),
            "several nodes go back to it",
        ),
        (
            asking()
                .released("LoopComponent-n", "LoopComponent")
                .edge("LoopComponent-l", "done", "LoopComponent-n", "data")
                .node("ParserComponent-q")
                .edge("LoopComponent-n", "item", "ParserComponent-q", "input_data")
                .back("ParserComponent-q", "parsed_text", "LoopComponent-n", "item"),
            "leads to it directly",
        ),
    ];
    for (draw, expected) in cases {
        let (engine, reasons) = engine(&draw);
        assert_eq!(engine, EngineKind::Python, "{expected}");
        assert!(reasons.contains(expected), "{reasons}");
    }
}

#[test]
fn many_loops_are_pythons() {
    let mut draw = Draw::new();
    for number in 0..200 {
        let (over, end) = (
            format!("LoopComponent-{number}"),
            format!("ParserComponent-{number}"),
        );
        draw = draw.released(&over, "LoopComponent").node(&end);
        draw = draw.edge(&over, "item", &end, "input_data");
        draw = draw.back(&end, "parsed_text", &over, "item");
    }
    let (engine, reasons) = engine(&draw);
    assert_eq!(engine, EngineKind::Python);
    assert!(reasons.contains("more than 32 loops"), "{reasons}");
}

#[test]
fn other_cycles_stay_refused() {
    let draw = Draw::new()
        .released("CombineText-a", "CombineText")
        .released("CombineText-b", "CombineText")
        .edge("CombineText-a", "combined_text", "CombineText-b", "text1")
        .edge("CombineText-b", "combined_text", "CombineText-a", "text1");
    let error = compile(&draw.bytes(), &CompileLimits::default()).unwrap_err();
    assert!(error.to_string().contains("only a Loop may go back"), "{error}");
    let mut document: Json = serde_json::from_slice(&asking().bytes()).unwrap();
    for node in document["data"]["nodes"].as_array_mut().unwrap() {
        // An edited Loop may do anything: it is Python's.
        if node["id"] == "LoopComponent-l" {
            node["data"]["node"]["template"]["code"] = json!({"type": "code", "value": "class Edited: ..."});
        }
    }
    let plan = compile(document.to_string().as_bytes(), &CompileLimits::default()).unwrap();
    assert_eq!(plan.engine(), EngineKind::Python);
}
