//! From template fields to parameters: which fields count, and what their values become.
//!
//! Langflow's rules: fields that are not shown do not count; numbers are coerced, text is unescaped, dict fields may
//! be lists of pairs; an edge goes before the field's own value. What cannot be coerced is passed on as it is, for
//! the component to judge.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::component::{Kind, Param};
use crate::graph::NodeIdx;
use crate::node::Field;
use crate::plan::Plan;

/// Parameters of a node before edges, input, session and variables.
pub(crate) fn from_fields(fields: &BTreeMap<String, Field>) -> BTreeMap<String, Param> {
    let value = |(name, field): (&String, &Field)| Some((name.clone(), Param::Field(resolve(name, field)?)));
    fields.iter().filter_map(value).collect()
}

/// What a field gives, or nothing.
pub(crate) fn resolve(name: &str, field: &Field) -> Option<Json> {
    if name == "code" || name == "_type" || field.kind == "code" {
        return None;
    }
    if !field.override_skip && (field.kind == "other" || !field.show) {
        return None;
    }
    let value = if field.kind == "file" {
        file(field)
    } else {
        coerce(field)
    };
    match value {
        Some(value) if !value.is_null() => Some(value),
        _ if !field.required && truthy(&field.default) => Some(field.default.clone()),
        _ => None,
    }
}

fn file(field: &Field) -> Option<Json> {
    match (truthy(&field.file_path), field.list) {
        (true, _) => Some(field.file_path.clone()),
        (false, true) => Some(Json::Array(Vec::new())),
        (false, false) => None,
    }
}

fn coerce(field: &Field) -> Option<Json> {
    let value = &field.value;
    if value.is_null() {
        return matches!(field.kind.as_str(), "table").then(|| Json::Array(Vec::new()));
    }
    match field.kind.as_str() {
        "dict" | "NestedDict" => Some(dict(value)),
        "table" | "tools" => Some(value.clone()),
        "int" => Some(integer(value).unwrap_or_else(|| value.clone())),
        "float" | "slider" => Some(float(value).unwrap_or_else(|| value.clone())),
        "str" => text(value),
        "bool" => boolean(value),
        _ => truthy(value).then(|| value.clone()),
    }
}

