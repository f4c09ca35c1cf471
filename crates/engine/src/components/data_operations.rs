//! Data Operations, which Langflow also calls JSON Operations: keys of data chosen, removed, renamed, set, combined.
//!
//! What evaluates Python's literals or jq is the Python engine's.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::{params, wants};
use crate::component::{Kind, NodeCall, NodeError, NodeOutput, Param};
use crate::node::Field;
use crate::value::{Value, text_of_bytes};

pub(crate) const OUTPUT: &str = "data_output";
pub(crate) const INPUT: &str = "data";
/// The only operation of several inputs.
const COMBINE: &str = "Combine";

type Object = Map<String, Json>;

/// Why a node with these fields needs the Python engine.
pub(crate) fn needs_python(fields: &BTreeMap<String, Field>) -> Option<String> {
    let name = chosen(&fields.get("operations")?.value)?;
    (!is_native(name)).then(|| format!("its operation {name}"))
}

/// Whether several inputs are an error whatever they give.
pub(crate) fn takes_one(fields: &BTreeMap<String, Field>) -> bool {
    let chosen = fields.get("operations").and_then(|field| chosen(&field.value));
    chosen.is_some_and(|name| name != COMBINE)
}

fn is_native(name: &str) -> bool {
    matches!(
        name,
        "Select Keys" | "Remove Keys" | "Rename Keys" | "Append or Update" | COMBINE
    )
}

/// The operation, if there is exactly one.
fn chosen(operations: &Json) -> Option<&str> {
    match operations.as_array()?.as_slice() {
        [only] => only.get("name").and_then(Json::as_str),
        _ => None,
    }
}

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let mut output = NodeOutput::default();
    if wants(call, OUTPUT) {
        output.values.insert(OUTPUT.to_owned(), Value::Data(made(call)?));
    }
    Ok(output)
}

fn made(call: &NodeCall) -> Result<Object, NodeError> {
    let Some(name) = params::json(call, "operations").and_then(chosen) else {
        return Ok(Object::new());
    };
    match name {
        COMBINE => combined(call),
        "Select Keys" => selected(call, one(call, name)?),
        "Remove Keys" => {
            let keys = keys(call, "remove_keys_input")?;
            each_key(one(call, name)?, &|key| (!keys.contains(&key)).then_some(key))
        }
        "Rename Keys" => {
            let names = names(call)?;
            let renamed = |key: String| Some(names.get(&key).cloned().unwrap_or(key));
            each_key(one(call, name)?, &renamed)
        }
        "Append or Update" => {
            let mut data = one(call, name)?;
            data.extend(dictionary(call, "append_update_data", json!({"key": "value"})));
            keyword(call, data)
        }
        _ => Err(NodeError::permanent(
            "not_native",
            format!(
                "{}: the operation {name} needs the Python engine",
                call.node.display_name
            ),
        )),
    }
}

fn invalid(call: &NodeCall, field: &str, detail: &str) -> NodeError {
    NodeError::permanent(
        "field_invalid",
        format!("field {field} of {} {detail}", call.node.display_name),
    )
}

fn data_of(call: &NodeCall, value: &Value) -> Result<Object, NodeError> {
    match value {
        Value::Data(data) => Ok(data.clone()),
        other => Err(invalid(
            call,
            INPUT,
            &format!("must be data, but is given {}", other.type_name()),
        )),
    }
}

/// The only input.
fn one(call: &NodeCall, operation: &str) -> Result<Object, NodeError> {
    match call.params.get(INPUT) {
        Some(Param::Edge(value)) => data_of(call, value),
        Some(Param::Edges(values)) => match values.as_slice() {
            [value] => data_of(call, value),
            [] => Err(invalid(call, INPUT, "must be connected to data")),
            _ => Err(invalid(
                call,
                INPUT,
                &format!("has several inputs: {operation} takes one; use Combine"),
            )),
        },
        _ => Err(invalid(call, INPUT, "must be connected to data")),
    }
}

