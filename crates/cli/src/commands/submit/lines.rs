//! The lines of a batch file, one run each.

#[cfg(any(test, fuzzing))]
#[path = "lines/fuzz.rs"]
pub(crate) mod fuzz;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};

use serde_json::{Map, Value};

use crate::failure::{Failure, Result};

/// One run of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Its line in the file, from 1.
    pub number: u64,
    pub run: Map<String, Value>,
}

/// A batch file being read.
pub(super) enum Lines {
    Ndjson {
        reader: Box<dyn BufRead + Send>,
        number: u64,
        file: String,
    },
    Csv {
        reader: Box<csv::Reader<Box<dyn Read + Send>>>,
        columns: Vec<Column>,
        file: String,
    },
}

/// What a CSV column means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
    Label(String),
    Variable(String),
    Tweak { component: String, field: String },
}

const TEXTS: [&str; 7] = [
    "input",
    "flow",
    "session_id",
    "queue",
    "priority",
    "run_at",
    "idempotency_key",
];
const NUMBERS: [&str; 4] = ["delay_s", "timeout_s", "expires_in_s", "max_attempts"];

impl Lines {
    /// Opens a file; `-` is NDJSON on stdin.
    pub(super) fn open(file: &str) -> Result<Self> {
        let source: Box<dyn Read + Send> = if file == "-" {
            Box::new(stdin())
        } else {
            Box::new(
                File::open(file).map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))?,
            )
        };
        let csv = std::path::Path::new(file)
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        Self::new(source, csv, file)
    }

    fn new(source: Box<dyn Read + Send>, csv: bool, file: &str) -> Result<Self> {
        let file = file.to_owned();
        if !csv {
            return Ok(Self::Ndjson {
                reader: Box::new(BufReader::with_capacity(1 << 16, source)),
                number: 0,
                file,
            });
        }
        let mut reader = csv::ReaderBuilder::new().from_reader(source);
        let headers = reader
            .headers()
            .map_err(|error| Failure::usage(format!("{file}: {error}")))?
            .clone();
        let columns: Vec<Column> = headers
            .iter()
            .map(|name| {
                column(name.trim_start_matches('\u{feff}').trim())
                    .map_err(|why| Failure::usage(format!("{file}: {why}")))
            })
            .collect::<Result<_>>()?;
        if !columns.contains(&Column::Text("input")) {
            return Err(Failure::usage(format!("{file}: there is no column `input`"))
                .advise("flowfleet submit --help"));
        }
        Ok(Self::Csv {
            reader: Box::new(reader),
            columns,
            file,
        })
    }

    /// The next run; blank lines are skipped.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        match self {
            Self::Ndjson { reader, number, file } => loop {
                let mut text = Vec::new();
                let read = reader.read_until(b'\n', &mut text);
                let read = read.map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))?;
                if read == 0 {
                    return Ok(None);
                }
                *number += 1;
                if text.trim_ascii().is_empty() {
                    continue;
                }
                let run = from_json(&text)
                    .map_err(|why| Failure::usage(format!("{file}, line {number}: {why}")))?;
                return Ok(Some(Line { number: *number, run }));
            },
            Self::Csv {
                reader,
                columns,
                file,
            } => {
                let mut record = csv::StringRecord::new();
                let more = reader.read_record(&mut record);
                if !more.map_err(|error| Failure::usage(format!("{file}: {error}")))? {
                    return Ok(None);
                }
                let number = record.position().map_or(0, csv::Position::line);
                let run = from_record(columns, &record)
                    .map_err(|why| Failure::usage(format!("{file}, line {number}: {why}")))?;
                Ok(Some(Line { number, run }))
            }
        }
    }
}

