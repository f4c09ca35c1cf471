//! Split Text: text cut at a separator, and the pieces put together again up to a size, with some of what came before.

use std::collections::VecDeque;

use serde_json::{Map, Value as Json};

use super::table::Frame;
use super::{params, wants};
use crate::component::{Kind, NodeCall, NodeError, NodeOutput, Param};
use crate::template::to_text;
use crate::value::Value;

const OUTPUT: &str = "dataframe";
const TEXT: &str = "text";
const MOST_CHUNKS: usize = 200_000;
const MOST_BYTES: usize = 64 << 20;
/// Columns that come first, and those that come last.
const CONTENT: [&str; 7] = [
    "text", "content", "output", "summary", "result", "answer", "response",
];
const SYSTEM: [&str; 9] = [
    "timestamp",
    "sender",
    "sender_name",
    "session_id",
    "context_id",
    "flow_id",
    "files",
    "error",
    "edit",
];

/// Text, and what is known of it.
type Document = (String, Map<String, Json>);

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let documents = documents(call)?;
    let splitter = Splitter::of(call)?;
    let clean = params::boolean(call, "clean_output", false);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for (text, about) in documents {
        let about = if clean { Map::new() } else { about };
        let size: usize = about.iter().map(|(name, value)| name.len() + size(value)).sum();
        for chunk in splitter.split(&text) {
            bytes += chunk.len() + size;
            if rows.len() >= MOST_CHUNKS || bytes > MOST_BYTES {
                let detail =
                    format!("makes more than {MOST_CHUNKS} chunks or {MOST_BYTES} bytes: use larger chunks");
                return Err(invalid(call, "chunk_size", &detail));
            }
            let mut row = about.clone();
            row.entry(TEXT).or_insert_with(|| chunk.into());
            rows.push(row);
        }
    }
    let mut output = NodeOutput::default();
    if wants(call, OUTPUT) {
        output
            .values
            .insert(OUTPUT.to_owned(), Value::Table(ordered(rows)));
    }
    Ok(output)
}

fn invalid(call: &NodeCall, field: &str, detail: &str) -> NodeError {
    NodeError::permanent(
        "field_invalid",
        format!("field {field} of {} {detail}", call.node.display_name),
    )
}

fn size(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(size).sum(),
        Json::Object(entries) => entries.iter().map(|(key, value)| key.len() + size(value)).sum(),
        _ => 8,
    }
}

fn documents(call: &NodeCall) -> Result<Vec<Document>, NodeError> {
    let key = params::text(call, "text_key", TEXT)?;
    // The key counts for tables and for one piece of data alone.
    let single = matches!(
        call.params.get("data_inputs"),
        Some(Param::Edge(Value::Data(_) | Value::Table(_)))
    );
    let document = |mut row: Map<String, Json>| {
        let text = row
            .shift_remove(if single { key.as_str() } else { TEXT })
            .map_or_else(String::new, |text| to_text(&text));
        (text, row)
    };
    let several;
    let values = match call.params.get("data_inputs") {
        Some(Param::Edges(values)) => values.as_slice(),
        Some(Param::Edge(value)) => {
            several = [value.clone()];
            &several
        }
        _ => &[],
    };
    match values {
        [Value::Table(rows)] if rows.is_empty() => {
            Err(invalid(call, "data_inputs", "is given an empty table"))
        }
        [Value::Table(rows)] => {
            let frame = Frame::of(rows)?;
            let Some(place) = frame.columns().iter().position(|column| *column == key) else {
                return Err(invalid(
                    call,
                    "text_key",
                    &format!("is {key:?}, but the table has no such column"),
                ));
            };
            let texts = frame
                .typed_rows()
                .map(|row| row.get(place).map(|(_, cell)| to_text(cell)).unwrap_or_default());
            Ok(texts.zip(frame.kept().map(|row| document(row).1)).collect())
        }
        [] => Err(invalid(call, "data_inputs", "must be connected to another node")),
        values => {
            let data = values.iter().filter_map(|value| match value {
                Value::Data(data) => Some(document(data.clone())),
                Value::Message(message) => Some(document(message.to_object())),
                Value::Table(_) | Value::Json(_) => None,
            });
            let data: Vec<Document> = data.collect();
            match data.is_empty() {
                true => Err(invalid(call, "data_inputs", "must be a message, data or a table")),
                false => Ok(data),
            }
        }
    }
}

