//! What a request carries: the body of its table or of data, and its headers.

use serde_json::{Map, Value as Json};

use super::super::loads::{Unread, loads};
use crate::component::{NodeCall, NodeError, Param};
use crate::value::Value;

/// The body as an object. Langflow reads the values as JSON twice, so text in text becomes a value too.
pub(super) fn body(call: &NodeCall) -> Result<Map<String, Json>, NodeError> {
    let object = match call.params.get("body") {
        Some(Param::Edge(value @ Value::Data(_))) => of_values(std::slice::from_ref(value))?,
        Some(Param::Edges(values)) => of_values(values)?,
        Some(Param::Field(Json::Array(rows)) | Param::Edge(Value::Json(Json::Array(rows)))) => {
            of_rows(rows.iter())?
        }
        Some(Param::Field(Json::Object(object))) => read(object)?,
        _ => Map::new(),
    };
    read(&object)
}

/// Data that is not a pair of key and value is the whole body.
fn of_values(values: &[Value]) -> Result<Map<String, Json>, NodeError> {
    let mut rows = Vec::new();
    for value in values {
        match value {
            Value::Data(data) if !is_pair(data) => return Ok(data.clone()),
            Value::Data(data) => rows.push(Json::Object(data.clone())),
            _ => {}
        }
    }
    of_rows(rows.iter())
}

fn of_rows<'r>(rows: impl Iterator<Item = &'r Json>) -> Result<Map<String, Json>, NodeError> {
    let mut object = Map::new();
    for row in rows.filter_map(Json::as_object).filter(|row| is_pair(row)) {
        let Some(key) = row["key"].as_str() else {
            return Err(invalid("body", "has a key that is no text"));
        };
        object.insert(key.to_owned(), value_of(&row["value"])?);
    }
    Ok(object)
}

fn is_pair(row: &Map<String, Json>) -> bool {
    row.contains_key("key") && row.contains_key("value")
}

fn read(object: &Map<String, Json>) -> Result<Map<String, Json>, NodeError> {
    object
        .iter()
        .map(|(key, value)| Ok((key.clone(), value_of(value)?)))
        .collect()
}

/// Text that is JSON is what it says.
fn value_of(value: &Json) -> Result<Json, NodeError> {
    let Json::String(text) = value else {
        return Ok(value.clone());
    };
    match loads(text) {
        Ok(value) => Ok(value),
        Err(Unread::NotJson) => Ok(value.clone()),
        Err(Unread::Beyond(what)) => Err(invalid("body", &format!("has {what}, which cannot be sent"))),
    }
}

/// The headers of the table; those of an edge are none, as in Langflow.
pub(super) fn headers(call: &NodeCall) -> Result<Map<String, Json>, NodeError> {
    let mut headers = Map::new();
    let rows = match call.params.get("headers") {
        Some(Param::Field(Json::Array(rows)) | Param::Edge(Value::Json(Json::Array(rows)))) => rows,
        Some(Param::Field(Json::Object(object))) => {
            headers.clone_from(object);
            return checked(headers);
        }
        _ => return Ok(headers),
    };
    for row in rows.iter().filter_map(Json::as_object).filter(|row| is_pair(row)) {
        let Some(key) = row["key"].as_str() else {
            return Err(invalid("headers", "has a key that is no text"));
        };
        headers.insert(key.to_owned(), row["value"].clone());
    }
    checked(headers)
}

fn checked(headers: Map<String, Json>) -> Result<Map<String, Json>, NodeError> {
    // Whoever says how long a request is, or how it is cut, says it to the connection.
    const OURS: [&str; 4] = ["content-length", "transfer-encoding", "connection", "expect"];
    for (name, value) in &headers {
        match value.as_str() {
            _ if OURS.contains(&name.to_ascii_lowercase().as_str()) => {
                return Err(invalid("headers", &format!("must not set {name}")));
            }
            Some(text) if can_be_sent(name, text) => {}
            _ => {
                return Err(invalid(
                    "headers",
                    &format!(
                        "has {name:?}, whose name or value cannot be sent: write ASCII without spaces around it"
                    ),
                ));
            }
        }
    }
    Ok(headers)
}

fn invalid(field: &str, detail: &str) -> NodeError {
    NodeError::permanent("field_invalid", format!("field {field} {detail}"))
}

/// Whether a header is one of HTTP's.
fn can_be_sent(name: &str, value: &str) -> bool {
    let of_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let of_value = |c: char| matches!(c, '\t' | ' '..='~');
    !name.is_empty()
        && name.chars().all(of_token)
        && value.chars().all(of_value)
        && !value.starts_with(['\t', ' '])
        && !value.ends_with(['\t', ' '])
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{call, edge, field};
    use super::*;
    use crate::component::Kind;
    use serde_json::json;

    fn data(value: &Json) -> Value {
        Value::Data(value.as_object().cloned().unwrap())
    }

    #[test]
    fn tables_and_data_become_objects() {
        for (param, expected) in [
            (
                field(json!([{"key": "a", "value": "1"}, {"key": "b", "value": "x"}, {"key": "c"}])),
                json!({"a": 1, "b": "x"}),
            ),
            (
                field(json!([{"key": "a", "value": "\"[1]\""}])),
                json!({"a": [1]}),
            ),
            (
                edge(data(&json!({"a": "true", "b": {"c": "1"}}))),
                json!({"a": true, "b": {"c": "1"}}),
            ),
            (
                Param::Edges(vec![
                    data(&json!({"key": "k", "value": 1})),
                    data(&json!({"a": "2"})),
                ]),
                json!({"a": 2}),
            ),
            (
                Param::Edges(vec![data(&json!({"key": "k", "value": "{}"}))]),
                json!({"k": {}}),
            ),
            (field(json!([])), json!({})),
        ] {
            let given = call(Kind::ApiRequest, &[("body", param.clone())]);
            assert_eq!(Json::Object(body(&given).unwrap()), expected, "{param:?}");
        }
        let given = call(
            Kind::ApiRequest,
            &[("body", field(json!([{"key": "a", "value": "NaN"}])))],
        );
        assert_eq!(body(&given).unwrap_err().code, "field_invalid");
    }

    #[test]
    fn headers_that_cannot_be_sent() {
        for (name, value, sent) in [
            ("A", "b c\td", true),
            ("X-Y", "", true),
            ("a b", "", false),
            ("", "x", false),
            ("a", "x\n", false),
            ("a", " x", false),
            ("a", "é", false),
        ] {
            assert_eq!(can_be_sent(name, value), sent, "{name} {value}");
        }
        for bad in [
            json!([{"key": "a", "value": "é"}]),
            json!([{"key": "Content-Length", "value": "1"}]),
        ] {
            let given = call(Kind::ApiRequest, &[("headers", field(bad))]);
            assert_eq!(headers(&given).unwrap_err().code, "field_invalid");
        }
    }
}