fn selected(call: &NodeCall, mut data: Object) -> Result<Object, NodeError> {
    let keys = keys(call, "select_keys_input")?;
    if keys == [INPUT] {
        match data.get(INPUT) {
            Some(Json::Object(inner)) if text_of_bytes(inner).is_none() => return Ok(inner.clone()),
            // Before lfx 1.13 whatever stands there has to be data.
            Some(_) if call.kind == Kind::EarlyDataOperations => {
                return Err(invalid(
                    call,
                    "select_keys_input",
                    "names data, whose value is no object",
                ));
            }
            _ => {}
        }
    }
    if let Some(missing) = keys.iter().find(|key| !data.contains_key(*key)) {
        let available: Vec<&str> = data.keys().map(String::as_str).take(50).collect();
        return Err(invalid(
            call,
            "select_keys_input",
            &format!(
                "names {missing}, which the data has not; it has {}",
                available.join(", ")
            ),
        ));
    }
    data.retain(|key, _| keys.contains(key));
    Ok(data)
}

/// The data with its keys changed or left out, inside of values too.
fn each_key(data: Object, change: &dyn Fn(String) -> Option<String>) -> Result<Object, NodeError> {
    fn changed(value: Json, change: &dyn Fn(String) -> Option<String>) -> Json {
        match value {
            Json::Object(object) if text_of_bytes(&object).is_none() => Json::Object(
                object
                    .into_iter()
                    .filter_map(|(key, value)| Some((change(key)?, changed(value, change))))
                    .collect(),
            ),
            Json::Array(items) => items.into_iter().map(|item| changed(item, change)).collect(),
            other => other,
        }
    }
    match changed(Json::Object(data), change) {
        Json::Object(data) => Ok(data),
        _ => Ok(Object::new()),
    }
}

/// Several inputs as one: values of the same key become a list.
fn combined(call: &NodeCall) -> Result<Object, NodeError> {
    let Some(Param::Edges(values)) = call.params.get(INPUT) else {
        return Err(invalid(call, INPUT, "must be a list to combine"));
    };
    match values.as_slice() {
        [] => return Ok(Object::new()),
        [only] => return data_of(call, only),
        _ => {}
    }
    let mut all = Object::new();
    for value in values {
        for (key, value) in data_of(call, value)? {
            let Some(held) = all.get_mut(&key) else {
                all.insert(key, value);
                continue;
            };
            let mut items = match held.take() {
                Json::Array(items) => items,
                first => vec![first],
            };
            match value {
                Json::Array(more) => items.extend(more),
                more => items.push(more),
            }
            *held = Json::Array(items);
        }
    }
    keyword(call, all)
}

/// Before lfx 1.13 keys are given to data by name: `data` is the data that the others go into.
fn keyword(call: &NodeCall, mut object: Object) -> Result<Object, NodeError> {
    if call.kind != Kind::EarlyDataOperations {
        return Ok(object);
    }
    if object.contains_key("text_key") || object.contains_key("default_value") {
        return Err(invalid(
            call,
            INPUT,
            "has the key text_key or default_value, which needs the Python engine in this release",
        ));
    }
    let mut data = match object.shift_remove(INPUT) {
        None | Some(Json::Null) => Object::new(),
        Some(Json::Object(data)) if text_of_bytes(&data).is_none() => data,
        Some(_) => return Err(invalid(call, INPUT, "has the key data, whose value is no object")),
    };
    for (key, value) in object {
        data.entry(key).or_insert(value);
    }
    Ok(data)
}

fn keys(call: &NodeCall, field: &str) -> Result<Vec<String>, NodeError> {
    match call.params.get(field) {
        Some(Param::Field(Json::String(_)) | Param::Edge(_)) => {
            Err(invalid(call, field, "must be a list of keys"))
        }
        _ => params::texts(call, field),
    }
}

fn names(call: &NodeCall) -> Result<BTreeMap<String, String>, NodeError> {
    let pair = |(old, new): (String, Json)| match new {
        Json::String(new) => Ok((old, new)),
        _ => Err(invalid(
            call,
            "rename_keys_input",
            "has a new name that is no text",
        )),
    };
    dictionary(call, "rename_keys_input", json!({"old_key": "new_key"}))
        .into_iter()
        .map(pair)
        .collect()
}