/// Columns like text first, those of messages last.
fn ordered(rows: Vec<Map<String, Json>>) -> Vec<Map<String, Json>> {
    let rank = |name: &str| {
        let lower = name.to_lowercase();
        if CONTENT.contains(&lower.as_str()) {
            0
        } else if SYSTEM.contains(&lower.as_str()) || name.starts_with('_') {
            2
        } else {
            1
        }
    };
    let sorted = |row: Map<String, Json>| {
        let mut cells: Vec<(String, Json)> = row.into_iter().collect();
        cells.sort_by_key(|(name, _)| rank(name));
        cells.into_iter().collect()
    };
    rows.into_iter().map(sorted).collect()
}

/// Where a separator stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nowhere,
    Start,
    End,
}

/// Sizes are in characters.
#[derive(Debug)]
struct Splitter {
    separator: String,
    keep: Keep,
    size: usize,
    overlap: usize,
}

impl Splitter {
    fn of(call: &NodeCall) -> Result<Self, NodeError> {
        let separator = match params::text(call, "separator", "\n")?.as_str() {
            "/n" => "\n".to_owned(),
            "/t" => "\t".to_owned(),
            other => other.replace("\\n", "\n"),
        };
        let keep = match params::json(call, "keep_separator") {
            Some(Json::Bool(true)) => Keep::Start,
            Some(Json::String(word)) => match word.to_lowercase().as_str() {
                "false" | "" => Keep::Nowhere,
                // The component of before lfx 1.13 knew the word in small letters only, which nobody could choose.
                "end" if call.kind == Kind::SplitText || word == "end" => Keep::End,
                _ => Keep::Start,
            },
            _ => Keep::Nowhere,
        };
        let whole = |field: &str, default: i64| params::integer(call, field).unwrap_or(default);
        let size = usize::try_from(whole("chunk_size", 1000))
            .ok()
            .filter(|size| *size > 0);
        let size = size.ok_or_else(|| invalid(call, "chunk_size", "must be 1 at least"))?;
        let overlap = usize::try_from(whole("chunk_overlap", 200))
            .ok()
            .filter(|overlap| *overlap <= size);
        let overlap =
            overlap.ok_or_else(|| invalid(call, "chunk_overlap", "must be between 0 and the chunk size"))?;
        Ok(Self {
            separator,
            keep,
            size,
            overlap,
        })
    }

    fn split(&self, text: &str) -> Vec<String> {
        let separator = self.separator.as_str();
        let pieces: Vec<&str> = match self.keep {
            _ if separator.is_empty() => text.split("").collect(),
            Keep::Nowhere => text.split(separator).collect(),
            Keep::End => text.split_inclusive(separator).collect(),
            Keep::Start => {
                let mut from = 0;
                let mut pieces = Vec::new();
                for (place, _) in text.match_indices(separator) {
                    pieces.push(&text[from..place]);
                    from = place;
                }
                pieces.push(&text[from..]);
                pieces
            }
        };
        let between = if self.keep == Keep::Nowhere { separator } else { "" };
        self.merged(pieces.into_iter().filter(|piece| !piece.is_empty()), between)
    }

