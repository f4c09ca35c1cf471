//! Flows of real components, against what Langflow 1.13 was seen to do with them.

use std::sync::Arc;

use flowfleet_engine::{EngineKind, InputType, OutputType, Request};
use flowfleet_mock_model::Config;
use serde_json::{Value as Json, json};

use crate::draw::{Draw, read_wheel};
use crate::run::{Runner, plan};

fn router_two_outputs() -> Draw {
    Draw::new()
        .released("ChatInput-t001", "ChatInput")
        .released("ConditionalRouter-t002", "ConditionalRouter")
        .released("ChatOutput-t003", "ChatOutput")
        .released("ChatOutput-t004", "ChatOutput")
        .set("ConditionalRouter-t002", "operator", "contains")
        .set("ConditionalRouter-t002", "match_text", "yes")
        .edge(
            "ChatInput-t001",
            "message",
            "ConditionalRouter-t002",
            "input_text",
        )
        .edge(
            "ConditionalRouter-t002",
            "true_result",
            "ChatOutput-t003",
            "input_value",
        )
        .edge(
            "ConditionalRouter-t002",
            "false_result",
            "ChatOutput-t004",
            "input_value",
        )
}

fn router_merge() -> Draw {
    let prompt = |draw: Draw, id: &str, template: &str| {
        draw.released(id, "Prompt Template").set(id, "template", template)
    };
    let draw = Draw::new()
        .released("ChatInput-t001", "ChatInput")
        .released("ConditionalRouter-t002", "ConditionalRouter")
        .set("ConditionalRouter-t002", "match_text", "yes")
        .released("ChatOutput-t006", "ChatOutput");
    let draw = prompt(draw, "PromptTemplate-t003", "TRUE<{x}>").variable("PromptTemplate-t003", "x", "");
    let draw = prompt(draw, "PromptTemplate-t004", "FALSE<{x}>").variable("PromptTemplate-t004", "x", "");
    prompt(draw, "PromptTemplate-t005", "merged a={a} b={b}")
        .variable("PromptTemplate-t005", "a", "defA")
        .variable("PromptTemplate-t005", "b", "defB")
        .edge(
            "ChatInput-t001",
            "message",
            "ConditionalRouter-t002",
            "input_text",
        )
        .edge(
            "ConditionalRouter-t002",
            "true_result",
            "PromptTemplate-t003",
            "x",
        )
        .edge(
            "ConditionalRouter-t002",
            "false_result",
            "PromptTemplate-t004",
            "x",
        )
        .edge("PromptTemplate-t003", "prompt", "PromptTemplate-t005", "a")
        .edge("PromptTemplate-t004", "prompt", "PromptTemplate-t005", "b")
        .edge("PromptTemplate-t005", "prompt", "ChatOutput-t006", "input_value")
}

#[tokio::test]
async fn a_router_with_two_outputs() {
    let plan = plan(&router_two_outputs());
    assert_eq!(plan.engine(), EngineKind::Native, "{:?}", plan.unsupported());
    for (input, taken, not_taken) in [
        ("yes sir", "ChatOutput-t003", "ChatOutput-t004"),
        ("no", "ChatOutput-t004", "ChatOutput-t003"),
    ] {
        let ran = Runner::new(input).run(&plan).await;
        assert_eq!(ran.started, ["ChatInput-t001", "ConditionalRouter-t002", taken]);
        assert_eq!(ran.skipped, [not_taken]);
        assert_eq!(ran.text(), input);
        let outcome = ran.result.unwrap();
        assert_eq!(
            outcome.outputs.into_iter().collect::<Vec<_>>(),
            [(taken.to_owned(), json!(input))]
        );
        assert_eq!((outcome.nodes_run, outcome.nodes_reused), (3, 0));
        assert_eq!(outcome.session_id, "flow-1");
    }
}

#[tokio::test]
async fn a_merge_takes_its_template_default_from_the_branch_not_taken() {
    let plan = plan(&router_merge());
    assert_eq!(plan.engine(), EngineKind::Native, "{:?}", plan.unsupported());
    for (input, taken, expected) in [
        ("yes", "PromptTemplate-t003", "merged a=TRUE<yes> b=defB"),
        ("no", "PromptTemplate-t004", "merged a=defA b=FALSE<no>"),
    ] {
        let ran = Runner::new(input).run(&plan).await;
        let order = [
            "ChatInput-t001",
            "ConditionalRouter-t002",
            taken,
            "PromptTemplate-t005",
            "ChatOutput-t006",
        ];
        assert_eq!(ran.started, order);
        assert_eq!(ran.text(), expected);
    }
}

