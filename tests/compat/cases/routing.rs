//! Which nodes run: branches, where they meet again, what nothing starts, which outputs are asked for.

use serde_json::json;

use crate::case::Case;
use crate::draw::Draw;

/// A question to an If-Else whose branches wrap it.
fn router() -> Draw {
    Draw::new()
        .nodes(&["ChatInput-1", "ConditionalRouter-2", "Prompt-3", "Prompt-4"])
        .set("ConditionalRouter-2.match_text", "yes")
        .set("Prompt-3.template", "TRUE<{x}>")
        .set("Prompt-4.template", "FALSE<{x}>")
        .set("Prompt-3.x", "")
        .set("Prompt-4.x", "")
        .edges(&[
            ("ChatInput-1.message", "ConditionalRouter-2.input_text"),
            ("ConditionalRouter-2.true_result", "Prompt-3.x"),
            ("ConditionalRouter-2.false_result", "Prompt-4.x"),
        ])
}

/// Both branches meet in a prompt.
fn rejoined() -> Draw {
    router()
        .nodes(&["Prompt-5", "ChatOutput-6"])
        .set("Prompt-5.template", "a={a} b={b}")
        .set("Prompt-5.a", "defA")
        .set("Prompt-5.b", "defB")
        .edges(&[
            ("Prompt-3.prompt", "Prompt-5.a"),
            ("Prompt-4.prompt", "Prompt-5.b"),
            ("Prompt-5.prompt", "ChatOutput-6.input_value"),
        ])
}

/// One output feeds two fields of one node, and one node feeds several.
fn fan() -> Draw {
    Draw::new()
        .nodes(&[
            "ChatInput-1",
            "Prompt-2",
            "Prompt-3",
            "CombineText-4",
            "ChatOutput-5",
            "TextOutput-6",
        ])
        .set("Prompt-2.template", "{a}/{b}")
        .set("Prompt-3.template", "three: {a}")
        .edges(&[
            ("ChatInput-1.message", "Prompt-2.a"),
            ("ChatInput-1.message", "Prompt-2.b"),
            ("ChatInput-1.message", "Prompt-3.a"),
            ("Prompt-2.prompt", "CombineText-4.text1"),
            ("Prompt-3.prompt", "CombineText-4.text2"),
            ("CombineText-4.combined_text", "ChatOutput-5.input_value"),
            ("CombineText-4.combined_text", "TextOutput-6.input_value"),
        ])
}

/// An If-Else behind a branch of another, and a merge of all three ends.
fn nested() -> Draw {
    router()
        .nodes(&[
            "ConditionalRouter-5",
            "Prompt-6",
            "Prompt-7",
            "Prompt-8",
            "ChatOutput-9",
        ])
        .set("ConditionalRouter-5.operator", "contains")
        .set("ConditionalRouter-5.match_text", "may")
        .set("Prompt-6.template", "MAYBE<{x}>")
        .set("Prompt-7.template", "NO<{x}>")
        .set("Prompt-8.template", "{a}|{b}|{c}")
        .set("Prompt-8.a", "A")
        .set("Prompt-8.b", "B")
        .set("Prompt-8.c", "C")
        .edges(&[
            ("Prompt-4.prompt", "ConditionalRouter-5.input_text"),
            ("ConditionalRouter-5.true_result", "Prompt-6.x"),
            ("ConditionalRouter-5.false_result", "Prompt-7.x"),
            ("Prompt-3.prompt", "Prompt-8.a"),
            ("Prompt-6.prompt", "Prompt-8.b"),
            ("Prompt-7.prompt", "Prompt-8.c"),
            ("Prompt-8.prompt", "ChatOutput-9.input_value"),
        ])
}

/// Only one of the two outputs leads anywhere.
fn one_sided() -> Draw {
    Draw::new()
        .nodes(&["ChatInput-1", "ConditionalRouter-2", "ChatOutput-3"])
        .set("ConditionalRouter-2.match_text", "yes")
        .edges(&[
            ("ChatInput-1.message", "ConditionalRouter-2.input_text"),
            ("ConditionalRouter-2.true_result", "ChatOutput-3.input_value"),
        ])
}

/// A node is fed by a branch and from beside the router.
fn half_fed() -> Draw {
    router().nodes(&["CombineText-5", "ChatOutput-6"]).edges(&[
        ("Prompt-3.prompt", "CombineText-5.text1"),
        ("ChatInput-1.message", "CombineText-5.text2"),
        ("CombineText-5.combined_text", "ChatOutput-6.input_value"),
    ])
}

fn says_something_else() -> Draw {
    let draw = router();
    draw.set("ConditionalRouter-2.true_case_message", "so it is")
        .set("ConditionalRouter-2.false_case_message", "so it is not")
}

/// An input that nothing follows keeps other roots from running.
fn unconnected() -> Draw {
    Draw::new()
        .nodes(&["ChatInput-1", "TextInput-2", "TextOutput-3"])
        .set("TextInput-2.input_value", "never said")
        .edge("TextInput-2.text", "TextOutput-3.input_value")
}