    /// Puts pieces together while they fit; a chunk begins with the last pieces of the one before, as far as they
    /// fit into the overlap.
    fn merged<'t>(&self, pieces: impl Iterator<Item = &'t str>, between: &str) -> Vec<String> {
        let gap = between.chars().count();
        let mut chunks = Vec::new();
        let mut open: VecDeque<(&str, usize)> = VecDeque::new();
        let mut total = 0_usize;
        let close = |open: &VecDeque<(&str, usize)>, chunks: &mut Vec<String>| {
            let texts: Vec<&str> = open.iter().map(|(text, _)| *text).collect();
            let text = texts.join(between);
            let text = text.trim();
            if !text.is_empty() {
                chunks.push(text.to_owned());
            }
        };
        for piece in pieces {
            let length = piece.chars().count();
            let more = |open: &VecDeque<(&str, usize)>| length + if open.is_empty() { 0 } else { gap };
            if total + more(&open) > self.size && !open.is_empty() {
                close(&open, &mut chunks);
                while total > self.overlap || (total + more(&open) > self.size && total > 0) {
                    let Some((_, first)) = open.pop_front() else { break };
                    total = total.saturating_sub(first + if open.is_empty() { 0 } else { gap });
                }
            }
            total += more(&open);
            open.push_back((piece, length));
        }
        close(&open, &mut chunks);
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, edge, field};
    use super::*;
    use crate::value::Message;
    use serde_json::json;

    fn split(input: Value, params: &[(&str, Param)]) -> Result<Json, &'static str> {
        let mut all = vec![("data_inputs", edge(input))];
        all.extend_from_slice(params);
        let output = run(&call(Kind::SplitText, &all)).map_err(|error| error.code)?;
        match &output.values[OUTPUT] {
            Value::Table(rows) => Ok(json!(rows)),
            other => panic!("{other:?}"),
        }
    }

    fn chunks(text: &str, separator: &str, size: i64, overlap: i64, keep: &str) -> Vec<String> {
        let params = [
            ("separator", field(separator)),
            ("chunk_size", field(size)),
            ("chunk_overlap", field(overlap)),
            ("keep_separator", field(keep)),
            ("clean_output", field(true)),
        ];
        let rows = split(Message::of(text).into(), &params).unwrap();
        let texts = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["text"].as_str().unwrap().to_owned());
        texts.collect()
    }

    /// Each expectation is what langchain's splitter gives.
    #[test]
    fn chunks_of_text() {
        for (text, separator, size, overlap, keep, expected) in [
            ("a b c d", " ", 3, 0, "False", &["a b", "c d"][..]),
            ("a b c d", " ", 3, 1, "False", &["a b", "b c", "c d"]),
            ("one two three", " ", 4, 2, "False", &["one", "two", "three"]),
            ("a.b.c", ".", 3, 0, "Start", &["a.b", ".c"]),
            ("a.b.c", ".", 3, 0, "True", &["a.b", ".c"]),
            ("a.b.c", ".", 3, 0, "End", &["a.", "b.c"]),
            ("a\n\n\nb", "/n", 10, 0, "False", &["a\nb"]),
            ("日本語", "", 2, 1, "False", &["日本", "本語"]),
            ("   ", " ", 2, 1, "False", &[]),
        ] {
            assert_eq!(
                chunks(text, separator, size, overlap, keep),
                expected,
                "{text:?} {separator:?} {keep}"
            );
        }
        let mut early = call(
            Kind::EarlySplitText,
            &[
                ("data_inputs", edge(Message::of("a.b.c"))),
                ("separator", field(".")),
                ("chunk_size", field(3)),
                ("chunk_overlap", field(0)),
                ("keep_separator", field("End")),
                ("clean_output", field(true)),
            ],
        );
        early.wanted = vec![OUTPUT.to_owned()].into();
        let rows = run(&early).unwrap();
        let Value::Table(rows) = &rows.values[OUTPUT] else {
            panic!()
        };
        assert_eq!(json!(rows), json!([{"text": "a.b"}, {"text": ".c"}]));
    }

    #[test]
    fn what_is_known_of_text_goes_along() {
        let data = |value: Json| Value::Data(value.as_object().cloned().unwrap());
        let rows = split(
            data(json!({"sender": "x", "a": 1, "text": "p\nq", "_b": 2})),
            &[("chunk_size", field(1)), ("chunk_overlap", field(0))],
        );
        let row = |text: &str| json!({"text": text, "a": 1, "sender": "x", "_b": 2});
        assert_eq!(rows.unwrap().to_string(), json!([row("p"), row("q")]).to_string());
        let rows = split(data(json!({"c": "p", "text": "t"})), &[("text_key", field("c"))]);
        assert_eq!(rows.unwrap(), json!([{"text": "t"}]));
        let table = Value::Table(vec![
            json!({"text": "p", "n": 1}).as_object().cloned().unwrap(),
            json!({"text": 5, "n": null}).as_object().cloned().unwrap(),
        ]);
        let rows = split(table.clone(), &[]).unwrap();
        assert_eq!(rows, json!([{"text": "p", "n": 1.0}, {"text": "5", "n": null}]));
        assert_eq!(split(table, &[("text_key", field("z"))]), Err("field_invalid"));
        let params = [("text_key", field("z")), ("clean_output", field(true))];
        assert_eq!(
            split(Message::of("p").into(), &params).unwrap(),
            json!([{"text": "p"}])
        );
        assert_eq!(split(Value::Table(Vec::new()), &[]), Err("field_invalid"));
        assert_eq!(split(Value::Json(json!("x")), &[]), Err("field_invalid"));
        for (size, overlap) in [(0, 0), (5, 6), (5, -1)] {
            let sizes = [("chunk_size", field(size)), ("chunk_overlap", field(overlap))];
            assert_eq!(split(Message::of("x").into(), &sizes), Err("field_invalid"));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_separators_is_lost(text in "[a-c. ]{0,40}", size in 1_i64..12, overlap in 0_i64..4, keep in "(False|Start|End)") {
            let chunks = chunks(&text, ".", size, overlap.min(size), &keep);
            for piece in text.split('.').map(str::trim).filter(|piece| !piece.is_empty()) {
                proptest::prop_assert!(chunks.iter().any(|chunk| chunk.contains(piece)), "{piece:?} in {chunks:?}");
            }
        }
    }
}