fn from_json(text: &[u8]) -> std::result::Result<Map<String, Value>, String> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(run)) => Ok(run),
        Ok(Value::String(input)) => Ok(Map::from_iter([("input".to_owned(), input.into())])),
        Ok(_) => {
            Err("a line is a JSON object with the fields of a run, or a JSON string, its input".to_owned())
        }
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn column(name: &str) -> std::result::Result<Column, String> {
    if let Some(known) = TEXTS.into_iter().find(|known| *known == name) {
        return Ok(Column::Text(known));
    }
    if let Some(known) = NUMBERS.into_iter().find(|known| *known == name) {
        return Ok(Column::Number(known));
    }
    match name.split_once('.') {
        Some(("label", key)) if !key.is_empty() => return Ok(Column::Label(key.to_owned())),
        Some(("var", key)) if !key.is_empty() => return Ok(Column::Variable(key.to_owned())),
        Some(("tweak", path)) => {
            if let Some((component, field)) = path
                .rsplit_once('.')
                .filter(|(c, f)| !c.is_empty() && !f.is_empty())
            {
                return Ok(Column::Tweak {
                    component: component.to_owned(),
                    field: field.to_owned(),
                });
            }
        }
        _ => {}
    }
    Err(format!(
        "the column {name:?} is not known: use {}, {}, label.NAME, var.NAME or tweak.COMPONENT.FIELD",
        TEXTS.join(", "),
        NUMBERS.join(", ")
    ))
}

fn from_record(
    columns: &[Column],
    record: &csv::StringRecord,
) -> std::result::Result<Map<String, Value>, String> {
    let mut run = Map::new();
    for (column, text) in columns.iter().zip(record) {
        // An empty cell says nothing, except that an input may be empty.
        if text.is_empty() && *column != Column::Text("input") {
            continue;
        }
        match column {
            Column::Text(name) => {
                run.insert((*name).to_owned(), text.into());
            }
            Column::Number(name) => {
                let number = serde_json::from_str::<serde_json::Number>(text.trim());
                let number = number.map_err(|_| format!("{name}: {text:?} is not a number"))?;
                run.insert((*name).to_owned(), number.into());
            }
            Column::Label(key) => put(&mut run, &["labels", key], text),
            Column::Variable(key) => put(&mut run, &["variables", key], text),
            Column::Tweak { component, field } => put(&mut run, &["tweaks", component, field], text),
        }
    }
    Ok(run)
}

/// Sets a text deep in objects.
fn put(run: &mut Map<String, Value>, path: &[&str], text: &str) {
    match path {
        [] => {}
        [key] => {
            run.insert((*key).to_owned(), text.into());
        }
        [key, rest @ ..] => {
            let inner = run.entry((*key).to_owned()).or_insert_with(|| Map::new().into());
            if let Value::Object(inner) = inner {
                put(inner, rest, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &'static str, csv: bool) -> Result<Vec<(u64, Value)>> {
        let mut lines = Lines::new(Box::new(text.as_bytes()), csv, "f")?;
        let mut all = Vec::new();
        while let Some(line) = lines.next()? {
            all.push((line.number, line.run.into()));
        }
        Ok(all)
    }

    #[test]
    fn ndjson() {
        let all = read(
            "\"a\"\n\n{\"input\": {\"x\": 1}, \"queue\": \"q\"}\r\n\"last\"",
            false,
        )
        .unwrap();
        assert_eq!(
            all,
            [
                (1, json!({"input": "a"})),
                (3, json!({"input": {"x": 1}, "queue": "q"})),
                (4, json!({"input": "last"}))
            ]
        );
        for (text, line) in [
            ("\"a\"\n{", "line 2"),
            ("17", "line 1"),
            ("\"a\"\n\n[]", "line 3"),
        ] {
            assert!(read(text, false).unwrap_err().message.contains(line), "{text}");
        }
    }

    #[test]
    fn csv() {
        let all = read(
            "input,priority,delay_s,label.team,tweak.Prompt-1.template,var.KEY\n\
             \"a, b\nc\",high,1.5,x,Say {it},v\n,,,,,\n",
            true,
        )
        .unwrap();
        assert_eq!(
            all,
            [
                (
                    2,
                    json!({"input": "a, b\nc", "priority": "high", "delay_s": 1.5, "labels": {"team": "x"},
                    "tweaks": {"Prompt-1": {"template": "Say {it}"}}, "variables": {"KEY": "v"}})
                ),
                (4, json!({"input": ""})),
            ]
        );
    }

    #[test]
    fn csv_refusals() {
        for (text, said) in [
            ("question\na\n", "\"question\" is not known"),
            ("queue\nq\n", "no column `input`"),
            ("input,delay_s\na,soon\n", "line 2: delay_s"),
            ("input,queue\na\n", "f:"),
            ("input,tweak.x\na,b\n", "\"tweak.x\" is not known"),
        ] {
            let message = read(text, true).unwrap_err().message;
            assert!(message.contains(said), "{text}: {message}");
        }
    }
}
