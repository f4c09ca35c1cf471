//! Answers in the shape of Langflow's API: every key there is, in its place, with the type that clients read.

use std::sync::Arc;

use flowfleet_engine::{
    CompileLimits, InputType, LangflowCall, OutputType, Plan, Request, compile, langflow,
};
use flowfleet_mock_model::Config;
use serde_json::{Map, Value, json};

use crate::run::Runner;

fn example(name: &str) -> Arc<Plan> {
    let path = format!("{}/../../examples/flows/{name}.json", env!("CARGO_MANIFEST_DIR"));
    Arc::new(compile(&std::fs::read(path).unwrap(), &CompileLimits::default()).unwrap())
}

/// The types of all that is in a value; of lists, the first entry's.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Array(items) => items.iter().take(1).map(shape).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// The message of an answer, as Langflow 1.13 writes one that came from a model.
fn message_shape() -> Value {
    let common = json!({
        "timestamp": "text", "sender": "text", "sender_name": "text", "session_id": "text", "context_id": "text",
        "text": "text", "files": [], "error": "bool", "edit": "bool",
        "properties": {
            "text_color": "null", "background_color": "null", "edited": "bool",
            "source": {"id": "text", "display_name": "text", "source": "text"},
            "icon": "null", "allow_markdown": "bool", "positive_feedback": "null", "state": "text", "targets": [],
            "usage": {"input_tokens": "number", "output_tokens": "number", "total_tokens": "number"},
            "build_duration": "null",
        },
        "category": "text", "content_blocks": [], "session_metadata": {"graph_run_id": "text"},
        "flow_id": "text", "run_id": "text", "duration": "null",
    });
    let mut data = common.clone();
    data["id"] = json!("text");
    let mut message = common;
    message["text_key"] = json!("text");
    message["default_value"] = json!("text");
    message["data"] = data;
    message
}

fn outputs_shape() -> Value {
    json!([{
        "inputs": {"input_value": "text"},
        "outputs": [{
            "results": {"message": message_shape()},
            "artifacts": {"message": "text", "sender": "text", "sender_name": "text", "files": [], "type": "text"},
            "outputs": {"message": {"message": "text", "type": "text"}},
            "logs": {"message": []},
            "messages": [{"message": "text", "sender": "text", "sender_name": "text", "session_id": "text",
                "stream_url": "null", "component_id": "text", "files": [], "type": "text"}],
            "timedelta": "null", "duration": "null", "component_display_name": "text", "component_id": "text",
            "used_frozen_result": "bool", "token_usage": "null",
        }],
    }])
}

fn asking(input: Value, call: LangflowCall) -> Runner {
    let mut runner = Runner::new("");
    runner.request = Request {
        input,
        session_id: Some("s-1".to_owned()),
        ..Request::default()
    }
    .called_as(call);
    runner
}

fn call() -> LangflowCall {
    LangflowCall {
        flow_id: "f-1".to_owned(),
        ..LangflowCall::default()
    }
}

async fn outputs(runner: &Runner, plan: &Arc<Plan>) -> Value {
    let outcome = runner.run(plan).await.result.unwrap();
    outcome.langflow.expect("the answer was asked for")
}

#[tokio::test]
async fn a_models_answer_has_langflows_shape() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let runner = asking(json!("hello"), call()).model(&model.base_url());
    let answer = outputs(&runner, &example("ask-model")).await;
    assert_eq!(shape(&answer), outputs_shape(), "{answer:#}");
    assert_eq!(answer[0]["inputs"]["input_value"], "hello");
    let given = &answer[0]["outputs"][0];
    let message = &given["results"]["message"];
    assert_eq!(message["text"], "echo: hello");
    assert_eq!(given["outputs"]["message"]["message"], "echo: hello");
    assert_eq!(given["component_display_name"], "Chat Output");
    assert_eq!(
        (&message["session_id"], &message["flow_id"], &message["run_id"]),
        (&json!("s-1"), &json!("f-1"), &json!("run-1"))
    );
    let source = message["properties"]["source"]["id"].as_str().unwrap();
    assert_eq!(
        message["data"]["id"],
        langflow::message_id("run-1", "Machine", source)
    );
}

#[tokio::test]
async fn who_does_not_ask_gets_none() {
    let outcome = Runner::new("Ada")
        .run(&example("hello-prompt"))
        .await
        .result
        .unwrap();
    assert_eq!(outcome.langflow, None);
    assert!(!serde_json::to_string(&outcome).unwrap().contains("langflow"));
}

#[tokio::test]
async fn the_call_says_which_components_answer() {
    let plan = example("hello-prompt");
    let everything = LangflowCall {
        output_type: OutputType::Debug,
        input_type: InputType::Any,
        ..call()
    };
    let answer = outputs(&asking(json!("Ada"), everything), &plan).await;
    let given = answer[0]["outputs"].as_array().unwrap();
    assert_eq!(given.len(), plan.nodes());
    let prompt = given
        .iter()
        .find(|component| component["results"].get("prompt").is_some())
        .unwrap();
    assert_eq!(prompt["messages"], json!([]));
    assert_eq!(prompt["outputs"]["prompt"]["type"], "text");
    assert_eq!(
        shape(&prompt["artifacts"]["prompt"]),
        json!({"repr": "text", "raw": "text", "type": "text"})
    );

    let one = LangflowCall {
        output_component: Some(prompt["component_id"].as_str().unwrap().to_owned()),
        ..call()
    };
    let answer = outputs(&asking(Value::Null, one), &plan).await;
    assert_eq!(answer[0]["inputs"], json!({}));
    assert_eq!(answer[0]["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(answer[0]["outputs"][0]["messages"], json!([]));
}

#[test]
fn models_that_a_chat_output_shows_stream() {
    let streams = example("ask-model").streams();
    assert_eq!(streams.len(), 1, "{streams:?}");
    assert!(streams[0].node.starts_with("LanguageModelComponent"));
    let plan = example("hello-prompt");
    assert!(plan.streams().is_empty());
    assert!(plan.chat_input(InputType::Chat).is_some());
    assert!(plan.chat_input(InputType::Text).is_none());
    // Of three agents in a row the last one.
    let starter = "langflow_base-1.13.0/langflow/initial_setup/starter_projects/Multi Agent Flow.json";
    let starter = std::fs::read(crate::draw::wheels().join(starter)).unwrap();
    let agents = compile(&starter, &CompileLimits::default()).unwrap().streams();
    assert_eq!(
        (agents.len(), agents[0].icon.as_deref()),
        (1, Some("Bot")),
        "{agents:?}"
    );
}