fn two_inputs() -> Draw {
    Draw::new()
        .nodes(&[
            "ChatInput-1",
            "ChatInput-2",
            "TextInput-3",
            "Prompt-4",
            "ChatOutput-5",
        ])
        .set("ChatInput-2.input_value", "second")
        .set("TextInput-3.input_value", "third")
        .set("Prompt-4.template", "{a} {b} {c}")
        .edges(&[
            ("ChatInput-1.message", "Prompt-4.a"),
            ("ChatInput-2.message", "Prompt-4.b"),
            ("TextInput-3.text", "Prompt-4.c"),
            ("Prompt-4.prompt", "ChatOutput-5.input_value"),
        ])
}

/// Two of the three outputs of one node are used.
fn several_outputs() -> Draw {
    Draw::new()
        .nodes(&[
            "TextInput-1",
            "TypeConverter-2",
            "Parser-3",
            "TextOutput-4",
            "Parser-5",
            "TextOutput-6",
        ])
        .set("TextInput-1.input_value", "{\"a\": 1}")
        .set("TypeConverter-2.auto_parse", true)
        .set("Parser-3.pattern", "data {a}")
        .set("Parser-5.pattern", "row {a}")
        .edges(&[
            ("TextInput-1.text", "TypeConverter-2.input_data"),
            ("TypeConverter-2.data_output", "Parser-3.input_data"),
            ("TypeConverter-2.dataframe_output", "Parser-5.input_data"),
            ("Parser-3.parsed_text", "TextOutput-4.input_value"),
            ("Parser-5.parsed_text", "TextOutput-6.input_value"),
        ])
}

fn webhook() -> Draw {
    Draw::new()
        .nodes(&[
            "Webhook-1",
            "Parser-2",
            "ChatOutput-3",
            "ChatInput-4",
            "ChatOutput-5",
        ])
        .set("Webhook-1.data", "{\"who\": \"me\"}")
        .set("Parser-2.pattern", "it was {who}")
        .edges(&[
            ("Webhook-1.output_data", "Parser-2.input_data"),
            ("Parser-2.parsed_text", "ChatOutput-3.input_value"),
            ("ChatInput-4.message", "ChatOutput-5.input_value"),
        ])
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::of("if-else: true", router()).input("yes"),
        Case::of("if-else: false", router()),
        Case::of("if-else: true, rejoined", rejoined()).input("yes"),
        Case::of("if-else: false, rejoined", rejoined()),
        Case::of("if-else: nested, first", nested()).input("yes"),
        Case::of("if-else: nested, second", nested()).input("maybe"),
        Case::of("if-else: nested, third", nested()),
        Case::of("if-else: one output, taken", one_sided()).input("yes"),
        Case::of("if-else: one output, not taken", one_sided()),
        Case::of("if-else: beside a branch, taken", half_fed()).input("yes"),
        Case::of("if-else: beside a branch, not taken", half_fed()),
        Case::of("if-else: other words, true", says_something_else()).input("yes"),
        Case::of("if-else: other words, false", says_something_else()),
        Case::of("one output to several inputs", fan()),
        Case::of("an input that nothing follows", unconnected()),
        Case::of("several inputs, chat", two_inputs()),
        Case::of("several inputs, text", two_inputs()).input_type("text"),
        Case::of("several inputs, any", two_inputs()).input_type("any"),
        Case::of("several outputs of one node", several_outputs()),
        Case::of("a webhook before a chat", webhook()),
        Case::of("tweaks by id", fan())
            .tweaks(json!({"Prompt-2": {"template": "{b}{a}!"}, "CombineText-4": {"delimiter": "++"}})),
        Case::of("tweaks by name", fan()).tweaks(json!({"Combine Text": {"delimiter": "++"}})),
        Case::of("tweaks for all", fan()).tweaks(json!({"delimiter": "--"})),
        Case::of("tweaks of a fed field", fan()).tweaks(json!({"CombineText-4": {"text1": "mine"}})),
    ];
    let operators = [
        ("equals", "Hello", "hello"),
        ("not equals", "Hello", "hello"),
        ("contains", "say hello", "hell"),
        ("starts with", "hello you", "hello"),
        ("ends with", "say hello", "hello"),
        ("regex", "say hello 42", r".*\d+$"),
        ("regex", "say hello", r"("),
        ("less than", "4", "10"),
        ("less than", "x", "10"),
        ("less than or equal", "10", "10.0"),
        ("greater than", "4", "10"),
        ("greater than or equal", " 11 ", "10"),
    ];
    for (operator, said, text) in operators {
        for case_sensitive in [true, false] {
            let draw = rejoined()
                .set("ConditionalRouter-2.operator", operator)
                .set("ConditionalRouter-2.match_text", text)
                .set("ConditionalRouter-2.case_sensitive", case_sensitive);
            let name = format!(
                "if-else: {said:?} {operator} {text:?}{}",
                if case_sensitive { "" } else { " any case" }
            );
            cases.push(Case::of(&name, draw).input(said));
        }
    }
    cases
}
