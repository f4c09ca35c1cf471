//! Write File: a message, data or a table as a file that stays, named by the node.
//!
//! Files go where those of the run lie ([`crate::files::Files`]). Other storages and spreadsheets are the Python
//! engine's.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{dumps, params, read_file, single};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput, Param};
use crate::files::{FileError, MAX_FILE_BYTES};
use crate::node::Field;
use crate::value::{Message, Value};

/// Why a node with these fields needs the Python engine.
pub(crate) fn needs_python(fields: &BTreeMap<String, Field>) -> Option<String> {
    let value = |name: &str| fields.get(name).map(|field| &field.value);
    let location = value("storage_location")
        .map(read_file::location)
        .unwrap_or_default();
    if !matches!(location.as_str(), "" | "Local") {
        return Some(format!("writes to {location}"));
    }
    let format = value("local_format").and_then(Json::as_str);
    (format == Some("excel")).then(|| "writes a spreadsheet".to_owned())
}

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let location = params::json(call, "storage_location").map(read_file::location);
    if location.as_deref() != Some("Local") {
        return Err(invalid(
            call,
            "storage_location",
            "must be Local; other storages need the Python engine",
        ));
    }
    let Some(Param::Edge(value)) = call.params.get("input") else {
        return Err(invalid(call, "input", "must be connected to another node"));
    };
    let (what, formats) = match value {
        Value::Message(_) => ("Message", &["txt", "html", "json", "markdown"]),
        Value::Data(_) => ("Data", &["csv", "excel", "json", "markdown"]),
        Value::Table(_) => ("DataFrame", &["csv", "excel", "json", "markdown"]),
        Value::Json(_) => return Err(invalid(call, "input", "must be a message, data or a table")),
    };
    let format = match params::text(call, "file_format", "")? {
        format if format.is_empty() => params::text(call, "local_format", "json")?,
        format => format,
    };
    if !formats.contains(&format.as_str()) {
        let detail = format!(
            "is {format:?}, but a {what} can be written as {}",
            formats.join(", ")
        );
        return Err(invalid(call, "local_format", &detail));
    }
    let name = named(call, &format)?;
    let before = match params::boolean(call, "append_mode", false) {
        true => existing(ctx, &name).await?,
        false => None,
    };
    let content = content(call, value, &format, before.as_deref())?;
    if content.len() > MAX_FILE_BYTES {
        return Err(read_file::failed(&name, &FileError::TooLarge(MAX_FILE_BYTES)));
    }
    let place = ctx.files.write(&name, Bytes::from(content)).await;
    let place = place.map_err(|error| read_file::failed(&name, &error))?;
    let did = if before.is_some() {
        "appended to"
    } else {
        "saved successfully as"
    };
    Ok(single(
        call,
        "message",
        Message::of(format!("{what} {did} '{name}' at {place}")),
    ))
}

fn invalid(call: &NodeCall, field: &str, detail: &str) -> NodeError {
    NodeError::permanent(
        "field_invalid",
        format!("field {field} of {} {detail}", call.node.display_name),
    )
}

/// The file's name: a plain one, with the ending of its format.
fn named(call: &NodeCall, format: &str) -> Result<String, NodeError> {
    let name = params::text(call, "file_name", "")?.trim().to_owned();
    if name.is_empty()
        || name == "."
        || name == ".."
        || name.starts_with('~')
        || name.contains(['/', '\\', ':', '\0'])
    {
        return Err(invalid(
            call,
            "file_name",
            "must be the name of a file, without a folder",
        ));
    }
    let ending = name
        .trim_start_matches('.')
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_lowercase());
    Ok(match ending {
        Some(ending) if ending == format => name,
        _ => format!("{name}.{format}"),
    })
}

