//! Prompt Template: variables put into a text.

use serde_json::Value as Json;

use super::{params, single};
use crate::component::{NodeCall, NodeError, NodeOutput, Param};
use crate::template::{Access, TemplateError, render, render_mustache};
use crate::value::{Message, Value};

/// Fields that are not variables.
const NOT_VARIABLES: [&str; 3] = ["template", "code", "_type"];

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let template = params::text(call, "template", "")?;
    // Nothing to say is not allowed, as little as Langflow allows it.
    if template.is_empty() {
        return Err(NodeError::permanent(
            "field_required",
            format!("the template of {} is empty: write one", call.node.display_name),
        ));
    }
    if let Some((name, _)) = call.params.iter().find(|(_, param)| has_table(param)) {
        return Err(NodeError::permanent(
            "field_invalid",
            format!(
                "variable {name} of {} is given a table: use a Parser first",
                call.node.display_name
            ),
        ));
    }
    let lookup = |name: &str| variable(call, name);
    let text = if params::boolean(call, "use_double_brackets", false) {
        render_mustache(&template, &lookup)
    } else {
        render(&template, Access::Names, &lookup)
    };
    let text = text.map_err(|error| explain(call, &error))?;
    Ok(single(call, "prompt", Message::of(text)))
}

fn has_table(param: &Param) -> bool {
    match param {
        Param::Edge(Value::Table(_)) => true,
        Param::Edges(values) => values.iter().any(|value| matches!(value, Value::Table(_))),
        _ => false,
    }
}

/// A variable as the template sees it: messages and data are their text.
fn variable(call: &NodeCall, name: &str) -> Option<Json> {
    if NOT_VARIABLES.contains(&name) {
        return None;
    }
    match call.params.get(name) {
        Some(Param::Field(value)) => Some(value.clone()),
        Some(Param::Edge(value)) => Some(as_text(value)),
        Some(Param::Edges(values)) => Some(values.iter().map(as_text).collect()),
        // The component's own fields have a value even where the export does not carry them.
        None if name == "use_double_brackets" => Some(Json::Bool(false)),
        None if name == "tool_placeholder" => Some(Json::Null),
        None => None,
    }
}

fn as_text(value: &Value) -> Json {
    match value {
        Value::Message(message) => Json::String(message.text.clone()),
        Value::Data(data) => data
            .get("text")
            .cloned()
            .unwrap_or_else(|| Json::String(String::new())),
        Value::Json(value) => value.clone(),
        Value::Table(_) => Json::Null,
    }
}

pub(super) fn explain(call: &NodeCall, error: &TemplateError) -> NodeError {
    let code = match error {
        TemplateError::Missing(_) => "template_variable_missing",
        TemplateError::TooLong => "template_too_long",
        TemplateError::Syntax(_) | TemplateError::Value { .. } => "template_invalid",
    };
    NodeError::permanent(
        code,
        format!("the template of {}: {error}", call.node.display_name),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, edge, field, text_of};
    use super::*;
    use crate::component::Kind;
    use serde_json::json;

    fn prompt(params: &[(&str, Param)]) -> Result<String, &'static str> {
        run(&call(Kind::Prompt, params))
            .map(|output| text_of(&output, "prompt"))
            .map_err(|error| error.code)
    }

    #[test]
    fn variables_come_from_fields_and_edges() {
        let data = |value: Json| edge(Value::Data(value.as_object().cloned().unwrap()));
        let cases: [(&str, Param, Result<&str, &str>); 9] = [
            ("Say: {x} {{literal}}", field("dflt"), Ok("Say: dflt {literal}")),
            ("{x}", edge(Message::of("m")), Ok("m")),
            ("{x}", data(json!({"text": "dt"})), Ok("dt")),
            ("{x}", data(json!({"a": 1})), Ok("")),
            (
                "{x}",
                Param::Edges(vec![Value::Json(json!("a")), Message::of("t").into()]),
                Ok("['a', 't']"),
            ),
            ("{y}", field("a"), Err("template_variable_missing")),
            ("{template}", field("a"), Err("template_variable_missing")),
            (
                "{x} {use_double_brackets} {tool_placeholder}",
                field(1),
                Ok("1 False None"),
            ),
            ("{x.y}", field("a"), Err("template_invalid")),
        ];
        for (template, x, expected) in cases {
            let result = prompt(&[("template", field(template)), ("x", x)]);
            assert_eq!(
                result.as_deref(),
                expected.as_ref().map(|text| *text),
                "{template}"
            );
        }
        assert_eq!(
            prompt(&[("template", field("{x}")), ("x", edge(Value::Table(Vec::new())))]),
            Err("field_invalid")
        );
        assert_eq!(prompt(&[]), Err("field_required"));
    }

    #[test]
    fn double_brackets_are_mustache() {
        let mode = ("use_double_brackets", field(true));
        let template = |text: &str| ("template", field(text));
        assert_eq!(
            prompt(&[mode.clone(), template("{{x}} {x}"), ("x", edge(Message::of("m")))]),
            Ok("m {x}".to_owned())
        );
        assert_eq!(prompt(&[mode.clone(), template("{{gone}}")]), Ok(String::new()));
        assert_eq!(prompt(&[mode, template("{{#x}}")]), Err("template_invalid"));
    }
}
