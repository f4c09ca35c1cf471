//! Type Convert: a message, data or a table as one of the others.

use serde_json::{Map, Value as Json};

use super::read_file::csv;
use super::table::{self, Frame};
use super::{from_node, params, wants};
use crate::component::{NodeCall, NodeError, NodeOutput, Param};
use crate::template::{python_repr, to_text};
use crate::value::{Message, Value};

const MESSAGE: &str = "message_output";
const DATA: &str = "data_output";
const TABLE: &str = "dataframe_output";
const TEXT: &str = "text";

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let value = match call.params.get("input_data") {
        Some(Param::Edge(value)) => Some(value),
        Some(Param::Edges(values)) => values.first(),
        _ => None,
    };
    let value = match value {
        Some(Value::Json(Json::String(text))) => Value::Message(Message::of(text.as_str())),
        Some(Value::Json(Json::Object(object))) => Value::Data(object.clone()),
        Some(Value::Json(_)) | None => {
            let name = &call.node.display_name;
            let detail =
                format!("field input_data of {name} must be connected to a message, data or a table");
            return Err(NodeError::permanent("field_invalid", detail));
        }
        Some(value) => value.clone(),
    };
    let parses = params::boolean(call, "auto_parse", false);
    let mut output = NodeOutput::default();
    let mut give = |name: &str, value: Value| drop(output.values.insert(name.to_owned(), value));
    if wants(call, MESSAGE) {
        give(MESSAGE, Value::Message(from_node(call, message(&value)?, None)));
    }
    if wants(call, DATA) {
        give(DATA, Value::Data(data(&value, parses)?));
    }
    if wants(call, TABLE) {
        let rows = match &value {
            Value::Table(rows) => rows.clone(),
            value => Frame::of(&rows(data(value, parses)?))?.kept().collect(),
        };
        give(TABLE, Value::Table(rows));
    }
    Ok(output)
}

fn message(value: &Value) -> Result<Message, NodeError> {
    match value {
        Value::Message(message) => Ok(message.clone()),
        Value::Data(data) => Ok(Message::of(match data.get(TEXT) {
            Some(Json::Null) => String::new(),
            Some(text) => to_text(text),
            None => python_repr(&Json::Object(data.clone())),
        })),
        Value::Table(rows) => Ok(Message::of(table::markdown(&broken(rows), true)?)),
        Value::Json(value) => Ok(Message::of(to_text(value))),
    }
}

/// Cells whose line breaks are written out, those at their ends too.
fn broken(rows: &[Map<String, Json>]) -> Vec<Map<String, Json>> {
    let cell = |cell: &Json| match cell {
        Json::String(text) if text.contains('\n') && !text.trim().is_empty() => {
            let lines: Vec<&str> = text.split('\n').collect();
            let last = lines.len() - 1;
            // Empty lines inside are none.
            let kept = |(index, line): (usize, &&str)| !line.is_empty() || index == 0 || index == last;
            let lines: Vec<&str> = lines
                .iter()
                .enumerate()
                .filter(|(index, line)| kept((*index, line)))
                .map(|(_, line)| *line)
                .collect();
            Json::String(lines.join("<br/>"))
        }
        cell => cell.clone(),
    };
    let row = |row: &Map<String, Json>| {
        row.iter()
            .map(|(name, value)| (name.clone(), cell(value)))
            .collect()
    };
    rows.iter().map(row).collect()
}

fn data(value: &Value, parses: bool) -> Result<Map<String, Json>, NodeError> {
    match value {
        Value::Data(data) => Ok(data.clone()),
        Value::Message(message) => Ok(Some(message.text.as_str())
            .filter(|_| parses)
            .and_then(parsed)
            .unwrap_or_else(|| Map::from_iter([(TEXT.to_owned(), message.text.as_str().into())]))),
        Value::Table(rows) => {
            let rows: Vec<Json> = Frame::of(rows)?.kept().map(Json::Object).collect();
            Ok(Map::from_iter([("results".to_owned(), Json::Array(rows))]))
        }
        Value::Json(value) => Ok(Map::from_iter([(TEXT.to_owned(), value.clone())])),
    }
}

