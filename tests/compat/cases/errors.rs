//! How flows fail: that they do, at which node, and about what the message is.

use serde_json::json;

use crate::case::Case;
use crate::draw::Draw;

fn said(field: &str, value: &str) -> Draw {
    Draw::new()
        .nodes(&["ChatInput-1", "Prompt-2", "ChatOutput-3"])
        .set("Prompt-2.template", "a {x}")
        .set("Prompt-2.x", "")
        .set(field, value)
        .edges(&[
            ("ChatInput-1.message", "Prompt-2.x"),
            ("Prompt-2.prompt", "ChatOutput-3.input_value"),
        ])
}

fn model() -> Draw {
    Draw::new()
        .nodes(&["ChatInput-1", "LanguageModel-2", "ChatOutput-3"])
        .edges(&[
            ("ChatInput-1.message", "LanguageModel-2.input_value"),
            ("LanguageModel-2.text_output", "ChatOutput-3.input_value"),
        ])
}

fn agent() -> Draw {
    Draw::new()
        .nodes(&["ChatInput-1", "Agent-2", "ChatOutput-3"])
        .edges(&[
            ("ChatInput-1.message", "Agent-2.input_value"),
            ("Agent-2.response", "ChatOutput-3.input_value"),
        ])
}

fn parser(pattern: &str) -> Draw {
    Draw::new()
        .nodes(&["Webhook-1", "Parser-2", "ChatOutput-3"])
        .set("Webhook-1.data", r#"{"a": 1}"#)
        .set("Parser-2.pattern", pattern)
        .edges(&[
            ("Webhook-1.output_data", "Parser-2.input_data"),
            ("Parser-2.parsed_text", "ChatOutput-3.input_value"),
        ])
}

pub(crate) fn cases() -> Vec<Case> {
    let fails_with = |draw: Draw, status: u16| {
        Case::of(&format!("a model that answers {status}"), draw).model(|model| {
            model.fail_first = 1000;
            model.fail_status = status;
        })
    };
    vec![
        Case::of(
            "an output with nothing to say",
            Draw::new().nodes(&["ChatOutput-1"]),
        )
        .fails("ChatOutput-1", &["input"]),
        Case::of(
            "a template with a broken brace",
            said("Prompt-2.template", "a {x"),
        )
        .fails("Prompt-2", &[]),
        Case::of("an empty template", said("Prompt-2.template", "")).fails("Prompt-2", &[]),
        Case::of(
            "a template with an empty name",
            said("Prompt-2.template", "a {} b"),
        )
        .fails("Prompt-2", &[]),
        Case::of("a parser with a broken pattern", parser("{a")).fails("Parser-2", &[]),
        Case::of("a model that nobody chose", model())
            .tweaks(json!({"LanguageModel-2": {"model": ""}}))
            .fails("LanguageModel-2", &["model"]),
        fails_with(model(), 400).fails("LanguageModel-2", &[]),
        fails_with(model(), 401).fails("LanguageModel-2", &[]),
        fails_with(model(), 429).fails("LanguageModel-2", &[]),
        fails_with(model(), 500).fails("LanguageModel-2", &[]),
        Case {
            name: "an agent whose model answers 400".to_owned(),
            ..fails_with(agent(), 400)
        }
        .fails("Agent-2", &[]),
        Case::of("a tweak of code", model()).tweaks(json!({"LanguageModel-2": {"code": "x"}})),
        Case::of(
            "a file that is not there",
            Draw::new()
                .nodes(&["File-1", "ChatOutput-2"])
                .mark("File-1.path", "file_path", json!(["gone.txt"]))
                .edge("File-1.message", "ChatOutput-2.input_value"),
        )
        .fails("File-1", &["gone.txt"]),
    ]
}
