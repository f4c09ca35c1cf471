//! JSON and CSV as the libraries under Langflow write them: the bytes of files are part of what a flow does.

use std::io;

use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use serde_json::{Map, Value as Json};

use super::table::Frame;
use crate::component::NodeError;
use crate::template::{python_json, python_repr, to_text};
use crate::value::{text_of_bytes, without_bytes};

/// Without white space, as orjson writes it.
pub(super) fn compact(value: &Json) -> String {
    write(value, Spelled(CompactFormatter, orjson_number))
}

/// Indented by two, as orjson writes it.
pub(super) fn pretty(value: &Json) -> String {
    write(value, Spelled(PrettyFormatter::new(), orjson_number))
}

/// On one line, in ASCII and with sorted keys, as Python's own library writes it.
pub(super) fn sorted(value: &Json) -> String {
    fn sort(value: &Json) -> Json {
        match value {
            Json::Object(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(name, _)| *name);
                let entries = entries
                    .into_iter()
                    .map(|(name, value)| (name.clone(), sort(value)));
                Json::Object(entries.collect())
            }
            Json::Array(items) => items.iter().map(sort).collect(),
            value => value.clone(),
        }
    }
    ascii(&python_json(&sort(value)), '~')
}

/// Without white space, as Python writes it where nothing is escaped.
pub(super) fn dense(value: &Json) -> String {
    write(
        value,
        Spelled(CompactFormatter, |number| python_repr(&Json::from(number))),
    )
}

/// Indented by two and in ASCII, as Python's own library writes it.
pub(super) fn python(value: &Json) -> String {
    ascii(
        &write(
            value,
            Spelled(PrettyFormatter::new(), |number| python_repr(&Json::from(number))),
        ),
        '~',
    )
}

fn write<F: Formatter>(value: &Json, formatter: F) -> String {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing to memory does not fail.
    let _ = without_bytes(value).serialize(&mut writer);
    String::from_utf8(out).unwrap_or_default()
}

/// A sign before each exponent that has none.
fn orjson_number(number: f64) -> String {
    let text = Json::from(number).to_string();
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with(['-', '+']) => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

/// Escapes what comes after `last`.
fn ascii(text: &str, last: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c <= last {
            out.push(c);
        } else {
            let mut units = [0; 2];
            out.extend(
                c.encode_utf16(&mut units)
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}")),
            );
        }
    }
    out
}

/// A formatter with another way to write fractions.
struct Spelled<F>(F, fn(f64) -> String);

impl<F: Formatter> Formatter for Spelled<F> {
    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(self.1(value).as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

/// A table as a list of objects, as pandas writes it: indented by two, in ASCII, ten decimals at most.
pub(super) fn records(rows: &[Map<String, Json>]) -> Result<String, NodeError> {
    let frame = Frame::of(rows)?;
    let gap = |cell: Json| {
        if cell.as_str() == Some(super::table::GAP) {
            Json::Null
        } else {
            cell
        }
    };
    // A row has all columns.
    let complete = |row: Vec<(&str, &Json)>| {
        let cells = row
            .into_iter()
            .map(|(name, cell)| (name.to_owned(), gap(cell.clone())));
        Json::Object(cells.collect())
    };
    let mut out = String::new();
    nested(&mut out, &frame.typed_rows().map(complete).collect(), 0);
    Ok(out)
}

fn nested(out: &mut String, value: &Json, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    match value {
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                line(out, depth + 1);
                nested(out, item, depth + 1);
            }
            out.push_str(if items.is_empty() { "\n" } else { "" });
            line(out, depth);
            out.push(']');
        }
        Json::Object(entries) if text_of_bytes(entries).is_some() => {
            out.push_str(&slashed(text_of_bytes(entries).unwrap_or_default()));
        }
        Json::Object(entries) => {
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                line(out, depth + 1);
                out.push_str(&format!("{}:", slashed(key)));
                nested(out, item, depth + 1);
            }
            out.push_str(if entries.is_empty() { "\n" } else { "" });
            line(out, depth);
            out.push('}');
        }
        Json::String(text) => out.push_str(&slashed(text)),
        Json::Number(number) if number.is_f64() => {
            out.push_str(&rounded(number.as_f64().unwrap_or_default()));
        }
        other => out.push_str(&other.to_string()),
    }
}

