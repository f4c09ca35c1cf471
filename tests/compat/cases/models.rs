//! What models are asked: each native component that has one.

use serde_json::json;

use crate::case::Case;
use crate::draw::Draw;

fn chat(model: &str) -> Draw {
    Draw::new().nodes(&["ChatInput-1", model, "ChatOutput-9"])
}

fn language_model() -> Draw {
    chat("LanguageModel-2").edges(&[
        ("ChatInput-1.message", "LanguageModel-2.input_value"),
        ("LanguageModel-2.text_output", "ChatOutput-9.input_value"),
    ])
}

fn agent() -> Draw {
    chat("Agent-2").edges(&[
        ("ChatInput-1.message", "Agent-2.input_value"),
        ("Agent-2.response", "ChatOutput-9.input_value"),
    ])
}

/// An agent with several tools, one of which is a node.
fn tools() -> Draw {
    agent()
        .nodes(&["Calculator-3"])
        .tool("Calculator-3")
        .edge("Calculator-3.component_as_tool", "Agent-2.tools")
}

/// Two models side by side, then a third that is told what they said.
fn models() -> Draw {
    Draw::new()
        .nodes(&[
            "ChatInput-1",
            "LanguageModel-2",
            "LanguageModel-3",
            "Prompt-4",
            "LanguageModel-5",
            "ChatOutput-9",
        ])
        .set("LanguageModel-2.system_message", "be brief")
        .set("LanguageModel-3.temperature", 0.7)
        .set("Prompt-4.template", "{a} against {b}")
        .edges(&[
            ("ChatInput-1.message", "LanguageModel-2.input_value"),
            ("ChatInput-1.message", "LanguageModel-3.input_value"),
            ("LanguageModel-2.text_output", "Prompt-4.a"),
            ("LanguageModel-3.text_output", "Prompt-4.b"),
            ("Prompt-4.prompt", "LanguageModel-5.input_value"),
            ("Prompt-4.prompt", "LanguageModel-5.system_message"),
            ("LanguageModel-5.text_output", "ChatOutput-9.input_value"),
        ])
}

fn schema() -> serde_json::Value {
    json!([{"name": "city", "description": "where", "type": "str", "multiple": "False"},
        {"name": "people", "description": "how many", "type": "int", "multiple": "False"}])
}

fn structured() -> Draw {
    Draw::new()
        .nodes(&["ChatInput-1", "StructuredOutput-2", "Parser-3", "ChatOutput-9"])
        .set("StructuredOutput-2.output_schema", schema())
        .set("Parser-3.pattern", "{city} has {people}")
        .edges(&[
            ("ChatInput-1.message", "StructuredOutput-2.input_value"),
            ("StructuredOutput-2.structured_output", "Parser-3.input_data"),
            ("Parser-3.parsed_text", "ChatOutput-9.input_value"),
        ])
}

fn batch() -> Draw {
    Draw::new()
        .nodes(&["ChatInput-1", "SplitText-2", "BatchRun-3", "ChatOutput-9"])
        .set("SplitText-2.clean_output", true)
        .set("BatchRun-3.column_name", "text")
        .set("BatchRun-3.system_message", "one by one")
        .edges(&[
            ("ChatInput-1.message", "SplitText-2.data_inputs"),
            ("SplitText-2.dataframe", "BatchRun-3.df"),
            ("BatchRun-3.batch_results", "ChatOutput-9.input_value"),
        ])
}

pub(crate) fn cases() -> Vec<Case> {
    let object = r#"where? {"objects": [{"city": "Ulm", "people": 7}]}"#;
    vec![
        Case::of("language model", language_model()),
        Case::of("language model: instructions", language_model().set("LanguageModel-2.system_message", "be {kind}\\nand brief")),
        Case::of("language model: limits", language_model().set("LanguageModel-2.max_tokens", 2)).input("one two three"),
        Case::of("language model: streams", language_model().set("LanguageModel-2.stream", true)),
        Case::of("language model: nothing said", language_model()).input(""),
        Case::of("language model: another", language_model())
            .tweaks(json!({"LanguageModel-2": {"model": [{"name": "gpt-4o", "provider": "OpenAI"}], "temperature": 1}})),
        Case::of("models side by side", models()),
        Case::of("agent", agent()),
        Case::of("agent: calculator", tools()).input(r#"[call evaluate_expression {"expression": "2*3"}] [call evaluate_expression {"expression": "1/0"}]"#),
        Case::of("agent: no such tool", tools()).input("[call nothing {}]"),
        Case::of("agent: wrong arguments", tools()).input("[call evaluate_expression {}]"),
        Case::of("structured output", structured()).input(object),
        Case::of("batch run", batch()).input("one\ntwo\nthree"),
    ]
}
