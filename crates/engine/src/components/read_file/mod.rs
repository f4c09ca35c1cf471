//! Read File: text files as text, as rows of what was read, or as what they say (JSON, CSV).
//!
//! Files come from the [`crate::files::Files`] of the run. Documents that need a converter, archives, and other
//! storages are the Python engine's.

pub(super) mod csv;
mod json;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::{dumps, from_node, params, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput, Param};
use crate::files::{FileError, MAX_FILE_BYTES};
use crate::node::Field;
use crate::value::{Message, Value, paths};

/// Endings that are read as text.
const TEXT: [&str; 16] = [
    "csv", "json", "txt", "md", "mdx", "yaml", "yml", "xml", "html", "htm", "py", "sh", "sql", "js", "ts",
    "tsx",
];
/// Endings of text that needs a reader which is not here.
const UNREAD: [&str; 3] = ["yaml", "yml", "xml"];
/// Endings that need a converter of documents.
const DOCUMENTS: [&str; 22] = [
    "adoc", "asciidoc", "asc", "bmp", "dotx", "dotm", "docm", "jpg", "jpeg", "png", "potx", "ppsx", "pptm",
    "potm", "ppsm", "pptx", "tiff", "xls", "xlsx", "xhtml", "webp", "pdf",
];
const ARCHIVES: [&str; 5] = ["zip", "tar", "tgz", "bz2", "gz"];
/// Files of one node.
const MOST_FILES: usize = 1_000;
/// What is told instead of a list of all of them.
const DESCRIPTION: &str = "Loads and returns the content from uploaded files.";

/// One file that was read.
#[derive(Debug)]
struct Read {
    path: String,
    bytes: Bytes,
    text: String,
    encoding: &'static str,
}

impl Read {
    /// What is known of it, as a row.
    fn row(self) -> Map<String, Json> {
        [
            ("file_path".to_owned(), self.path.into()),
            ("text".to_owned(), self.text.into()),
            ("encoding".to_owned(), self.encoding.into()),
        ]
        .into_iter()
        .collect()
    }
}

/// Why a node with these fields needs the Python engine.
pub(crate) fn needs_python(fields: &BTreeMap<String, Field>) -> Option<String> {
    let value = |name: &str| fields.get(name).map(|field| &field.value);
    let location = value("storage_location").map(location).unwrap_or_default();
    if !matches!(location.as_str(), "" | "Local") {
        return Some(format!("reads from {location}"));
    }
    if value("advanced_mode") == Some(&Json::Bool(true)) {
        return Some("converts documents".to_owned());
    }
    let files = fields.get("path").map(|field| paths(&field.file_path));
    let unread = |path: &String| {
        let ending = ending(path);
        let listed = |list: &[&str]| list.contains(&ending.as_str());
        listed(&UNREAD) || listed(&DOCUMENTS) || listed(&ARCHIVES) || ending == "docx"
    };
    let path = files.into_iter().flatten().find(unread)?;
    Some(format!("reads {}", name_of(&path)))
}

/// The storage that is selected; none is the local one.
pub(super) fn location(value: &Json) -> String {
    let entry = match value {
        Json::Array(entries) => entries.first(),
        other => Some(other),
    };
    entry
        .and_then(|entry| entry.get("name"))
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What follows the last dot of the name, in lower case.
fn ending(path: &str) -> String {
    match name_of(path).trim_start_matches('.').rsplit_once('.') {
        Some((_, ending)) => ending.to_ascii_lowercase(),
        None => String::new(),
    }
}

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let mut output = NodeOutput::default();
    let mut give = |name: &str, value: Value| drop(output.values.insert(name.to_owned(), value));
    if wants(call, "path") {
        let names = named(call)?;
        give(
            "path",
            Value::Message(from_node(call, Message::of(names.join("\n")), None)),
        );
    }
    let (message, table, object) = (
        wants(call, "message"),
        wants(call, "dataframe"),
        wants(call, "json"),
    );
    if !(message || table || object) {
        return Ok(output);
    }
    let files = read_all(call, ctx).await?;
    if message {
        give(
            "message",
            Value::Message(from_node(call, joined(call, &files)?, None)),
        );
    }
    if object {
        let first = files.first().map(|file| file.text.as_str()).unwrap_or_default();
        give("json", Value::Data(json::object(first)));
    }
    if table {
        let rows = match (call.method("dataframe"), files.first()) {
            (Some("load_files_structured"), Some(first)) if ending(&first.path) == "csv" => {
                rows(call, first)?
            }
            (Some("load_files_structured"), Some(_)) => files.into_iter().take(1).map(Read::row).collect(),
            _ => files.into_iter().map(Read::row).collect(),
        };
        give("dataframe", Value::Table(rows));
    }
    Ok(output)
}

