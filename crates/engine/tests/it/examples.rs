//! The example flows of the repository: they compile without a warning and do what their descriptions say.

use std::sync::Arc;

use flowfleet_engine::{CompileLimits, EngineKind, Plan, compile};
use flowfleet_mock_model::Config;

use crate::run::Runner;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/flows");

fn example(name: &str) -> Arc<Plan> {
    let document = std::fs::read(format!("{FOLDER}/{name}.json")).unwrap();
    Arc::new(compile(&document, &CompileLimits::default()).unwrap())
}

#[test]
fn the_example_flows_compile() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        let plan = compile(&std::fs::read(&path).unwrap(), &CompileLimits::default()).unwrap();
        assert_eq!(
            plan.engine(),
            EngineKind::Native,
            "{path:?}: {:?}",
            plan.unsupported()
        );
        assert!(plan.warnings().is_empty(), "{path:?}: {:?}", plan.warnings());
        assert_eq!(plan.name(), path.file_stem().and_then(|stem| stem.to_str()));
        names.push(plan.name().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["ask-model", "hello-prompt", "route-and-ask"]);
}

#[tokio::test]
async fn hello_prompt_greets_without_a_model() {
    let plan = example("hello-prompt");
    assert_eq!(
        Runner::new("Ada").run(&plan).await.text(),
        "Hello, Ada! This flow ran on Flowfleet."
    );
}

#[tokio::test]
async fn ask_model_asks_once() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let ran = Runner::new("What is a spot instance?")
        .model(&model.base_url())
        .run(&example("ask-model"))
        .await;
    assert_eq!(
        (ran.text(), model.requests()),
        ("echo: What is a spot instance?", 1)
    );
}

#[tokio::test]
async fn route_and_ask_pays_only_for_the_branch_taken() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let plan = example("route-and-ask");
    for (input, output, skipped, asked) in [
        ("URGENT: no power", "echo: URGENT: no power", 2, 1),
        ("a question", "echo: echo: a question", 1, 3),
    ] {
        let ran = Runner::new(input).model(&model.base_url()).run(&plan).await;
        assert_eq!(
            (ran.text(), ran.skipped.len(), model.requests()),
            (output, skipped, asked)
        );
    }
}