/// What the file has now, if it is there.
async fn existing(ctx: &NodeContext, name: &str) -> Result<Option<String>, NodeError> {
    let bytes = match ctx.files.read(name, MAX_FILE_BYTES).await {
        Ok(bytes) => bytes,
        Err(FileError::Missing) => return Ok(None),
        Err(error) => return Err(read_file::failed(name, &error)),
    };
    match String::from_utf8(bytes.into()) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(read_file::failed(
            name,
            &FileError::Refused("it is not UTF-8 text, so nothing can be added".to_owned()),
        )),
    }
}

fn content(call: &NodeCall, value: &Value, format: &str, before: Option<&str>) -> Result<String, NodeError> {
    let joined = |separator: &str, text: String| match before {
        Some(before) => format!("{before}{separator}{text}"),
        None => text,
    };
    let unsupported = || {
        invalid(
            call,
            "local_format",
            &format!("is {format}, which needs the Python engine for such a value"),
        )
    };
    match (value, format) {
        (Value::Message(message), "txt" | "html") => Ok(joined("\n", message.text.clone())),
        (Value::Message(message), "markdown") => {
            Ok(joined("\n\n", format!("**Message:**\n\n{}", message.text)))
        }
        (Value::Message(message), _) => {
            let entry = json!({"message": message.text});
            Ok(before.map_or_else(
                || dumps::python(&entry),
                |before| dumps::python(&with(before, [entry.clone()])),
            ))
        }
        (Value::Data(data), "json") => {
            let entry = Json::Object(data.clone());
            Ok(before.map_or_else(
                || dumps::pretty(&entry),
                |before| dumps::python(&with(before, [entry.clone()])),
            ))
        }
        (Value::Table(rows), "csv") => Ok(joined("", dumps::csv(rows, before.is_none())?)),
        (Value::Table(rows), "json") => {
            let written = dumps::records(rows)?;
            let Some(before) = before else { return Ok(written) };
            // Numbers as they were written.
            match serde_json::from_str(&written) {
                Ok(Json::Array(entries)) => Ok(dumps::python(&with(before, entries))),
                _ => Err(unsupported()),
            }
        }
        _ => Err(unsupported()),
    }
}