/// What a CSV file says. Nothing is guessed of its encoding, and line ends inside of cells stay.
fn rows(call: &NodeCall, file: &Read) -> Result<Vec<Map<String, Json>>, NodeError> {
    let named = params::text(call, "text_encoding", "")?;
    let named = Some(named.trim())
        .filter(|named| !named.is_empty())
        .unwrap_or("utf-8");
    text::decode(&file.bytes, named)
        .and_then(|(text, _)| csv::read(&text))
        .map_err(|detail| unreadable(&file.path, &detail))
}

/// The text of all files, as an agent is given it.
pub(super) async fn tool(call: &NodeCall, ctx: &NodeContext) -> String {
    let text = async { joined(call, &read_all(call, ctx).await?) };
    match text.await {
        Ok(message) => message.text,
        Err(error) => format!("Error reading files: {}", error.message),
    }
}

/// What an agent is told: which files there are.
pub(super) fn description(call: &NodeCall) -> String {
    let paths = params::json(call, "path").map(paths).unwrap_or_default();
    if paths.is_empty() {
        return DESCRIPTION.to_owned();
    }
    let names: Vec<&str> = paths.iter().map(|path| name_of(path)).collect();
    format!(
        "{DESCRIPTION} Available files: {}. Call this tool to read these files.",
        names.join(", ")
    )
}

/// The paths the node names: those of connected nodes go before its own.
fn named(call: &NodeCall) -> Result<Vec<String>, NodeError> {
    let given: Vec<Option<String>> = match call.params.get("file_path") {
        Some(Param::Edge(value)) => vec![server_path(value)],
        Some(Param::Edges(values)) => values.iter().map(server_path).collect(),
        Some(Param::Field(_)) | None => Vec::new(),
    };
    let paths = if given.is_empty() {
        params::json(call, "path").map(paths).unwrap_or_default()
    } else {
        let ignores = params::boolean(call, "ignore_unspecified_files", false);
        let silent = params::boolean(call, "silent_errors", false);
        if given.iter().any(Option::is_none) && !ignores && !silent {
            return Err(invalid(call, "is given a value without a file_path"));
        }
        given.into_iter().flatten().collect()
    };
    if paths.len() > MOST_FILES {
        return Err(invalid(call, &format!("names more than {MOST_FILES} files")));
    }
    Ok(paths)
}

fn invalid(call: &NodeCall, detail: &str) -> NodeError {
    NodeError::permanent("field_invalid", format!("{} {detail}", call.node.display_name))
}

fn server_path(value: &Value) -> Option<String> {
    let path = match value {
        Value::Message(message) => Some(message.text.as_str()),
        Value::Data(data) => data.get("file_path").and_then(Json::as_str),
        Value::Table(_) | Value::Json(_) => None,
    };
    path.filter(|path| !path.is_empty()).map(str::to_owned)
}

