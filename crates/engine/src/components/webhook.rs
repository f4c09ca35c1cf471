//! Webhook: what was sent to it, as data.

use serde_json::{Map, Value as Json};

use super::{params, wants};
use crate::component::{NodeCall, NodeError, NodeOutput};
use crate::value::Value;

const OUTPUT: &str = "output_data";

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let sent = params::text(call, "data", "")?;
    let mut output = NodeOutput::default();
    if wants(call, OUTPUT) {
        let data = received(&sent)?;
        output.values.insert(OUTPUT.to_owned(), Value::Data(data));
    }
    Ok(output)
}

/// An object is the data itself; what is not JSON stands in it as its `payload`.
fn received(sent: &str) -> Result<Map<String, Json>, NodeError> {
    if sent.is_empty() {
        return Ok(Map::new());
    }
    // Fields unescape line breaks; a text that is nothing else gets its own back.
    let text = sent.replace("\"\n\"", "\"\\n\"");
    match serde_json::from_str(&text) {
        Ok(Json::Object(data)) => Ok(data),
        Ok(Json::Null) => Ok(Map::new()),
        Ok(_) => Err(refused(
            "must be a JSON object: a list, a text or a number alone is no data",
        )),
        // Read by Python, which knows numbers and texts that JSON does not: passing them on as text would be a guess.
        Err(error) if only_pythons(&text, &error) => Err(refused(&format!(
            "holds what JSON cannot carry from node to node: {error}"
        ))),
        Err(_) => Ok(Map::from_iter([("payload".to_owned(), sent.into())])),
    }
}

fn refused(detail: &str) -> NodeError {
    NodeError::permanent("webhook_payload", format!("the payload of the webhook {detail}"))
}

/// Whether Python's parser takes a text that is refused here.
fn only_pythons(text: &str, error: &serde_json::Error) -> bool {
    let said = error.to_string();
    let limits = ["number out of range", "hex escape", "recursion limit"];
    if limits.iter().any(|limit| said.contains(limit)) {
        return true;
    }
    // The same text with zeros for what is no number in JSON.
    let mut plain = String::with_capacity(text.len());
    let (mut quoted, mut escaped, mut found) = (false, false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .iter()
            .find(|word| !quoted && rest.starts_with(**word));
        if let Some(word) = word {
            plain.push('0');
            found = true;
            rest = &rest[word.len()..];
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        plain.push(c);
        rest = &rest[c.len_utf8()..];
    }
    found && serde_json::from_str::<serde::de::IgnoredAny>(&plain).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, field};
    use super::*;
    use crate::component::Kind;
    use serde_json::json;

    /// What Langflow 1.13's component was seen to make of each.
    #[test]
    fn payloads_are_read_as_langflow_reads_them() {
        for (sent, expected) in [
            ("", json!({})),
            ("null", json!({})),
            ("{}", json!({})),
            (r#"{"a": 1, "b": [true]}"#, json!({"a": 1, "b": [true]})),
            (r#"{"a": 1, "a": 2}"#, json!({"a": 2})),
            (
                r#"{"data": {"x": 1}, "text_key": "q"}"#,
                json!({"data": {"x": 1}, "text_key": "q"}),
            ),
            ("{\"a\": \"\n\"}", json!({"a": "\n"})),
            ("{\"a\": \"b\nc\"}", json!({"payload": "{\"a\": \"b\nc\"}"})),
            ("x=1&y=2", json!({"payload": "x=1&y=2"})),
            (" ", json!({"payload": " "})),
            ("{\"a\":1}{", json!({"payload": "{\"a\":1}{"})),
            ("\u{feff}{}", json!({"payload": "\u{feff}{}"})),
            ("0x1", json!({"payload": "0x1"})),
            ("say NaN", json!({"payload": "say NaN"})),
        ] {
            let output = run(&call(Kind::Webhook, &[("data", field(sent))])).unwrap();
            assert_eq!(
                output.values[OUTPUT],
                Value::Data(expected.as_object().cloned().unwrap()),
                "{sent}"
            );
        }
        let unset = run(&call(Kind::Webhook, &[])).unwrap();
        assert_eq!(unset.values[OUTPUT], Value::Data(Map::new()));
    }

    #[test]
    fn what_cannot_be_data_is_refused() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for sent in [
            "[1]",
            "3",
            "\"x\"",
            "true",
            "0",
            "\"\n\"",
            r#"{"a": NaN}"#,
            r#"{"a": -Infinity, "b": Infinity}"#,
            r#"{"a": "\"NaN", "b": NaN}"#,
            r#"{"a": 1e400}"#,
            r#"{"a": "\ud800"}"#,
            &deep,
        ] {
            let error = run(&call(Kind::Webhook, &[("data", field(sent))])).unwrap_err();
            assert_eq!(
                (error.code, error.retryable),
                ("webhook_payload", false),
                "{sent}"
            );
        }
    }
}