#[tokio::test]
async fn text_components_and_literal_braces() {
    let draw = Draw::new()
        .released("TextInput-t001", "TextInput")
        .set("TextInput-t001", "input_value", "dflt")
        .released("PromptTemplate-t002", "Prompt Template")
        .set("PromptTemplate-t002", "template", "Say: {what} {{literal}}")
        .variable("PromptTemplate-t002", "what", "")
        .released("TextOutput-t003", "TextOutput")
        .edge("TextInput-t001", "text", "PromptTemplate-t002", "what")
        .edge("PromptTemplate-t002", "prompt", "TextOutput-t003", "input_value");
    let plan = plan(&draw);
    assert_eq!(plan.engine(), EngineKind::Native, "{:?}", plan.unsupported());
    let mut runner = Runner::new("typed");
    // Chat input does not go into a text input, and without chat outputs all outputs count.
    let ran = runner.run(&plan).await;
    assert_eq!(
        ran.started,
        ["TextInput-t001", "PromptTemplate-t002", "TextOutput-t003"]
    );
    assert_eq!(ran.text(), "Say: dflt {literal}");
    for input_type in [InputType::Text, InputType::Any] {
        runner.request = Request {
            input: json!("typed"),
            input_type,
            ..Request::default()
        };
        assert_eq!(runner.run(&plan).await.text(), "Say: typed {literal}");
    }
    runner.request.output_type = OutputType::Debug;
    let outcome = runner.run(&plan).await.result.unwrap();
    assert_eq!(
        outcome.output,
        json!(["typed", "Say: typed {literal}", "Say: typed {literal}"])
    );
}

#[tokio::test]
async fn two_models_side_by_side() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let mut draw = Draw::new()
        .released("ChatInput-t001", "ChatInput")
        .released("ChatOutput-t005", "ChatOutput");
    draw = draw
        .released("PromptTemplate-t004", "Prompt Template")
        .set("PromptTemplate-t004", "template", "{a} + {b}")
        .variable("PromptTemplate-t004", "a", "")
        .variable("PromptTemplate-t004", "b", "")
        .edge("PromptTemplate-t004", "prompt", "ChatOutput-t005", "input_value");
    for (id, variable) in [
        ("LanguageModelComponent-t002", "a"),
        ("LanguageModelComponent-t003", "b"),
    ] {
        draw = draw
            .released(id, "LanguageModelComponent")
            .set(
                id,
                "model",
                json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]),
            )
            .edge("ChatInput-t001", "message", id, "input_value")
            .edge(id, "text_output", "PromptTemplate-t004", variable);
    }
    let plan = plan(&draw);
    assert_eq!(plan.engine(), EngineKind::Native, "{:?}", plan.unsupported());
    let ran = Runner::new("hey").model(&model.base_url()).run(&plan).await;
    let order = [
        "ChatInput-t001",
        "LanguageModelComponent-t002",
        "LanguageModelComponent-t003",
        "PromptTemplate-t004",
        "ChatOutput-t005",
    ];
    assert_eq!(ran.started, order);
    assert_eq!(ran.text(), "echo: hey + echo: hey");
    let usage = ran.result.unwrap().usage;
    assert!(usage.input_tokens > 0 && usage.output_tokens > 0, "{usage:?}");
    assert_eq!(model.requests(), 2);
}

#[tokio::test]
async fn the_starter_flow_basic_prompting() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let path = "langflow_base-1.13.0/langflow/initial_setup/starter_projects/Basic Prompting.json";
    let document: Json = serde_json::from_slice(&read_wheel(path)).unwrap();
    let plan = plan(&Draw { document });
    assert_eq!(plan.engine(), EngineKind::Native, "{:?}", plan.unsupported());
    assert_eq!((plan.nodes(), plan.name()), (4, Some("Basic Prompting")));
    // It ships without a model: a run must name one, and is told so.
    assert!(
        plan.warnings().iter().any(|warning| warning.contains("model")),
        "{:?}",
        plan.warnings()
    );
    let mut runner = Runner::new("hello").model(&model.base_url());
    let refused = plan.check(&runner.request).unwrap_err();
    assert_eq!(refused.code, "FIELD_REQUIRED");
    assert_eq!(
        refused.problems[0].node.as_deref(),
        Some("LanguageModelComponent-FLeYF")
    );
    assert_eq!(
        refused.problems[0].pointer,
        "/tweaks/LanguageModelComponent-FLeYF/model"
    );
    runner.request.tweaks =
        json!({"Language Model": {"model": [{"name": "gpt-4o-mini", "provider": "OpenAI"}]}});
    let ran = runner.run(&plan).await;
    assert_eq!(ran.text(), "echo: hello");
    assert_eq!(model.requests(), 1);
    assert_eq!(ran.result.unwrap().nodes_run, 4);
}