/// Reads what the node names; at least one file.
async fn read_all(call: &NodeCall, ctx: &NodeContext) -> Result<Vec<Read>, NodeError> {
    let encoding = params::text(call, "text_encoding", "")?;
    let silent = params::boolean(call, "silent_errors", false);
    let ignores = params::boolean(call, "ignore_unsupported_extensions", true);
    let (mut files, mut bytes, mut named_any) = (Vec::new(), 0_usize, false);
    for path in named(call)? {
        let ending = ending(&path);
        if ending == "docx"
            || [&UNREAD[..], &DOCUMENTS, &ARCHIVES]
                .iter()
                .any(|list| list.contains(&&*ending))
        {
            let detail = "is of a kind that only the Python engine reads; give it text, CSV, JSON or HTML";
            return Err(unreadable(&path, detail));
        }
        if !TEXT.contains(&ending.as_str()) {
            if ignores || silent {
                continue;
            }
            return Err(unreadable(&path, "has an ending that is not read"));
        }
        let found = match ctx.files.read(&path, MAX_FILE_BYTES - bytes).await {
            Ok(found) => found,
            Err(FileError::Missing) if silent => continue,
            Err(error) => return Err(failed(&path, &error)),
        };
        named_any = true;
        bytes += found.len();
        let parsed = text::decode(&found, encoding.trim()).and_then(|(text, encoding)| {
            let text = text.replace("\r\n", "\n").replace('\r', "\n");
            let text = if path.ends_with(".json") {
                json::normalised(&text)?
            } else {
                text
            };
            Ok((text, encoding))
        });
        match parsed {
            Ok((text, encoding)) => files.push(Read {
                bytes: found,
                path,
                text,
                encoding,
            }),
            Err(_) if silent => {}
            Err(detail) => return Err(unreadable(&path, &detail)),
        }
    }
    if files.is_empty() {
        let what = if named_any {
            "none of its files can be read"
        } else {
            "it has no files to read"
        };
        return Err(NodeError::permanent(
            "file_missing",
            format!(
                "{}: {what}; upload one and set the field path to where it lies, or let a tweak name it",
                call.node.display_name
            ),
        ));
    }
    Ok(files)
}

fn unreadable(path: &str, detail: &str) -> NodeError {
    NodeError::permanent("file_unreadable", format!("{path}: {detail}"))
}

/// Why a file could not be read or written, for the run.
pub(super) fn failed(path: &str, error: &FileError) -> NodeError {
    let (code, advice) = match error {
        FileError::Missing => ("file_missing", "; upload it again"),
        FileError::TooLarge(_) => ("file_too_large", " in all: split it"),
        FileError::Refused(_) => ("file_refused", ""),
        FileError::Away(_) => ("files_away", ""),
    };
    NodeError {
        code,
        message: format!("{path}: {error}{advice}"),
        retryable: matches!(error, FileError::Away(_)),
    }
}

/// All texts in one message, which says of the first file what it is, and of several where each stands.
fn joined(call: &NodeCall, files: &[Read]) -> Result<Message, NodeError> {
    let separator = params::optional_text(call, "separator")?
        .filter(|separator| !separator.is_empty())
        .unwrap_or_else(|| "\n\n".to_owned());
    let parts: Vec<String> = files.iter().map(part).collect();
    let mut message = Message::of(parts.join(&separator));
    let extra = std::sync::Arc::make_mut(&mut message.extra);
    if let Some(first) = files.first() {
        let name = name_of(&first.path);
        let mimetype = mimetype(name.rsplit('.').next().unwrap_or_default());
        extra.insert("file_path".to_owned(), first.path.as_str().into());
        extra.insert("filename".to_owned(), name.into());
        extra.insert("file_size".to_owned(), first.bytes.len().into());
        extra.insert("mimetype".to_owned(), mimetype.into());
        extra.insert("encoding".to_owned(), first.encoding.into());
    }
    if files.len() > 1 {
        extra.insert("source_files".to_owned(), sources(files, &parts, &separator));
    }
    Ok(message)
}

/// The text of a file; an empty one is told about instead.
fn part(file: &Read) -> String {
    if !file.text.is_empty() {
        return file.text.clone();
    }
    let about = json!({"file_path": file.path, "text": "", "encoding": file.encoding});
    dumps::pretty(&about)
}

/// Each file's own text; one that is named twice has both.
fn sources(files: &[Read], parts: &[String], separator: &str) -> Json {
    let mut seen = BTreeSet::new();
    let of = |file: &Read| {
        let texts: Vec<&str> = files
            .iter()
            .zip(parts)
            .filter(|(other, _)| other.path == file.path)
            .map(|(_, part)| part.as_str())
            .collect();
        json!({"file_path": file.path, "text": texts.join(separator), "encoding": file.encoding})
    };
    files
        .iter()
        .filter(|file| seen.insert(&file.path))
        .map(of)
        .collect()
}

fn mimetype(ending: &str) -> &'static str {
    match ending.to_ascii_lowercase().as_str() {
        "json" => "application/json",
        "txt" => "text/plain",
        "csv" => "text/csv",
        "html" => "text/html",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
