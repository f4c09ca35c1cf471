//! JSON values as Python prints them, because that is what a format string in a flow was written against.

use std::fmt::Write as _;
use std::io;

use serde::Serialize as _;
use serde_json::{Number, Value as Json};

use crate::value::{text_of_bytes, without_bytes};

/// `str(value)`.
pub(crate) fn to_text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub(crate) fn repr(value: &Json) -> String {
    let mut out = String::new();
    write_repr(&mut out, value, 0);
    out
}

/// `json.dumps(value, ensure_ascii=False)`.
pub(crate) fn json(value: &Json) -> String {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut out, Spaced);
    // Writing to memory does not fail.
    let _ = without_bytes(value).serialize(&mut writer);
    String::from_utf8(out).unwrap_or_default()
}

/// A space after each comma and colon, and numbers as Python writes them.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(float_text(value).as_bytes())
    }
}

/// Deeper values are cut: the JSON parser allows 128 levels, and fields come from outside.
const MAX_DEPTH: usize = 200;

fn write_repr(out: &mut String, value: &Json, depth: usize) {
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    match value {
        Json::Null => out.push_str("None"),
        Json::Bool(true) => out.push_str("True"),
        Json::Bool(false) => out.push_str("False"),
        Json::Number(number) => out.push_str(&number_text(number)),
        Json::String(text) => quote(out, text),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, item, depth + 1);
            }
            out.push(']');
        }
        Json::Object(object) => {
            if let Some(text) = text_of_bytes(object) {
                return quote_bytes(out, text);
            }
            out.push('{');
            for (index, (key, item)) in object.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                quote(out, key);
                out.push_str(": ");
                write_repr(out, item, depth + 1);
            }
            out.push('}');
        }
    }
}

/// `ascii(value)`: [`repr`] with everything beyond ASCII escaped.
pub(super) fn ascii(value: &Json) -> String {
    let mut out = String::new();
    for c in repr(value).chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            escape(&mut out, c);
        }
    }
    out
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_text(float),
        _ => number.to_string(),
    }
}

/// The shortest text that reads back as this number, with a fraction or an exponent of two digits at least.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent
                .strip_prefix('-')
                .map_or(('+', exponent), |digits| ('-', digits));
            format!(
                "{}e{sign}{digits:0>2}",
                mantissa.strip_suffix(".0").unwrap_or(mantissa)
            )
        }
        None => text,
    }
}

fn quote(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            c if invisible(c) => escape(out, c),
            c => out.push(c),
        }
    }
    out.push(mark);
}

/// `repr(text.encode())`.
fn quote_bytes(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push('b');
    out.push(mark);
    for byte in text.bytes() {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte if char::from(byte) == mark => {
                out.push('\\');
                out.push(mark);
            }
            b' '..=b'~' => out.push(char::from(byte)),
            byte => escape(out, char::from(byte)),
        }
    }
    out.push(mark);
}

fn escape(out: &mut String, c: char) {
    let code = u32::from(c);
    // Writing to a String cannot fail.
    let _ = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// Controls, format characters, private use and spaces other than the usual one.
fn invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_python_prints_them() {
        let cases = [
            (json!(null), "None"),
            (json!(true), "True"),
            (json!(1.0), "1.0"),
            (json!(1e20), "1e+20"),
            (json!(0.1), "0.1"),
            (json!(1e-7), "1e-07"),
            (json!(-0.0), "-0.0"),
            (json!(1e16), "1e+16"),
            (json!(1e15), "1000000000000000.0"),
            (json!(0.0001), "0.0001"),
            (json!(0.00001), "1e-05"),
            (json!(1.5e300), "1.5e+300"),
            (json!(123_456_789_012_345_678_u64), "123456789012345678"),
            (
                json!([1, "q", null, true, {"z": "it's"}]),
                r#"[1, 'q', None, True, {'z': "it's"}]"#,
            ),
            (
                json!({"a": ["x\ty\n\"'\\é\u{0}"]}),
                r#"{'a': ['x\ty\n"\'\\é\x00']}"#,
            ),
            (json!("plain 'text'"), "plain 'text'"),
            (
                crate::value::bytes("é'\n\\\t<p>\u{7f}"),
                r#"b"\xc3\xa9'\n\\\t<p>\x7f""#,
            ),
            (json!([crate::value::bytes("\"'")]), r#"[b'"\'']"#),
        ];
        for (value, expected) in cases {
            assert_eq!(to_text(&value), expected, "{value}");
        }
        assert_eq!(ascii(&json!("é\u{1F600}")), r"'\xe9\U0001f600'");
    }
}