/// Every starter flow compiles, and which run natively is known.
#[test]
fn all_starter_flows_compile() {
    use flowfleet_engine::{CompileLimits, compile};
    let folder = crate::draw::wheels().join("langflow_base-1.13.0/langflow/initial_setup/starter_projects");
    let mut native = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("run tests/wheels.sh") {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        seen += 1;
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match compile(&std::fs::read(&path).unwrap(), &CompileLimits::default()) {
            Ok(plan) if plan.engine() == EngineKind::Native => native.push(name),
            Ok(plan) => assert!(!plan.unsupported()[0].reason.is_empty()),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert_eq!(seen, 27);
    native.sort();
    let expected = [
        "Basic Prompting",
        "Blog Writer",
        "Content Aggregator",
        "Custom Component Generator",
        "Deep Research Agent",
        "Document Q&A",
        "Financial Report Parser",
        "Image Sentiment Analysis",
        "Instagram Copywriter",
        "Knowledge Retrieval",
        "Market Research",
        "Memory Chatbot",
        "Multi Agent Flow",
        "Portfolio Website Code Generator",
        "Price Deal Finder",
        "Research Translation Loop",
        "SEO Keyword Generator",
        "Sequential Tasks Agents",
        "Simple Agent",
        "Social Media Agent",
        "Text Sentiment Analysis",
        "Travel Planning Agents",
        "Twitter Thread Generator",
        "Vector Store RAG",
    ];
    assert_eq!(native, expected);
}

/// Three agents in a row, of which the first is asked to use its tools. What it says is what lfx says with this model.
#[tokio::test]
async fn agents_hand_on_what_they_found() {
    let model = flowfleet_mock_model::spawn(Config::default()).await.unwrap();
    let folder = crate::draw::wheels().join("langflow_base-1.13.0/langflow/initial_setup/starter_projects");
    let text = std::fs::read_to_string(folder.join("Multi Agent Flow.json")).unwrap();
    let mut flow: Json = serde_json::from_str(&text).unwrap();
    for node in flow["data"]["nodes"].as_array_mut().unwrap() {
        let template = &mut node["data"]["node"]["template"];
        if template.get("model").is_some() {
            template["model"]["value"] = json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]);
            template["add_calculator_tool"]["value"] = true.into();
            template["add_current_date_tool"]["value"] = true.into();
        }
    }
    let plan = flowfleet_engine::compile(flow.to_string().as_bytes(), &Default::default()).unwrap();
    let question = r#"how much? [call evaluate_expression {"expression": "2**10/3"}] [call nope {}]"#;
    let runner = Runner::new(question).model(&model.base_url());
    let ran = runner.run(&Arc::new(plan)).await;
    let told = "{\"result\": \"341.333333\"}\nError: nope is not a valid tool, try one of [get_current_date, \
                evaluate_expression].";
    let mut said = question.to_owned();
    for _ in 0..3 {
        said = format!("echo: {said}\n{told}");
    }
    assert_eq!(ran.text(), said);
}

fn webhook() -> Draw {
    Draw::new()
        .released("Webhook-t001", "Webhook")
        .released("ParserComponent-t002", "ParserComponent")
        .released("ChatOutput-t003", "ChatOutput")
        .set("ParserComponent-t002", "pattern", "got {msg}")
        .edge(
            "Webhook-t001",
            "output_data",
            "ParserComponent-t002",
            "input_data",
        )
        .edge(
            "ParserComponent-t002",
            "parsed_text",
            "ChatOutput-t003",
            "input_value",
        )
}

#[tokio::test]
async fn a_webhook_starts_its_flow() {
    // A chat input beside it never runs: the flow starts at the webhook.
    let draw = webhook().released("ChatInput-t004", "ChatInput");
    let plan = plan(&draw);
    assert_eq!(plan.engine(), EngineKind::Native, "{:?}", plan.unsupported());
    assert_eq!(plan.webhooks().collect::<Vec<_>>(), ["Webhook-t001"]);
    for (sent, said) in [
        ("", "got "),
        (r#"{"msg": "hi"}"#, "got hi"),
        (r#"{"x": 1}"#, "got "),
        ("plain", "got "),
        // Fields unescape line breaks, which JSON then does not take.
        (r#"{"msg": "a\nb"}"#, "got "),
    ] {
        let mut runner = Runner::new("");
        runner.request.tweaks = json!({"Webhook-t001": {"data": sent}});
        let ran = runner.run(&plan).await;
        assert_eq!(ran.text(), said, "{sent}");
        assert_eq!(
            ran.started,
            ["Webhook-t001", "ParserComponent-t002", "ChatOutput-t003"]
        );
    }
}

#[test]
fn edited_code_is_not_trusted() {
    let mut draw = router_two_outputs();
    let code = draw.body("ChatOutput-t004")["template"]["code"]["value"]
        .as_str()
        .unwrap()
        .to_owned();
    let draw = draw.set("ChatOutput-t004", "code", format!("{code}\n# mine"));
    let plan = plan(&draw);
    assert_eq!(plan.engine(), EngineKind::Python);
    let [unsupported] = plan.unsupported() else {
        panic!("{:?}", plan.unsupported())
    };
    assert_eq!(unsupported.node, "ChatOutput-t004");
    assert!(
        unsupported.reason.contains("edited code of ChatOutput"),
        "{}",
        unsupported.reason
    );
}
