//! JSON files: their text in one line with letters taken apart, and what it says.

use serde_json::{Map, Value as Json};
use unicode_normalization::UnicodeNormalization as _;

use crate::components::dumps;

/// The document without white space. Texts at its top have their letters decomposed.
pub(super) fn normalised(text: &str) -> Result<String, String> {
    let mut value: Json =
        serde_json::from_str(text).map_err(|error| format!("is no JSON ({error}): correct it"))?;
    let decompose = |value: &mut Json| {
        if let Json::String(text) = value {
            *text = text.nfkd().collect();
        }
    };
    match &mut value {
        Json::Object(entries) => entries.values_mut().for_each(decompose),
        Json::Array(items) => items.iter_mut().for_each(decompose),
        _ => {}
    }
    Ok(dumps::compact(&value))
}

/// The object that a text says; anything else is its only value.
pub(super) fn object(text: &str) -> Map<String, Json> {
    match serde_json::from_str(text) {
        Ok(Json::Object(object)) => object,
        _ => Map::from_iter([("value".to_owned(), text.into())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each expectation was written by orjson.
    #[test]
    fn documents_are_written_again() {
        for (text, expected) in [
            (" { \"a\" : [ 1 , 2 ] } ", Some(r#"{"a":[1,2]}"#)),
            (
                "[1e16, 1.0, 1e-7, -0.0, 1.5e300, 1e20, 18446744073709551615, 0.1]",
                Some("[1e+16,1.0,1e-7,-0.0,1.5e+300,1e+20,18446744073709551615,0.1]"),
            ),
            (r#"{"a":1,"b":2,"a":3}"#, Some(r#"{"a":3,"b":2}"#)),
            (
                r#"{"a": "é", "b": ["é"]}"#,
                Some("{\"a\":\"e\u{301}\",\"b\":[\"é\"]}"),
            ),
            ("[\"ﬁ\", \"\\u00e9\\n\"]", Some("[\"fi\",\"e\u{301}\\n\"]")),
            ("\"é\"", Some("\"é\"")),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(normalised(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_the_only_value() {
        assert_eq!(Json::Object(object(r#"{"a":1}"#)), json!({"a": 1}));
        assert_eq!(Json::Object(object("[1]")), json!({"value": "[1]"}));
    }
}
