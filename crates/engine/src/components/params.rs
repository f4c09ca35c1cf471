//! Typed access to a node's parameters, with the coercions Langflow's input fields make.

use serde_json::{Map, Value as Json};

use crate::component::{NodeCall, NodeError, Param};
use crate::template::to_text;
use crate::value::{Message, Value};

/// A parameter that cannot be what the component needs.
fn invalid(call: &NodeCall, field: &str, detail: &str) -> NodeError {
    NodeError::permanent(
        "field_invalid",
        format!("field {field} of {}: {detail}", call.node.display_name),
    )
}

/// A field set by the template or a tweak, if it is neither missing nor null.
pub(super) fn json<'a>(call: &'a NodeCall, field: &str) -> Option<&'a Json> {
    match call.params.get(field) {
        Some(Param::Field(value) | Param::Edge(Value::Json(value))) if !value.is_null() => Some(value),
        _ => None,
    }
}

pub(super) fn text(call: &NodeCall, field: &str, default: &str) -> Result<String, NodeError> {
    Ok(optional_text(call, field)?.unwrap_or_else(|| default.to_owned()))
}

/// The text of a field, wherever it comes from.
pub(super) fn optional_text(call: &NodeCall, field: &str) -> Result<Option<String>, NodeError> {
    match call.params.get(field) {
        None => Ok(None),
        Some(Param::Field(value)) => json_text(call, field, value),
        Some(Param::Edge(value)) => value_text(call, field, value),
        Some(Param::Edges(values)) => match values.as_slice() {
            [] => Ok(None),
            [value] => value_text(call, field, value),
            _ => Err(invalid(call, field, "takes one connection, not several")),
        },
    }
}

/// The texts of a list field, wherever they come from.
pub(super) fn texts(call: &NodeCall, field: &str) -> Result<Vec<String>, NodeError> {
    let texts = match call.params.get(field) {
        None => Vec::new(),
        Some(Param::Field(Json::Array(items)) | Param::Edge(Value::Json(Json::Array(items)))) => items
            .iter()
            .map(|item| json_text(call, field, item))
            .collect::<Result<Vec<_>, _>>()?,
        Some(Param::Field(value)) => vec![json_text(call, field, value)?],
        Some(Param::Edge(value)) => vec![value_text(call, field, value)?],
        Some(Param::Edges(values)) => values
            .iter()
            .map(|value| value_text(call, field, value))
            .collect::<Result<Vec<_>, _>>()?,
    };
    Ok(texts.into_iter().flatten().collect())
}

fn json_text(call: &NodeCall, field: &str, value: &Json) -> Result<Option<String>, NodeError> {
    match value {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text.clone())),
        Json::Object(object) => Ok(Some(Message::from_object(object).text)),
        Json::Bool(_) | Json::Number(_) | Json::Array(_) => Err(invalid(call, field, "must be text")),
    }
}

fn value_text(call: &NodeCall, field: &str, value: &Value) -> Result<Option<String>, NodeError> {
    match value {
        Value::Message(message) => Ok(Some(message.text.clone())),
        Value::Json(value) => json_text(call, field, value),
        Value::Data(data) => match data.get("text") {
            Some(text) => Ok(Some(to_text(text))),
            None => {
                let keys: Vec<&str> = data.keys().map(String::as_str).take(20).collect();
                Err(invalid(
                    call,
                    field,
                    &format!(
                        "the data it is given has no \"text\" (it has: {})",
                        keys.join(", ")
                    ),
                ))
            }
        },
        Value::Table(_) => Err(invalid(
            call,
            field,
            "must be text, but is given a table; use a Parser",
        )),
    }
}

/// A message field: `None` when the field is not there at all.
pub(super) fn message(call: &NodeCall, field: &str) -> Result<Option<Message>, NodeError> {
    let value = match call.params.get(field) {
        None => return Ok(None),
        Some(Param::Field(value)) => return json_message(call, field, value),
        Some(Param::Edge(value)) => value,
        Some(Param::Edges(values)) => match values.as_slice() {
            [] => return Ok(None),
            [value] => value,
            _ => return Err(invalid(call, field, "takes one connection, not several")),
        },
    };
    match value {
        Value::Message(message) => Ok(Some(message.clone())),
        Value::Json(value) => json_message(call, field, value),
        other => Err(invalid(
            call,
            field,
            &format!("must be a message, but is given {}", other.type_name()),
        )),
    }
}

fn json_message(call: &NodeCall, field: &str, value: &Json) -> Result<Option<Message>, NodeError> {
    match value {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(Message::of(text.as_str()))),
        Json::Object(object) => Ok(Some(Message::from_object(object))),
        _ => Err(invalid(call, field, "must be a message or text")),
    }
}

pub(super) fn boolean(call: &NodeCall, field: &str, default: bool) -> bool {
    match json(call, field) {
        Some(Json::Bool(flag)) => *flag,
        Some(Json::String(text)) => matches!(
            text.trim().to_ascii_lowercase().as_str(),
            "true" | "1" | "yes" | "on"
        ),
        Some(Json::Number(number)) => number.as_f64() != Some(0.0),
        _ => default,
    }
}

/// A number; text that is one counts.
pub(super) fn number(call: &NodeCall, field: &str) -> Option<f64> {
    match json(call, field)? {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// A whole number; a fraction is cut off, as Python's `int` does.
pub(super) fn integer(call: &NodeCall, field: &str) -> Option<i64> {
    match json(call, field)? {
        Json::Number(number) if number.is_i64() => number.as_i64(),
        _ => number(call, field).map(|number| number as i64),
    }
}

/// A dictionary: an object, or a list of `{key, value}`.
pub(super) fn dictionary(call: &NodeCall, field: &str) -> Map<String, Json> {
    match json(call, field) {
        Some(Json::Object(object)) => object.clone(),
        Some(Json::Array(items)) => items
            .iter()
            .filter_map(|item| Some((item.get("key")?.as_str()?.to_owned(), item.get("value")?.clone())))
            .collect(),
        _ => Map::new(),
    }
}
