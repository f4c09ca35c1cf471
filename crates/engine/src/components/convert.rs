//! Any value as text, the way outputs and the Parser's "Stringify" show it.

use serde_json::Value as Json;

use super::table;
use crate::component::NodeError;
use crate::template;
use crate::value::{Value, without_bytes};

/// The text of a value. `clean` drops empty rows and lines of tables.
pub(super) fn to_text(value: &Value, clean: bool) -> Result<String, NodeError> {
    match value {
        Value::Message(message) => Ok(message.text.clone()),
        Value::Data(data) => {
            let pretty = serde_json::to_string_pretty(&without_bytes(&Json::Object(data.clone()))).map_err(
                |error| {
                    NodeError::permanent(
                        "value_invalid",
                        format!("the data cannot be shown as text: {error}"),
                    )
                },
            )?;
            Ok(tidy(&format!("```json\n{pretty}\n```")))
        }
        Value::Table(rows) => table::markdown(rows, clean),
        Value::Json(value) => Ok(tidy(&template::to_text(value))),
    }
}

/// Empties lines of only white space, and keeps at most one empty line in a row.
fn tidy(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let blank = rest.len() - rest.trim_start().len();
        if blank == rest.len() {
            break;
        }
        // Blank lines go, up to the newline that ends the last of them.
        if let Some(newline) = rest[..blank].rfind('\n') {
            rest = &rest[newline..];
        }
        let end = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        kept.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    while kept.contains("\n\n\n") {
        kept = kept.replace("\n\n\n", "\n\n");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blank_lines_are_tidied() {
        let cases = [
            ("a\n\n\n\nb", "a\n\nb"),
            ("  \na", "\na"),
            ("a\n   \nb", "a\n\nb"),
            ("\n\n\n", ""),
            ("a\r\n\r\n\r\nb", "a\r\n\nb"),
            ("   ", ""),
            ("a\n \n \n b", "a\n\n b"),
            ("x\t\n\t\ny", "x\t\n\ny"),
            ("str\n\n\n\n\nx\n   \ny", "str\n\nx\n\ny"),
            ("a\n  b\n", "a\n  b\n"),
            ("a\n\n", "a\n"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(tidy(text), expected, "{text:?}");
        }
    }

    #[test]
    fn values() {
        let data = json!({"text": "x", "n": 1, "l": [1, {}], "e": {}})
            .as_object()
            .cloned()
            .unwrap();
        let expected = "```json\n{\n  \"text\": \"x\",\n  \"n\": 1,\n  \"l\": [\n    1,\n    {}\n  ],\n  \"e\": {}\n}\n```";
        assert_eq!(to_text(&Value::Data(data), true).unwrap(), expected);
        assert_eq!(to_text(&Value::Json(json!(5)), true).unwrap(), "5");
        assert_eq!(
            to_text(&Value::Json(json!({"data": {"a": 1}})), true).unwrap(),
            "{'data': {'a': 1}}"
        );
    }
}