/// The list that a file holds, with more. A file that holds no JSON counts as empty.
fn with(before: &str, entries: impl IntoIterator<Item = Json>) -> Json {
    let mut list = match serde_json::from_str(before.trim()) {
        Ok(Json::Array(list)) => list,
        Ok(Json::Object(object)) => vec![Json::Object(object)],
        _ => Vec::new(),
    };
    list.extend(entries);
    Json::Array(list)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Stored, call, edge, field, text_of, with_files};
    use super::*;
    use crate::component::Kind;

    fn table() -> Value {
        let rows = json!([{"a": 1, "b": "x,y"}, {"a": null, "b": "é"}]);
        Value::Table(
            rows.as_array()
                .unwrap()
                .iter()
                .map(|row| row.as_object().cloned().unwrap())
                .collect(),
        )
    }

    fn data() -> Value {
        Value::Data(json!({"k": [1, 2.5], "t": "é"}).as_object().cloned().unwrap())
    }

    async fn saved(
        files: &std::sync::Arc<Stored>,
        input: Value,
        format: &str,
        params: &[(&str, Param)],
    ) -> Result<String, &'static str> {
        let local = json!([{"name": "Local"}]);
        let mut all = vec![
            ("storage_location", field(local)),
            ("local_format", field(format)),
            ("file_name", field("out")),
            ("input", edge(input)),
        ];
        all.extend_from_slice(params);
        let output = run(&call(Kind::SaveToFile, &all), &with_files(files)).await;
        output
            .map(|output| text_of(&output, "message"))
            .map_err(|error| error.code)
    }

    /// As lfx 1.13 writes the same values, twice.
    #[tokio::test]
    async fn files_and_what_is_added() {
        let twice = "[\n  {\n    \"message\": \"\\u00e9\"\n  },\n  {\n    \"message\": \"\\u00e9\"\n  }\n]";
        let cases: [(Value, &str, &str, &str); 7] = [
            (Message::of("é").into(), "txt", "é", "é\né"),
            (Message::of("é").into(), "html", "é", "é\né"),
            (
                Message::of("é").into(),
                "json",
                "{\n  \"message\": \"\\u00e9\"\n}",
                twice,
            ),
            (
                Message::of("é").into(),
                "markdown",
                "**Message:**\n\né",
                "**Message:**\n\né\n\n**Message:**\n\né",
            ),
            (
                data(),
                "json",
                "{\n  \"k\": [\n    1,\n    2.5\n  ],\n  \"t\": \"é\"\n}",
                "[\n  {\n    \"k\": [\n      1,\n      2.5\n    ],\n    \"t\": \"\\u00e9\"\n  },\n  {\n    \"k\": [\n      1,\n      2.5\n    ],\n    \
                 \"t\": \"\\u00e9\"\n  }\n]",
            ),
            (
                table(),
                "csv",
                "a,b\n1.0,\"x,y\"\n,é\n",
                "a,b\n1.0,\"x,y\"\n,é\n1.0,\"x,y\"\n,é\n",
            ),
            (
                table(),
                "json",
                "[\n  {\n    \"a\":1.0,\n    \"b\":\"x,y\"\n  },\n  {\n    \"a\":null,\n    \"b\":\"\\u00e9\"\n  }\n]",
                "[\n  {\n    \"a\": 1.0,\n    \"b\": \"x,y\"\n  },\n  {\n    \"a\": null,\n    \"b\": \"\\u00e9\"\n  },\n  {\n    \"a\": 1.0,\n    \
                 \"b\": \"x,y\"\n  },\n  {\n    \"a\": null,\n    \"b\": \"\\u00e9\"\n  }\n]",
            ),
        ];
        for (value, format, first, second) in cases {
            let files = Stored::with(&[]);
            let what = if matches!(value, Value::Table(_)) {
                "DataFrame"
            } else {
                value.type_name()
            };
            let name = format!("out.{format}");
            let text = || String::from_utf8(files.0.lock().unwrap()[&name].to_vec()).unwrap();
            let told = saved(&files, value.clone(), format, &[]).await.unwrap();
            assert_eq!(
                told,
                format!("{what} saved successfully as '{name}' at memory/{name}")
            );
            assert_eq!(text(), first, "{format}");
            let told = saved(&files, value, format, &[("append_mode", field(true))])
                .await
                .unwrap();
            assert_eq!(told, format!("{what} appended to '{name}' at memory/{name}"));
            assert_eq!(text(), second, "{format}");
        }
    }

    #[tokio::test]
    async fn names_and_formats() {
        let files = Stored::with(&[]);
        let hello = || Value::from(Message::of("hi"));
        for (name, expected) in [
            ("a.TXT", "a.TXT"),
            (" a.md ", "a.md.txt"),
            (".txt", ".txt.txt"),
            ("ä", "ä.txt"),
        ] {
            let told = saved(&files, hello(), "txt", &[("file_name", field(name))])
                .await
                .unwrap();
            assert!(told.contains(&format!("'{expected}'")), "{name}: {told}");
        }
        for name in ["", "..", "a/b", "/a", "..\\a", "C:a", "~", "a\0"] {
            let refused = saved(&files, hello(), "txt", &[("file_name", field(name))]).await;
            assert_eq!(refused, Err("field_invalid"), "{name}");
        }
        assert_eq!(saved(&files, hello(), "csv", &[]).await, Err("field_invalid"));
        assert_eq!(saved(&files, table(), "txt", &[]).await, Err("field_invalid"));
        assert_eq!(saved(&files, table(), "excel", &[]).await, Err("field_invalid"));
        let elsewhere = [("storage_location", field(json!([{"name": "AWS"}])))];
        assert_eq!(
            saved(&files, hello(), "txt", &elsewhere).await,
            Err("field_invalid")
        );
    }
}