/// What text says if it is JSON, or looks like a table in CSV.
fn parsed(text: &str) -> Option<Map<String, Json>> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let records = |rows: Vec<Json>| Map::from_iter([("records".to_owned(), Json::Array(rows))]);
    match serde_json::from_str(text) {
        Ok(Json::Object(object)) => return Some(object),
        Ok(Json::Array(items)) if items.iter().all(Json::is_object) => return Some(records(items)),
        _ => {}
    }
    let (head, rest) = text.split_once('\n')?;
    if !head.contains(',') || rest.is_empty() {
        return None;
    }
    let rows = csv::read(text).ok()?;
    Some(records(rows.into_iter().map(Json::Object).collect()))
}

/// A row of it; several if it is nothing but a list of them.
pub(super) fn rows(data: Map<String, Json>) -> Vec<Map<String, Json>> {
    let mut values = data.values();
    if let (Some(Json::Array(items)), None) = (values.next(), values.next()) {
        let rows: Option<Vec<_>> = items.iter().map(|item| item.as_object().cloned()).collect();
        if let Some(rows) = rows {
            return rows;
        }
    }
    vec![data]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, edge, field};
    use super::*;
    use crate::component::Kind;
    use serde_json::json;

    fn converted(value: impl Into<Value>, parses: bool) -> Json {
        let params = [("input_data", edge(value)), ("auto_parse", field(parses))];
        let output = run(&call(Kind::TypeConverter, &params)).unwrap();
        match (
            &output.values[MESSAGE],
            &output.values[DATA],
            &output.values[TABLE],
        ) {
            (Value::Message(message), Value::Data(data), Value::Table(rows)) => {
                json!([message.text, data, rows])
            }
            other => panic!("{other:?}"),
        }
    }

    fn object(value: &Json) -> Map<String, Json> {
        value.as_object().cloned().unwrap()
    }

    /// Each expectation is what lfx 1.13 converts to.
    #[test]
    fn each_to_each() {
        let text = |text: &str| Value::Message(Message::of(text));
        let said = |said: &str| json!([said, {"text": said}, [{"text": said}]]);
        assert_eq!(converted(text("hi"), false), said("hi"));
        assert_eq!(converted(text("{\"a\": 1}"), false), said("{\"a\": 1}"));
        assert_eq!(
            converted(text("\u{feff} {\"a\": 1}"), true),
            json!(["\u{feff} {\"a\": 1}", {"a": 1}, [{"a": 1}]])
        );
        assert_eq!(
            converted(text("[{\"a\": 1}]"), true),
            json!(["[{\"a\": 1}]", {"records": [{"a": 1}]}, [{"a": 1}]])
        );
        assert_eq!(converted(text("[1]"), true), said("[1]"));
        assert_eq!(
            converted(text("a,b\n1,x"), true),
            json!(["a,b\n1,x", {"records": [{"a": 1, "b": "x"}]}, [{"a": 1, "b": "x"}]])
        );
        assert_eq!(
            converted(text("well, so\nno, 1, 2\n1,2,3,4"), true),
            said("well, so\nno, 1, 2\n1,2,3,4")
        );
        let data = |value: Json| Value::Data(object(&value));
        assert_eq!(
            converted(data(json!({"text": "t", "a": 1})), true),
            json!(["t", {"text": "t", "a": 1}, [{"text": "t", "a": 1}]])
        );
        assert_eq!(
            converted(data(json!({"a": [{"b": 1}]})), false),
            json!(["{'a': [{'b': 1}]}", {"a": [{"b": 1}]}, [{"b": 1}]])
        );
        let rows = [json!({"a": 1, "b": "x\n\n|y\n"}), json!({"a": null, "b": " "})];
        let table = Value::Table(rows.iter().map(object).collect());
        let markdown = "|   a | b              |\n|----:|:---------------|\n|   1 | x<br/>\\|y<br/> |\n| nan |                |";
        let typed = json!([{"a": 1.0, "b": "x\n\n|y\n"}, {"a": null, "b": " "}]);
        assert_eq!(
            converted(table, false),
            json!([markdown, {"results": typed}, rows])
        );
        assert!(run(&call(Kind::TypeConverter, &[])).is_err());
    }
}
