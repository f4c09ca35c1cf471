//! JSON Operations: the same random operations through Langflow's lfx and through this engine.

use serde_json::{Value as Json, json};

use crate::draw::Draw;
use crate::lfx::{Chance, differences, number, ours, theirs};
use crate::run::{Runner, plan};

const NODE: &str = "DataOperations-1";

const GIVEN: [&str; 9] = [
    r#"{"a": 1, "b": [1, {"a": "x"}], "c": {"a": {"a": null}, "b": 2.0}}"#,
    r#"{"a": [2], "text": "words"}"#,
    r#"{"data": {"a": 1, "b": "é"}, "a": true}"#,
    r#"{"data": 5, "text_key": "a", "default_value": "z", "b": "x"}"#,
    r#"{"b": "1", "a": "it's", "é": {}, "c": []}"#,
    r#"{"old_key": 1, "key": {"old_key": 2}, "new_key": 3}"#,
    r#"[{"a": 1}, {"a": 2}]"#,
    "plain text",
    "{}",
];
const KEYS: [&str; 10] = [
    "a", "b", "c", "data", "text", "é", "old_key", "text_key", "", "records",
];
const FIELDS: [(&str, &str); 5] = [
    ("Select Keys", "select_keys_input"),
    ("Remove Keys", "remove_keys_input"),
    ("Rename Keys", "rename_keys_input"),
    ("Append or Update", "append_update_data"),
    ("Combine", ""),
];

/// Data of one or several texts, an operation, and a chat output.
fn draw(chance: &mut Chance) -> Draw {
    let (name, field) = *chance.one(&FIELDS);
    let operations = match chance.below(12) {
        0 => json!([]),
        1 => json!([{"name": name}, {"name": "Combine"}]),
        _ => json!([{"name": name, "icon": "x"}]),
    };
    let mut draw = Draw::new()
        .released("ChatInput-1", "ChatInput")
        .released(NODE, "DataOperations")
        .released("ChatOutput-1", "ChatOutput")
        .set(NODE, "operations", operations);
    let several = if name == "Combine" { chance.below(2) } else { 0 };
    for number in 0..=several {
        let node = format!("TypeConverterComponent-{number}");
        draw = draw
            .released(&node, "TypeConverterComponent")
            .set(&node, "auto_parse", true);
        draw = match number {
            0 => draw.edge("ChatInput-1", "message", &node, "input_data"),
            _ => {
                let text = format!("TextInput-{number}");
                draw.released(&text, "TextInput")
                    .set(&text, "input_value", *chance.one(&GIVEN))
                    .edge(&text, "text", &node, "input_data")
            }
        };
        draw = draw.edge(&node, "data_output", NODE, "data");
    }
    // As the editor leaves it.
    draw.body(NODE)["template"]["data"]["list"] = (name == "Combine" || chance.below(2) == 0).into();
    if !field.is_empty() {
        draw.body(NODE)["template"][field]["show"] = (chance.below(8) != 0).into();
        draw = draw.set(NODE, field, said(chance, field));
    }
    // A list that stands for a text is text in Type Convert, and an error in Langflow.
    if name == "Combine" || chance.below(2) == 0 {
        return draw.edge(NODE, "data_output", "ChatOutput-1", "input_value");
    }
    draw.released("TypeConverterComponent-out", "TypeConverterComponent")
        .edge(NODE, "data_output", "TypeConverterComponent-out", "input_data")
        .edge(
            "TypeConverterComponent-out",
            "message_output",
            "ChatOutput-1",
            "input_value",
        )
}

fn said(chance: &mut Chance, field: &str) -> Json {
    let keys = chance.some(&KEYS, 3);
    if field.ends_with("keys_input") && !field.starts_with("rename") {
        return json!(keys);
    }
    let listed = chance.below(2) == 0;
    let pairs = keys.iter().map(|key| (*key, *chance.one(&KEYS)));
    match listed {
        true => pairs
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect(),
        false => pairs
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_those_of_lfx() {
    let mut chance = Chance::new();
    let flows: Vec<(Draw, &str)> = (0..number("FLOWFLEET_TEST_CASES", 60))
        .map(|_| (draw(&mut chance), *chance.one(&GIVEN)))
        .collect();
    let cases: Vec<(&Draw, &str)> = flows.iter().map(|(draw, input)| (draw, *input)).collect();
    let theirs = theirs(&cases, &[]);
    let mut ended = Vec::new();
    for ((draw, input), theirs) in cases.iter().zip(&theirs) {
        let runner = Runner::new(input);
        let mut made = ours(draw, &runner).await;
        if made != *theirs {
            // lfx keeps edges in a set: which of two inputs comes first is chance there.
            let mut turned = (*draw).clone();
            turned.document["data"]["edges"].as_array_mut().unwrap().reverse();
            let other = ours(&turned, &runner).await;
            made = if other == *theirs { other } else { made };
        }
        ended.push(made);
    }
    let different = differences(&cases, &ended, &theirs);
    assert!(
        different.is_empty(),
        "{} differ:\n{}",
        different.len(),
        different.join("\n")
    );
    let silent = ended.iter().filter(|ended| ended["outputs"] == json!({}));
    assert_eq!(silent.count(), 0);
    let answered = ended
        .iter()
        .filter(|ended| ended.get("outputs").is_some())
        .count();
    assert!(answered > cases.len() / 2, "only {answered} were answered");
}

#[test]
fn what_needs_python_says_so() {
    let flow = |operation: &str| {
        Draw::new()
            .released("ChatInput-1", "ChatInput")
            .released("TypeConverterComponent-1", "TypeConverterComponent")
            .released(NODE, "DataOperations")
            .released("ChatOutput-1", "ChatOutput")
            .set(NODE, "operations", json!([{"name": operation}]))
            .edge("ChatInput-1", "message", "TypeConverterComponent-1", "input_data")
            .edge("TypeConverterComponent-1", "data_output", NODE, "data")
            .edge(NODE, "data_output", "ChatOutput-1", "input_value")
    };
    for operation in ["Literal Eval", "Path Selection", "JQ Expression", "Filter Values"] {
        let said = format!("{:?}", plan(&flow(operation)).unsupported());
        assert!(said.contains(operation), "{said}");
    }
    let twice = |operation: &str| {
        let draw = flow(operation)
            .released("TypeConverterComponent-2", "TypeConverterComponent")
            .edge("ChatInput-1", "message", "TypeConverterComponent-2", "input_data")
            .edge("TypeConverterComponent-2", "data_output", NODE, "data");
        format!("{:?}", plan(&draw).unsupported())
    };
    assert!(twice("Select Keys").contains("several inputs"));
    assert_eq!(twice("Combine"), "[]");
}
