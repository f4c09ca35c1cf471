//! What components make of values: each native component that needs no model.

use serde_json::json;

use crate::case::Case;
use crate::draw::Draw;

const ROWS: &str = r#"[{"name": "a", "n": 1}, {"name": "b", "n": 2.5}, {"name": null, "n": null}]"#;
const OBJECT: &str = r#"{"text": "one\\ntwo", "n": 1.50, "deep": {"list": [1, null, true]}}"#;
const LINES: &str = "first line\\nsecond, with a comma\\n\\nlast";

/// A text, as some type.
fn converted(text: &str, auto_parse: bool) -> Draw {
    Draw::new()
        .nodes(&["TextInput-1", "TypeConverter-2"])
        .set("TextInput-1.input_value", text)
        .set("TypeConverter-2.auto_parse", auto_parse)
        .edge("TextInput-1.text", "TypeConverter-2.input_data")
}

fn types() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in [
        ("rows", ROWS),
        ("object", OBJECT),
        ("lines", LINES),
        ("csv", "a,b\\n1,x\\n2,y"),
        ("nothing", ""),
    ] {
        for auto_parse in [true, false] {
            let parsed = if auto_parse { " parsed" } else { "" };
            cases.push(Case::of(
                &format!("type convert: {name}{parsed}"),
                converted(text, auto_parse),
            ));
            for (kind, output) in [("data", "data_output"), ("table", "dataframe_output")] {
                let draw = converted(text, auto_parse)
                    .nodes(&[
                        "TypeConverter-3",
                        "Parser-4",
                        "Parser-5",
                        "SplitText-6",
                        "ChatOutput-7",
                    ])
                    .set("Parser-4.pattern", "<{name}{text}>")
                    .set("Parser-5.mode", "Stringify")
                    .edges(&[
                        (&format!("TypeConverter-2.{output}"), "TypeConverter-3.input_data"),
                        (&format!("TypeConverter-2.{output}"), "Parser-4.input_data"),
                        (&format!("TypeConverter-2.{output}"), "Parser-5.input_data"),
                        (&format!("TypeConverter-2.{output}"), "SplitText-6.data_inputs"),
                        (&format!("TypeConverter-2.{output}"), "ChatOutput-7.input_value"),
                    ]);
                cases.push(Case::of(&format!("a {kind} of {name}{parsed}"), draw));
                let chat = converted(text, auto_parse).nodes(&["ChatOutput-7"]);
                let chat = chat.edge(&format!("TypeConverter-2.{output}"), "ChatOutput-7.input_value");
                cases.push(Case::of(&format!("a {kind} of {name}{parsed}, said"), chat));
            }
        }
    }
    cases
}

fn split(separator: &str, size: i64, overlap: i64, keep: &str) -> Case {
    let draw = Draw::new()
        .nodes(&["ChatInput-1", "SplitText-2", "Parser-3", "ChatOutput-4"])
        .set("SplitText-2.separator", separator)
        // Without it rows carry when and in which run the message was made.
        .set("SplitText-2.clean_output", true)
        .set("SplitText-2.chunk_size", size)
        .set("SplitText-2.chunk_overlap", overlap)
        .set("SplitText-2.keep_separator", keep)
        .set("Parser-3.pattern", "[{text}]")
        .set("Parser-3.sep", "")
        .edges(&[
            ("ChatInput-1.message", "SplitText-2.data_inputs"),
            ("SplitText-2.dataframe", "Parser-3.input_data"),
            ("Parser-3.parsed_text", "ChatOutput-4.input_value"),
        ]);
    let name = format!("split text: {separator:?} {size}/{overlap} keep {keep}");
    Case::of(&name, draw).input("one two  three,four\nfive six\n\nseven")
}

fn prompt(template: &str, mustache: bool) -> Case {
    let draw = Draw::new()
        .nodes(&["ChatInput-1", "Prompt-2", "ChatOutput-3"])
        .set("Prompt-2.template", template)
        .set("Prompt-2.use_double_brackets", mustache)
        .set("Prompt-2.x", "")
        .set("Prompt-2.y", "a {x} {{y}} b")
        .edges(&[
            ("ChatInput-1.message", "Prompt-2.x"),
            ("Prompt-2.prompt", "ChatOutput-3.input_value"),
        ]);
    Case::of(
        &format!("prompt: {template:?}{}", if mustache { " mustache" } else { "" }),
        draw,
    )
}

fn calculator(expression: &str) -> Case {
    let draw = Draw::new()
        .nodes(&[
            "ChatInput-1",
            "Calculator-2",
            "Parser-3",
            "ChatOutput-4",
            "ChatOutput-5",
        ])
        .set("Parser-3.mode", "Stringify")
        .edges(&[
            ("ChatInput-1.message", "Calculator-2.expression"),
            ("Calculator-2.result", "Parser-3.input_data"),
            ("Calculator-2.result", "ChatOutput-4.input_value"),
            ("Parser-3.parsed_text", "ChatOutput-5.input_value"),
        ]);
    Case::of(&format!("calculator: {expression}"), draw).input(expression)
}

fn texts() -> Draw {
    Draw::new()
        .nodes(&["TextInput-1", "CombineText-2", "TextOutput-3", "ChatOutput-4"])
        .set("TextInput-1.input_value", "a\\tb é日本 \\\"q\\\"")
        .set("CombineText-2.text1", "first\\n")
        .set("CombineText-2.delimiter", "\\n--\\n")
        .edges(&[
            ("TextInput-1.text", "CombineText-2.text2"),
            ("CombineText-2.combined_text", "TextOutput-3.input_value"),
            ("CombineText-2.combined_text", "ChatOutput-4.input_value"),
        ])
}

fn file(path: &str) -> Case {
    let draw = Draw::new()
        .nodes(&["File-1", "ChatOutput-2"])
        .mark("File-1.path", "file_path", json!([path]))
        .edge("File-1.message", "ChatOutput-2.input_value");
    Case::of(&format!("read file: {path}"), draw)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = types();
    cases.extend([
        split("\n", 1000, 200, "False"),
        split(" ", 5, 0, "False"),
        split(",", 12, 4, "Start"),
        split(" ", 9, 3, "End"),
        split("", 7, 2, "True"),
        split("\\n", 20, 5, "False"),
        prompt("say {x} and {y}", false),
        prompt("{{x}} {x} {{{x}}}", false),
        prompt("say {{x}} and {{y}} {x}", true),
        prompt("no variables }} {{", false),
        calculator("2**10/3"),
        calculator("1/0"),
        calculator("1+"),
        calculator("abs(-1)"),
        Case::of("texts", texts()),
        Case::of("texts, typed", texts()).input_type("text"),
        file("report.txt"),
    ]);
    for data in [
        "",
        "{}",
        r#"{"a": [1, {"b": null}], "z": 1.50}"#,
        "[1, 2]",
        "text",
        r#""quoted""#,
    ] {
        let draw = Draw::new()
            .nodes(&["Webhook-1", "Parser-2", "ChatOutput-3"])
            .set("Webhook-1.data", data)
            .set("Parser-2.mode", "Stringify")
            .edges(&[
                ("Webhook-1.output_data", "Parser-2.input_data"),
                ("Parser-2.parsed_text", "ChatOutput-3.input_value"),
            ]);
        cases.push(Case::of(&format!("webhook: {data}"), draw));
    }
    cases
}
