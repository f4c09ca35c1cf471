//! What a request may set, and how input, session, variables and outputs are chosen.

use flowfleet_engine::{InputType, OutputType, Request, RunError};
use serde_json::{Value as Json, json};

use crate::draw::Draw;
use crate::run::{Runner, plan};

fn hello() -> Draw {
    Draw::new()
        .node("ChatInput-a")
        .set("ChatInput-a", "input_value", "from the flow")
        .node("Prompt-p")
        .set("Prompt-p", "template", "{who}: {what}{end}")
        .variable("Prompt-p", "who", "nobody")
        .variable("Prompt-p", "what", "")
        .variable("Prompt-p", "end", ".")
        .node("ChatOutput-b")
        .edge("ChatInput-a", "message", "Prompt-p", "what")
        .edge("Prompt-p", "prompt", "ChatOutput-b", "input_value")
}

async fn output_of(draw: &Draw, runner: &Runner) -> String {
    runner.run(&plan(draw)).await.text().to_owned()
}

#[test]
fn requests_have_defaults_and_refuse_unknown_fields() {
    let request: Request = serde_json::from_str("{}").unwrap();
    assert_eq!(request, Request::default());
    assert_eq!(
        (request.input_type, request.output_type),
        (InputType::Chat, OutputType::Chat)
    );
    let request: Request =
        serde_json::from_value(json!({"input_type": "any", "output_type": "debug"})).unwrap();
    assert_eq!(
        serde_json::from_value::<Request>(serde_json::to_value(&request).unwrap()).unwrap(),
        request
    );
    assert!(serde_json::from_str::<Request>(r#"{"inpt": 1}"#).is_err());
}

#[tokio::test]
async fn input_is_text_or_an_object_or_left_to_the_flow() {
    let mut runner = Runner::new("");
    for (input, expected) in [
        (json!("hi\\n"), "nobody: hi\\n."),
        (json!(""), "nobody: ."),
        (Json::Null, "nobody: from the flow."),
        (json!({"input_value": "hi"}), "nobody: hi."),
        (json!({"input_value": null}), "nobody: from the flow."),
        (json!({"input_value": {"a": 1}}), r#"nobody: {"a":1}."#),
        (json!({"order": 7}), r#"nobody: {"order":7}."#),
    ] {
        runner.request.input = input.clone();
        assert_eq!(output_of(&hello(), &runner).await, expected, "{input}");
    }
    for bad in [json!(3), json!(true), json!(["a"])] {
        runner.request.input = bad;
        let error = plan(&hello()).check(&runner.request).unwrap_err();
        assert_eq!(
            (error.code, error.problems[0].pointer.as_str()),
            ("INPUT_INVALID", "/input")
        );
    }
}

#[tokio::test]
async fn tweaks_by_id_by_display_name_and_for_all() {
    let draw = hello();
    let mut runner = Runner::new("hi");
    for (tweaks, expected) in [
        (json!({"Prompt-p": {"who": "me"}}), "me: hi."),
        (json!({"Prompt Template": {"who": "me"}}), "me: hi."),
        (json!({"Prompt-p": {"who": {"value": "me"}}}), "me: hi."),
        (json!({"end": "!"}), "nobody: hi!"),
        (json!({"Prompt-p": {"end": "?"}, "end": "!"}), "nobody: hi!"),
        (
            json!({"Prompt-p": {"what": "the edge goes first"}}),
            "nobody: hi.",
        ),
        (json!({"Prompt-p": {"template": "{what}"}}), "hi"),
        (
            json!({"Nobody-x": {"who": "me"}, "Prompt-p": {"other": 1}, "zzz": 1}),
            "nobody: hi.",
        ),
        (Json::Null, "nobody: hi."),
    ] {
        runner.request.tweaks = tweaks.clone();
        assert_eq!(output_of(&draw, &runner).await, expected, "{tweaks}");
    }
}

#[test]
fn unknown_tweaks_are_warnings() {
    let plan = plan(&hello());
    let tweaks = json!({"Nobody-x": {"who": "me"}, "Prompt-p": {"other": 1, "who": "x"}, "zzz": 1, "end": 1});
    let request = Request {
        tweaks,
        ..Request::default()
    };
    assert!(plan.check(&request).is_ok());
    let warnings = plan.request_warnings(&request);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("Prompt-p.other")));
}

#[test]
fn refused_requests_say_what_and_where() {
    let mut draw = hello().node("Prompt-r");
    draw.body("Prompt-p")["template"]["own"] = json!({"type": "code", "value": "x", "show": true});
    let plan = plan(&draw);
    let input = json!("hi");
    for (request, code, pointer) in [
        (
            json!({"tweaks": {"Prompt-p": {"code": "x"}}}),
            "TWEAKS_REFUSED",
            "/tweaks/Prompt-p/code",
        ),
        (
            json!({"tweaks": {"Prompt-p": {"own": "x"}}}),
            "TWEAKS_REFUSED",
            "/tweaks/Prompt-p/own",
        ),
        (json!({"tweaks": {"code": "x"}}), "TWEAKS_REFUSED", "/tweaks/code"),
        (
            json!({"tweaks": {"Prompt-p": {"who": {"proxy": {}}}}}),
            "TWEAKS_REFUSED",
            "/tweaks/Prompt-p/who",
        ),
        (
            json!({"tweaks": {"Prompt-p": {"python_code": "x"}}}),
            "TWEAKS_REFUSED",
            "/tweaks/Prompt-p/python_code",
        ),
        (json!({"tweaks": [1]}), "TWEAKS_INVALID", "/tweaks"),
        (
            json!({"input": input, "tweaks": {"ChatInput-a": {"input_value": "x"}}}),
            "INPUT_CONFLICT",
            "/tweaks/ChatInput-a/input_value",
        ),
        (
            json!({"output_component": "Nobody-x"}),
            "OUTPUT_UNKNOWN",
            "/output_component",
        ),
    ] {
        let request: Request = serde_json::from_value(request).unwrap();
        let error = plan.check(&request).unwrap_err();
        assert_eq!((error.code, error.problems[0].pointer.as_str()), (code, pointer));
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn required_fields_must_be_filled_where_they_run() {
    let draw = Draw::new()
        .node("ChatInput-a")
        .node("LanguageModelComponent-m")
        .set("LanguageModelComponent-m", "model", "")
        .node("ChatOutput-b")
        .edge(
            "ChatInput-a",
            "message",
            "LanguageModelComponent-m",
            "input_value",
        )
        .edge(
            "LanguageModelComponent-m",
            "text_output",
            "ChatOutput-b",
            "input_value",
        )
        .node("ParserComponent-idle");
    let plan = plan(&draw);
    let mut request = Request {
        input: json!("hi"),
        ..Request::default()
    };
    let error = plan.check(&request).unwrap_err();
    assert_eq!((error.code, error.problems.len()), ("FIELD_REQUIRED", 1));
    assert_eq!(
        error.problems[0].node.as_deref(),
        Some("LanguageModelComponent-m")
    );
    for (tweaks, accepted) in [
        (
            json!({"Language Model": {"model": [{"name": "m", "provider": "OpenAI"}]}}),
            true,
        ),
        (json!({"Language Model": {"model": []}}), false),
        (json!({"model": [{"name": "m", "provider": "OpenAI"}]}), true),
    ] {
        request.tweaks = tweaks;
        assert_eq!(plan.check(&request).is_ok(), accepted, "{}", request.tweaks);
    }
}

#[tokio::test]
async fn the_requests_session_goes_over_pinned_ones_and_the_flow_id_is_the_default() {
    let draw = hello().set("ChatInput-a", "session_id", "pinned");
    let plan = plan(&draw);
    let mut runner = Runner::new("hi");
    for (session, expected) in [(None, "flow-1"), (Some(""), "flow-1"), (Some("s-1"), "s-1")] {
        runner.request.session_id = session.map(str::to_owned);
        let ran = runner.run(&plan).await;
        assert_eq!(ran.result.unwrap().session_id, expected);
        let message = serde_json::to_value(&ran.finished["ChatInput-a"].values["message"]).unwrap();
        assert_eq!(message["value"]["session_id"], expected);
    }
}

#[tokio::test]
async fn variables_come_from_the_request_then_the_environment() {
    let mut draw =
        hello()
            .set("Prompt-p", "who", "WHO_AM_I")
            .set("Prompt-p", "what", "UNUSED: an edge feeds it");
    draw.body("Prompt-p")["template"]["who"]["load_from_db"] = json!(true);
    draw.body("Prompt-p")["template"]["what"]["load_from_db"] = json!(true);
    let plan = plan(&draw);
    let mut runner = Runner::new("hi");
    let missing = runner.run(&plan).await;
    assert_eq!(missing.failed, ["Prompt-p"]);
    let error = missing.result.unwrap_err();
    assert_eq!(
        (error.code(), error.node(), error.retryable()),
        ("variable_missing", Some("Prompt-p"), false)
    );
    assert!(error.to_string().contains("WHO_AM_I"), "{error}");
    runner.environment.insert("WHO_AM_I".to_owned(), "env".to_owned());
    assert_eq!(runner.run(&plan).await.text(), "env: hi.");
    runner
        .request
        .variables
        .insert("WHO_AM_I".to_owned(), "request".to_owned());
    assert_eq!(runner.run(&plan).await.text(), "request: hi.");
    // A tweak's plain value is the value, not a variable's name.
    runner.request.tweaks = json!({"Prompt-p": {"who": "WHO_AM_I"}});
    assert_eq!(runner.run(&plan).await.text(), "WHO_AM_I: hi.");
}

#[tokio::test]
async fn a_flow_cannot_read_the_fleets_own_secrets() {
    let mut draw = hello().set("Prompt-p", "who", "FLOWFLEET_STORE_URL");
    draw.body("Prompt-p")["template"]["who"]["load_from_db"] = json!(true);
    let mut runner = Runner::new("hi");
    runner
        .environment
        .insert("FLOWFLEET_STORE_URL".to_owned(), "postgres://secret".to_owned());
    assert_eq!(
        runner.run(&plan(&draw)).await.result.unwrap_err().code(),
        "variable_missing"
    );
    // Nor can a run pass its own off for them.
    runner
        .request
        .variables
        .insert("FLOWFLEET_STORE_URL".to_owned(), "postgres://other".to_owned());
    assert_eq!(
        runner.run(&plan(&draw)).await.result.unwrap_err().code(),
        "variable_missing"
    );
}

#[tokio::test]
async fn outputs_by_type_and_by_component() {
    let draw = hello()
        .node("TextOutput-t")
        .edge("ChatInput-a", "message", "TextOutput-t", "input_value");
    let plan = plan(&draw);
    let mut runner = Runner::new("hi");
    for (output_type, component, expected) in [
        (OutputType::Chat, None, json!("nobody: hi.")),
        (OutputType::Text, None, json!("hi")),
        (OutputType::Any, None, json!(["nobody: hi.", "hi"])),
        (
            OutputType::Debug,
            None,
            json!(["hi", "nobody: hi.", "nobody: hi.", "hi"]),
        ),
        (OutputType::Chat, Some("TextOutput-t"), json!("hi")),
        (OutputType::Chat, Some("Prompt Template"), json!("nobody: hi.")),
    ] {
        runner.request.output_type = output_type;
        runner.request.output_component = component.map(str::to_owned);
        let outcome = runner.run(&plan).await.result.unwrap();
        assert_eq!(outcome.output, expected, "{output_type:?} {component:?}");
        let read: flowfleet_engine::Outcome =
            serde_json::from_value(serde_json::to_value(&outcome).unwrap()).unwrap();
        assert_eq!(read, outcome);
    }
    let without_outputs = crate::run::plan(&Draw::new().node("ChatInput-a"));
    assert_eq!(
        runner_default()
            .run(&without_outputs)
            .await
            .result
            .unwrap()
            .output,
        Json::Null
    );
}

fn runner_default() -> Runner {
    Runner::new("hi")
}

#[tokio::test]
async fn a_list_input_collects_what_ran_and_omits_what_did_not() {
    let mut draw = Draw::new()
        .node("ChatInput-a")
        .node("ConditionalRouter-r")
        .set("ConditionalRouter-r", "match_text", "yes")
        .node("Prompt-p")
        .set("Prompt-p", "template", "{items}")
        .variable("Prompt-p", "items", "default")
        .node("ChatOutput-b");
    draw.body("Prompt-p")["template"]["items"]["list"] = json!(true);
    for id in ["Prompt-yes", "Prompt-no", "Prompt-always"] {
        draw = draw
            .node(id)
            .set(id, "template", format!("{id} {{x}}"))
            .variable(id, "x", "");
    }
    let draw = draw
        .edge("ChatInput-a", "message", "ConditionalRouter-r", "input_text")
        .edge("ConditionalRouter-r", "true_result", "Prompt-yes", "x")
        .edge("ConditionalRouter-r", "false_result", "Prompt-no", "x")
        .edge("ChatInput-a", "message", "Prompt-always", "x")
        .edge("Prompt-yes", "prompt", "Prompt-p", "items")
        .edge("Prompt-no", "prompt", "Prompt-p", "items")
        .edge("Prompt-always", "prompt", "Prompt-p", "items")
        .edge("Prompt-p", "prompt", "ChatOutput-b", "input_value");
    let text = output_of(&draw, &Runner::new("yes")).await;
    assert!(
        text.contains("Prompt-yes yes") && text.contains("Prompt-always yes"),
        "{text}"
    );
    assert!(!text.contains("Prompt-no") && !text.contains("default"), "{text}");
}

#[tokio::test]
async fn python_flows_are_refused_with_their_nodes() {
    let mut draw = hello();
    draw.body("Prompt-p")["template"]["code"] = json!({"type": "code", "value": "own"});
    let error = Runner::new("hi").run(&plan(&draw)).await.result.unwrap_err();
    assert!(
        matches!(&error, RunError::Unsupported(nodes) if nodes.len() == 1),
        "{error:?}"
    );
    assert_eq!((error.code(), error.retryable()), ("flow_unsupported", false));
}