/// A field that is not shown has what the component says.
fn dictionary(call: &NodeCall, field: &str, otherwise: Json) -> Object {
    match (call.params.contains_key(field), otherwise) {
        (false, Json::Object(otherwise)) => otherwise,
        _ => params::dictionary(call, field),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, field};
    use super::*;

    fn operated(
        kind: Kind,
        name: &str,
        given: &[Json],
        more: &[(&str, Param)],
    ) -> Result<Json, &'static str> {
        let values = given
            .iter()
            .map(|data| Value::Data(data.as_object().cloned().unwrap()));
        let mut params = vec![
            ("operations", field(json!([{"name": name}]))),
            (INPUT, Param::Edges(values.collect())),
        ];
        params.extend(more.iter().cloned());
        match run(&call(kind, &params)) {
            Ok(output) => match &output.values[OUTPUT] {
                Value::Data(data) => Ok(Json::Object(data.clone())),
                other => panic!("{other:?}"),
            },
            Err(error) => Err(error.code),
        }
    }

    /// Each expectation was given by lfx 1.13.
    #[test]
    fn operations() {
        let new =
            |name, given: &[Json], more: &[(&str, Param)]| operated(Kind::DataOperations, name, given, more);
        let select = |keys: Json| [("select_keys_input", field(keys))];
        assert_eq!(
            new(
                "Select Keys",
                &[json!({"a": 1, "b": 2})],
                &select(json!(["b", "a"]))
            ),
            Ok(json!({"a": 1, "b": 2}))
        );
        assert_eq!(
            new(
                "Select Keys",
                &[json!({"data": {"x": 1}})],
                &select(json!(["data"]))
            ),
            Ok(json!({"x": 1}))
        );
        assert_eq!(
            new(
                "Select Keys",
                &[json!({"data": 5, "b": 1})],
                &select(json!(["data"]))
            ),
            Ok(json!({"data": 5}))
        );
        assert_eq!(
            new("Select Keys", &[json!({"a": 1})], &select(json!([""]))),
            Err("field_invalid")
        );
        assert_eq!(new("Select Keys", &[json!({"a": 1})], &[]), Ok(json!({})));
        assert_eq!(
            new("Select Keys", &[json!({}), json!({})], &[]),
            Err("field_invalid")
        );
        let nested = json!({"a": {"a": 1, "c": 1}, "b": [{"a": 2}]});
        let rename = [("rename_keys_input", field(json!({"a": "b"})))];
        assert_eq!(
            new("Rename Keys", std::slice::from_ref(&nested), &rename),
            Ok(json!({"b": [{"b": 2}]}))
        );
        let remove = [("remove_keys_input", field(json!(["a"])))];
        assert_eq!(new("Remove Keys", &[nested], &remove), Ok(json!({"b": [{}]})));
        let update = [("append_update_data", field(json!({"a": "2", "data": "3"})))];
        assert_eq!(
            new("Append or Update", &[json!({"a": 1})], &update),
            Ok(json!({"a": "2", "data": "3"}))
        );
        assert_eq!(
            new("Append or Update", &[json!({})], &[]),
            Ok(json!({"key": "value"}))
        );
        let two = [json!({"a": 1, "data": {"z": 1}}), json!({"a": [2], "b": 1})];
        assert_eq!(
            new(COMBINE, &two, &[]),
            Ok(json!({"a": [1, 2], "data": {"z": 1}, "b": 1}))
        );
        assert_eq!(new(COMBINE, &two[..1], &[]), Ok(two[0].clone()));
        assert_eq!(new("JQ Expression", &two[..1], &[]), Err("not_native"));
    }

    /// Each expectation was given by the code of lfx 1.12.8.
    #[test]
    fn releases_before_give_keys_by_name() {
        let early = |name, given: &[Json], more: &[(&str, Param)]| {
            operated(Kind::EarlyDataOperations, name, given, more)
        };
        let two = [
            json!({"a": 1, "data": {"z": 1, "b": 0}}),
            json!({"a": [2], "b": 1}),
        ];
        assert_eq!(
            early(COMBINE, &two, &[]),
            Ok(json!({"z": 1, "b": 0, "a": [1, 2]}))
        );
        let select = [("select_keys_input", field(json!(["data"])))];
        assert_eq!(
            early("Select Keys", &[json!({"data": 5})], &select),
            Err("field_invalid")
        );
        let update = [("append_update_data", field(json!({"data": "3"})))];
        assert_eq!(
            early("Append or Update", &[json!({"a": 1})], &update),
            Err("field_invalid")
        );
    }
}
