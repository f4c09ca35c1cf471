//! Model providers besides OpenAI: the same flows through Langflow's lfx and through this engine, request by request.
//!
//! `tests/wheels.sh` fetches the components, `tests/lfx.sh` the lfx and the providers' clients.

use std::io::Write;
use std::process::{Command, Stdio};

use flowfleet_engine::EngineKind;
use flowfleet_mock_model::{Config, Handle, spawn};
use serde_json::{Value as Json, json};

use crate::draw::Draw;
use crate::lfx::python;
use crate::run::{Runner, plan};

/// A flow, what it is asked, and how many requests that takes.
struct Case {
    name: String,
    draw: Draw,
    input: &'static str,
    asks: usize,
}

/// What is chosen in the editor: a node between a chat's input and its output.
fn between(component: &str, output: &str, model: &Json) -> Draw {
    Draw::new()
        .released("ChatInput-1", "ChatInput")
        .released("Model-1", component)
        .released("ChatOutput-1", "ChatOutput")
        .set("Model-1", "model", model.clone())
        .edge("ChatInput-1", "message", "Model-1", "input_value")
        .edge("Model-1", output, "ChatOutput-1", "input_value")
}

fn cases(provider: &str, model: &str) -> Vec<Case> {
    let model = json!([{"name": model, "provider": provider}]);
    let rows = json!([{"name": "n", "description": "how many", "type": "int", "multiple": "False"},
        {"name": "title", "description": "its name", "type": "str", "multiple": "True"}]);
    let ask = || between("LanguageModelComponent", "text_output", &model);
    let agent = |output| {
        between("Agent", output, &model)
            .set("Model-1", "add_calculator_tool", true)
            .set("Model-1", "system_prompt", "You are {model_name}.")
    };
    let plain = |draw: Draw| {
        draw.set("Model-1", "add_calculator_tool", false)
            .set("Model-1", "add_current_date_tool", false)
    };
    let structured = || {
        between("StructuredOutput", "structured_output", &model).set("Model-1", "output_schema", rows.clone())
    };
    let reasoning = json!([{"name": "r", "provider": provider, "metadata": {"reasoning": true}}]);
    let object = r#"{"objects": [{"n": 5, "title": ["a"]}]}"#;
    let called = r#"[call OutputModel {"objects": [{"n": 5, "title": ["a"]}]}]"#;
    let case = |name: &str, draw, input, asks| Case {
        name: format!("{provider}: {name}"),
        draw,
        input,
        asks,
    };
    vec![
        case("plain", ask(), "hello there", 1),
        case(
            "system message",
            ask().set("Model-1", "system_message", "be brief"),
            " é\n",
            1,
        ),
        case(
            "settings",
            ask()
                .set("Model-1", "temperature", 0.7)
                .set("Model-1", "max_tokens", 50),
            "a b",
            1,
        ),
        case("cold", ask().set("Model-1", "temperature", 0), "a b", 1),
        case("streamed", ask().set("Model-1", "stream", true), "a b", 1),
        case("reasoning", ask().set("Model-1", "model", reasoning), "a b", 1),
        case("agent", agent("response"), "hello there", 1),
        case("agent without tools", plain(agent("response")), "hello", 1),
        case(
            "agent with a limit and no instructions",
            agent("response")
                .set("Model-1", "max_tokens", 99)
                .set("Model-1", "system_prompt", ""),
            "hello",
            1,
        ),
        case(
            "two tools side by side",
            agent("response"),
            r#"[call evaluate_expression {"expression": "1+1"}] [call evaluate_expression {"expression": "2*3.5"}]"#,
            2,
        ),
        case(
            "tools that fail",
            agent("response"),
            r#"[call evaluate_expression {"expression": {"a": [1]}}] [call get_current_date {"timezone": "No/where"}]"#,
            2,
        ),
        case(
            "structured response",
            plain(agent("structured_response")).set("Model-1", "output_schema", rows.clone()),
            object,
            1,
        ),
        case(
            "structured response with tools",
            agent("structured_response").set("Model-1", "output_schema", rows.clone()),
            object,
            1,
        ),
        case("structured output", structured(), called, 1),
    ]
}

/// What lfx makes of the cases, one after the other.
fn theirs(cases: &[Case], server: &Handle) -> Vec<Json> {
    let question: Vec<Json> = cases
        .iter()
        .map(|case| json!({"flow": case.draw.document, "input": case.input}))
        .collect();
    // lfx takes 127.0.0.1 for something to replace.
    let base = format!("http://127.1:{}", server.addr().port());
    let mut child = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/providers.py"))
        .env("LANGFLOW_SSRF_PROTECTION_ENABLED", "false")
        .env("ANTHROPIC_API_KEY", "sk-test")
        .env("ANTHROPIC_BASE_URL", &base)
        .env("OLLAMA_BASE_URL", &base)
        .env("DO_NOT_TRACK", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run tests/lfx.sh");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(&question).unwrap()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "lfx: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn ours(case: &Case, server: &Handle) -> Json {
    let plan = plan(&case.draw);
    assert_eq!(
        plan.engine(),
        EngineKind::Native,
        "{}: {:?}",
        case.name,
        plan.unsupported()
    );
    let mut runner = Runner::new(case.input);
    for (name, value) in [
        ("ANTHROPIC_API_KEY", "sk-test".to_owned()),
        ("ANTHROPIC_BASE_URL", server.root_url()),
        ("OLLAMA_BASE_URL", server.root_url()),
    ] {
        runner.environment.insert(name.to_owned(), value);
    }
    match runner.run(&plan).await.result {
        Ok(outcome) => json!({"outputs": outcome.outputs}),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// Requests without what is chance or our choice: lfx keeps an agent's tools in a set, and here a language model always
/// streams, so that a run's tokens can be followed.
fn normal(mut body: Json) -> Json {
    body.as_object_mut().unwrap().shift_remove("stream");
    if let Some(tools) = body.get_mut("tools").and_then(Json::as_array_mut) {
        tools.sort_by_key(Json::to_string);
    }
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flows_ask_each_provider_as_lfx_does() {
    let config = || Config {
        keep: 1000,
        ..Config::default()
    };
    let cases: Vec<Case> = [("Anthropic", "claude-sonnet-4-5"), ("Ollama", "llama3.2")]
        .into_iter()
        .flat_map(|(provider, model)| cases(provider, model))
        .collect();
    let server = spawn(config()).await.unwrap();
    let theirs = theirs(&cases, &server);
    let mut asked = server.bodies().into_iter();
    let mut different = Vec::new();
    for (case, theirs) in cases.iter().zip(theirs) {
        let server = spawn(config()).await.unwrap();
        let ended = ours(case, &server).await;
        let ours: Vec<Json> = server.bodies().into_iter().map(normal).collect();
        let their_asks: Vec<Json> = asked.by_ref().take(case.asks).map(normal).collect();
        if ended != theirs || ours != their_asks || ours.len() != case.asks {
            different.push(format!(
                "{}\n  ours: {ended} {}\n  lfx:  {theirs} {}",
                case.name,
                json!(ours),
                json!(their_asks)
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert_eq!(asked.next(), None, "lfx asked more often");
}