/// `[{"key": k, "value": v}]` or a list of objects, merged; later entries win.
fn dict(value: &Json) -> Json {
    let Json::Array(items) = value else {
        return value.clone();
    };
    let pair = |item: &Json| Some((item.get("key")?.as_str()?.to_owned(), item.get("value")?.clone()));
    if let Some(pairs) = items.iter().map(pair).collect::<Option<Map<String, Json>>>() {
        return Json::Object(pairs);
    }
    let objects = items.iter().filter_map(Json::as_object).flatten();
    Json::Object(objects.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// As Python's `int()`: text is read, fractions are cut off.
fn integer(value: &Json) -> Option<Json> {
    match value {
        Json::Number(number) if number.is_i64() || number.is_u64() => Some(value.clone()),
        // A cast saturates, so that no number of a document can do worse than be clamped.
        Json::Number(number) => number.as_f64().map(|float| Json::from(float.trunc() as i64)),
        Json::Bool(flag) => Some(Json::from(i64::from(*flag))),
        Json::String(text) => text.trim().replace('_', "").parse::<i64>().ok().map(Json::from),
        _ => None,
    }
}

fn float(value: &Json) -> Option<Json> {
    let float = match value {
        Json::Number(number) => number.as_f64()?,
        Json::Bool(flag) => f64::from(u8::from(*flag)),
        Json::String(text) => text.trim().parse::<f64>().ok()?,
        _ => return None,
    };
    serde_json::Number::from_f64(float).map(Json::Number)
}

/// Text is unescaped; a serialised message gives its text; numbers and truth values are written out.
fn text(value: &Json) -> Option<Json> {
    match value {
        Json::Array(items) => Some(Json::Array(items.iter().filter_map(text).collect())),
        Json::String(text) => Some(Json::String(text.replace("\\n", "\n"))),
        Json::Object(message) => {
            let nested = || message.get("data").and_then(|data| data.get("text"));
            message.get("text").or_else(nested).and_then(text)
        }
        Json::Number(number) => Some(Json::String(number.to_string())),
        Json::Bool(flag) => Some(Json::String(flag.to_string())),
        Json::Null => None,
    }
}

/// Langflow takes any text but the empty one for true, "false" included.
fn boolean(value: &Json) -> Option<Json> {
    match value {
        Json::Bool(_) => Some(value.clone()),
        Json::String(text) => Some(Json::Bool(!text.is_empty())),
        _ => None,
    }
}

/// Python's truth.
pub(crate) fn truthy(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(flag) => *flag,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(entries) => !entries.is_empty(),
    }
}

fn says(fields: &BTreeMap<String, Field>, name: &str, text: &str) -> bool {
    fields.get(name).is_some_and(|field| field.value == *text)
}

/// Required fields that neither an edge nor a value fills. Empty text is a value for a text field, as in Langflow's
/// API; a model may also be named by the older `model_name`.
pub(crate) fn missing(
    plan: &Plan,
    node: NodeIdx,
    fields: &BTreeMap<String, Field>,
    params: &BTreeMap<String, Param>,
) -> Vec<String> {
    // A Parser that only prints its input prints that there is none.
    if plan.nodes[node].kind == Ok(Kind::Parser) && says(fields, "mode", "Stringify") {
        return Vec::new();
    }
    let filled = |name: &str| matches!(params.get(name), Some(Param::Field(value)) if truthy(value));
    let is_missing = |name: &str, field: &Field| {
        let counts =
            field.required && (field.show || field.override_skip) && name != "code" && field.kind != "code";
        let empty = match field.kind.as_str() {
            "str" | "prompt" => field.value.is_null(),
            "model" => !filled(name) && !filled("model_name"),
            _ => !params.contains_key(name),
        };
        counts && empty && !plan.is_fed(node, name)
    };
    fields
        .iter()
        .filter(|(name, field)| is_missing(name, field))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(kind: &str, value: Json) -> Field {
        Field {
            kind: kind.to_owned(),
            value,
            default: Json::Null,
            file_path: Json::Null,
            list: false,
            required: false,
            show: true,
            override_skip: false,
            load_from_db: false,
            secret: false,
            input_types: None,
            display_name: None,
        }
    }

    #[test]
    fn values_become_what_langflow_makes_of_them() {
        for (kind, value, expected) in [
            ("int", json!("12"), Some(json!(12))),
            ("int", json!(" 7 "), Some(json!(7))),
            ("int", json!(3.9), Some(json!(3))),
            ("int", json!(-3.9), Some(json!(-3))),
            ("int", json!(1e300), Some(json!(i64::MAX))),
            ("int", json!("3.5"), Some(json!("3.5"))),
            ("int", json!(""), Some(json!(""))),
            ("int", json!(0), Some(json!(0))),
            ("int", Json::Null, None),
            ("slider", json!("0.5"), Some(json!(0.5))),
            ("float", json!(1), Some(json!(1.0))),
            ("float", json!("much"), Some(json!("much"))),
            ("float", json!("nan"), Some(json!("nan"))),
            ("str", json!("a\\nb"), Some(json!("a\nb"))),
            ("str", json!(""), Some(json!(""))),
            ("str", json!(["a\\n", {"text": "b"}]), Some(json!(["a\n", "b"]))),
            ("str", json!({"data": {"text": "x"}}), Some(json!("x"))),
            ("str", json!(5), Some(json!("5"))),
            ("bool", json!(false), Some(json!(false))),
            ("bool", json!("false"), Some(json!(true))),
            ("bool", json!(""), Some(json!(false))),
            ("bool", json!(1), None),
            ("dict", json!([{"key": "a", "value": 1}]), Some(json!({"a": 1}))),
            (
                "dict",
                json!([{"a": 1}, {"b": 2}, {"a": 3}]),
                Some(json!({"a": 3, "b": 2})),
            ),
            ("NestedDict", json!({"a": {}}), Some(json!({"a": {}}))),
            ("table", Json::Null, Some(json!([]))),
            ("prompt", json!("{a}\\n"), Some(json!("{a}\\n"))),
            ("model", json!(""), None),
            ("tab", json!("Parser"), Some(json!("Parser"))),
            ("other", json!("x"), None),
            ("code", json!("x"), None),
        ] {
            assert_eq!(
                resolve("f", &field(kind, value.clone())),
                expected,
                "{kind} {value}"
            );
        }
    }

    #[test]
    fn hidden_fields_do_not_count_unless_they_override_it() {
        let hidden = Field {
            show: false,
            ..field("str", json!("x"))
        };
        assert_eq!(resolve("f", &hidden), None);
        assert_eq!(
            resolve(
                "f",
                &Field {
                    override_skip: true,
                    ..hidden
                }
            ),
            Some(json!("x"))
        );
        assert_eq!(resolve("code", &field("str", json!("x"))), None);
    }

    #[test]
    fn defaults_and_files() {
        let with_default = Field {
            default: json!("d"),
            ..field("str", Json::Null)
        };
        assert_eq!(resolve("f", &with_default), Some(json!("d")));
        assert_eq!(
            resolve(
                "f",
                &Field {
                    required: true,
                    ..with_default
                }
            ),
            None
        );
        let file = field("file", json!("ignored"));
        assert_eq!(resolve("f", &file), None);
        assert_eq!(
            resolve(
                "f",
                &Field {
                    list: true,
                    ..file.clone()
                }
            ),
            Some(json!([]))
        );
        assert_eq!(
            resolve(
                "f",
                &Field {
                    file_path: json!("a/b"),
                    ..file
                }
            ),
            Some(json!("a/b"))
        );
    }
}
