//! JSON as Python's own library reads it: which texts it takes for JSON, and which of those no value here can hold.

use serde_json::Value as Json;

/// Why a text gave no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Python takes it for no JSON either.
    NotJson,
    /// Python reads what cannot be held here.
    Beyond(&'static str),
}

/// `json.loads(text)`.
pub(super) fn loads(text: &str) -> Result<Json, Unread> {
    let error = match serde_json::from_str(text) {
        Ok(value) if !has_odd_numbers(text) => return Ok(value),
        Ok(_) => return Err(Unread::Beyond("a number of more than 64 bits")),
        Err(error) => error,
    };
    let said = error.to_string();
    if said.starts_with("recursion limit") {
        return Err(Unread::Beyond("values nested more than 127 deep"));
    }
    if said.starts_with("number out of range") {
        return Err(Unread::Beyond("a number that is infinite"));
    }
    match lenient(text).filter(|plain| serde_json::from_str::<Json>(plain).is_ok()) {
        Some(_) => Err(Unread::Beyond(
            "numbers or characters that JSON does not have (NaN, Infinity, half a surrogate pair)",
        )),
        None => Err(Unread::NotJson),
    }
}

/// The tokens of a text outside of its strings that could be numbers.
fn bare(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let mut escaped = false;
    let part = move |c: char| {
        if inside {
            inside = escaped || c != '"';
            escaped = !escaped && c == '\\';
            return true;
        }
        inside = c == '"';
        !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    text.split(part).filter(|token| !token.is_empty())
}

/// Whether there are whole numbers that do not keep their value or their type.
fn has_odd_numbers(text: &str) -> bool {
    let odd = |token: &str| {
        let whole = token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        whole && (token == "-0" || token.parse::<i64>().is_err() && token.parse::<u64>().is_err())
    };
    bare(text).any(odd)
}

/// The text with something plain in the place of what only Python reads; nothing if there is no such thing.
fn lenient(text: &str) -> Option<String> {
    const NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    for token in bare(text) {
        // A token is a part of the text.
        let at = token.as_ptr() as usize - rest.as_ptr() as usize;
        plain.push_str(&rest[..at]);
        plain.push_str(if NUMBERS.contains(&token) { "0" } else { token });
        rest = &rest[at + token.len()..];
    }
    plain.push_str(rest);
    let mut from = 0;
    while let Some(at) = plain[from..].find("\\u").map(|at| from + at) {
        let half = plain.get(at + 2..at + 4).is_some_and(|digits| {
            digits.starts_with(['d', 'D']) && digits.ends_with(|c: char| c >= '8' && c.is_ascii_hexdigit())
        });
        if half {
            plain.replace_range(at + 2..at + 4, "00");
        }
        from = at + 2;
    }
    (plain != text).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each expectation was checked with Python 3.11.
    #[test]
    fn texts_are_read_as_python_reads_them() {
        for (text, expected) in [
            ("{\"a\": [1, 2.5, null]}", Ok(json!({"a": [1, 2.5, null]}))),
            (" 12 ", Ok(json!(12))),
            ("18446744073709551615", Ok(json!(u64::MAX))),
            (
                "\"12345678901234567890123 NaN \\\" 1\"",
                Ok(json!("12345678901234567890123 NaN \" 1")),
            ),
            ("\"\\ud83d\\ude00\"", Ok(json!("😀"))),
            ("", Err(Unread::NotJson)),
            ("nan", Err(Unread::NotJson)),
            ("{'a': 1}", Err(Unread::NotJson)),
            ("<p>NaN</p>", Err(Unread::NotJson)),
            ("[1,]", Err(Unread::NotJson)),
            ("\u{feff}1", Err(Unread::NotJson)),
            ("01", Err(Unread::NotJson)),
        ] {
            assert_eq!(loads(text), expected, "{text}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in [
            "18446744073709551616",
            "[-0]",
            "1e400",
            "{\"a\": NaN}",
            "[-Infinity, \"x\"]",
            "\"\\ud800\"",
            deep.as_str(),
        ] {
            assert!(matches!(loads(text), Err(Unread::Beyond(_))), "{text}");
        }
    }
}
