//! The arguments of a tool call as a model writes them: JSON, at times cut off before its end.

use serde_json::{Map, Value as Json};

/// The object that was meant; none if it is something else. No arguments at all are an empty object.
pub(super) fn read(text: &str) -> Option<Map<String, Json>> {
    if text.trim().is_empty() {
        return Some(Map::new());
    }
    match parse(text)? {
        Json::Object(object) => Some(object),
        _ => None,
    }
}

/// What the text says, what is open in it closed; the longest beginning that says something.
fn parse(text: &str) -> Option<Json> {
    let mut repaired = String::with_capacity(text.len() + 8);
    // Closing brackets of what is open, outermost first.
    let mut open = Vec::new();
    let (mut in_text, mut escaped) = (false, false);
    for c in text.chars() {
        if in_text {
            match c {
                '"' if !escaped => in_text = false,
                // Models break lines inside of text.
                '\n' if !escaped => {
                    repaired.push_str("\\n");
                    continue;
                }
                _ => {}
            }
            escaped = c == '\\' && !escaped;
        } else {
            match c {
                '"' => (in_text, escaped) = (true, false),
                '{' => open.push('}'),
                '[' => open.push(']'),
                // The wrong one: what comes after it cannot be meant.
                '}' | ']' if open.pop() != Some(c) => return None,
                _ => {}
            }
        }
        repaired.push(c);
    }
    if let Ok(value) = serde_json::from_str(&repaired) {
        return Some(value);
    }
    if open.is_empty() && !in_text {
        return None;
    }
    if in_text {
        if escaped {
            repaired.pop();
        }
        repaired.push('"');
    }
    let closing: String = open.iter().rev().collect();
    // Each try is a whole parse, so there are few: a key without its value, a comma, a word cut short.
    for _ in 0..MOST_CUTS {
        if let Ok(value) = serde_json::from_str(&format!("{repaired}{closing}")) {
            return Some(value);
        }
        repaired.pop()?;
    }
    None
}

const MOST_CUTS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_cut_off_is_completed() {
        for (text, expected) in [
            ("", Some(json!({}))),
            ("{}", Some(json!({}))),
            (r#"{"e": "1+1"}"#, Some(json!({"e": "1+1"}))),
            (r#"{"e": "1+1""#, Some(json!({"e": "1+1"}))),
            (r#"{"e": "1+"#, Some(json!({"e": "1+"}))),
            (r#"{"e": "1+1", "y"#, Some(json!({"e": "1+1"}))),
            (r#"{"e": [1, {"a": "b"#, Some(json!({"e": [1, {"a": "b"}]}))),
            (r#"{"e": "#, Some(json!({}))),
            (r#"{"a": tru"#, Some(json!({}))),
            ("{\"e\": \"a\nb\"}", Some(json!({"e": "a\nb"}))),
            ("[1]", None),
            ("\"x\"", None),
            ("null", None),
            ("{]", None),
            ("nonsense", None),
        ] {
            assert_eq!(read(text).map(Json::Object), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_not(text in "\\PC{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn a_beginning_is_never_more_than_the_whole(cut in 0_usize..60) {
            let whole = r#"{"expression": "1 + \"2\"", "list": [1, 2, {"a": null}]}"#;
            let beginning = &whole[..cut.min(whole.len())];
            let read = read(beginning).unwrap_or_default();
            proptest::prop_assert!(read.keys().all(|key| ["expression", "list"].contains(&key.as_str())));
        }
    }
}