fn slashed(text: &str) -> String {
    ascii(&Json::from(text).to_string(), '\u{7f}').replace('/', "\\/")
}

fn rounded(number: f64) -> String {
    if number.abs() >= 1e17 {
        return orjson_number(number);
    }
    let text = format!("{number:.10}");
    let text = text.trim_end_matches('0');
    let text = text
        .strip_suffix('.')
        .map_or_else(|| text.to_owned(), |whole| format!("{whole}.0"));
    if text == "-0.0" { "0.0".to_owned() } else { text }
}

/// A table with a line of column names, if `head` says so. Gaps are nothing.
pub(super) fn csv(rows: &[Map<String, Json>], head: bool) -> Result<String, NodeError> {
    let frame = Frame::of(rows)?;
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        // A line of one empty cell would be no line.
        let cells = if cells == [""] {
            vec!["\"\"".to_owned()]
        } else {
            cells
        };
        out.push_str(&cells.join(","));
        out.push('\n');
    };
    if head {
        line(frame.columns().iter().map(|name| quoted(name)).collect());
    }
    for row in frame.typed_rows() {
        line(row.into_iter().map(|(_, cell)| quoted(&shown(cell))).collect());
    }
    Ok(out)
}

fn shown(cell: &Json) -> String {
    match cell {
        Json::Null => String::new(),
        Json::String(text) if text == super::table::GAP => String::new(),
        cell => to_text(cell),
    }
}

fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(value: &Json) -> Vec<Map<String, Json>> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row.as_object().cloned().unwrap())
            .collect()
    }

    #[test]
    fn as_orjson_and_python_write() {
        let value = json!({"a": [1, 1e16, 2.5], "é": "ü\u{7f}😀\n", "e": {}, "l": []});
        assert_eq!(
            compact(&value),
            "{\"a\":[1,1e+16,2.5],\"é\":\"ü\u{7f}😀\\n\",\"e\":{},\"l\":[]}"
        );
        assert_eq!(
            pretty(&value),
            "{\n  \"a\": [\n    1,\n    1e+16,\n    2.5\n  ],\n  \"é\": \"ü\u{7f}😀\\n\",\n  \"e\": {},\n  \"l\": []\n}"
        );
        assert_eq!(
            python(&value),
            "{\n  \"a\": [\n    1,\n    1e+16,\n    2.5\n  ],\n  \"\\u00e9\": \"\\u00fc\\u007f\\ud83d\\ude00\\n\",\n  \"e\": {},\n  \"l\": []\n}"
        );
    }

    /// Each expectation was written by pandas 2.3.
    #[test]
    fn as_pandas_writes() {
        let table = rows(&json!([
            {"a": 1, "b": "é/\"\n\u{7f}<", "c": 2.5, "e": [1, {"x": 1.0}]},
            {"a": null, "b": "x", "c": 1e-12, "e": {}},
            {"c": 123_456.123_456_789},
            {"c": 1e20},
            {"c": 1e15},
        ]));
        assert_eq!(
            records(&table[..3]).unwrap(),
            "[\n  {\n    \"a\":1.0,\n    \"b\":\"\\u00e9\\/\\\"\\n\u{7f}<\",\n    \"c\":2.5,\n    \"e\":[\n      1,\n      {\n        \
             \"x\":1.0\n      }\n    ]\n  },\n  {\n    \"a\":null,\n    \"b\":\"x\",\n    \"c\":0.0,\n    \"e\":{\n\n    }\n  },\n  {\n    \
             \"a\":null,\n    \"b\":null,\n    \"c\":123456.123456789,\n    \"e\":null\n  }\n]"
        );
        assert_eq!(records(&[]).unwrap(), "[\n\n]");
        assert_eq!(
            csv(&table, true).unwrap(),
            "a,b,c,e\n1.0,\"é/\"\"\n\u{7f}<\",2.5,\"[1, {'x': 1.0}]\"\n,x,1e-12,{}\n,,123456.123456789,\n,,1e+20,\n,,1000000000000000.0,\n"
        );
        assert_eq!(csv(&[], true).unwrap(), "\n");
        assert_eq!(
            csv(&rows(&json!([{"a": ""}, {"a": "x"}])), false).unwrap(),
            "\"\"\nx\n"
        );
    }
}
