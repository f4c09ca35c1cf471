//! Parser: data and tables as text, by a template for each row or as they are.

use serde_json::{Map, Value as Json};

use super::table::Frame;
use super::{convert, params, prompt, single};
use crate::component::{NodeCall, NodeError, NodeOutput, Param};
use crate::template::{Access, MAX_RENDERED_BYTES, TemplateError, render};
use crate::value::{Message, Value};

pub(super) fn run(call: &NodeCall) -> Result<NodeOutput, NodeError> {
    let text = if params::text(call, "mode", "Parser")? == "Stringify" {
        stringify(call)?
    } else {
        parse(call)?
    };
    Ok(single(call, "parsed_text", Message::of(text)))
}

/// The inputs, in order; several where the input is a list.
fn inputs(call: &NodeCall) -> Result<Vec<Value>, NodeError> {
    match call.params.get("input_data") {
        None | Some(Param::Field(Json::Null)) => Err(NodeError::permanent(
            "field_required",
            format!(
                "field input_data of {} has no value: connect it to another node",
                call.node.display_name
            ),
        )),
        Some(Param::Field(value)) => Ok(vec![Value::Json(value.clone())]),
        Some(Param::Edge(value)) => Ok(vec![value.clone()]),
        Some(Param::Edges(values)) => Ok(values.clone()),
    }
}

fn stringify(call: &NodeCall) -> Result<String, NodeError> {
    let clean = params::boolean(call, "clean_data", false);
    // As Langflow has it.
    if call
        .params
        .get("input_data")
        .is_none_or(|given| *given == Param::Field(Json::Null))
    {
        return Ok("None".to_owned());
    }
    let texts: Result<Vec<String>, NodeError> = inputs(call)?
        .iter()
        .map(|value| convert::to_text(value, clean))
        .collect();
    Ok(texts?.join("\n"))
}

fn parse(call: &NodeCall) -> Result<String, NodeError> {
    let pattern = params::text(call, "pattern", "Text: {text}")?;
    let separator = params::text(call, "sep", "\n")?;
    let given = inputs(call)?;
    let mut lines = Lines::default();
    match given.as_slice() {
        // A table must be alone; a row without the column is an error, not empty text.
        [Value::Table(rows)] => {
            for row in Frame::of(rows)?.records() {
                let line = render(&pattern, Access::Items, &|name| row.get(name).cloned());
                lines.push(call, line, separator.len())?;
            }
        }
        values => {
            for value in values {
                let data = data_of(call, value)?;
                let line = render(&pattern, Access::Items, &|name| Some(item(&data, name)));
                lines.push(call, line, separator.len())?;
            }
        }
    }
    Ok(lines.texts.join(&separator))
}

/// Rendered lines, up to a limit on all of them.
#[derive(Debug, Default)]
struct Lines {
    texts: Vec<String>,
    bytes: usize,
}

impl Lines {
    fn push(
        &mut self,
        call: &NodeCall,
        line: Result<String, TemplateError>,
        separator: usize,
    ) -> Result<(), NodeError> {
        let line = line.map_err(|error| prompt::explain(call, &error))?;
        self.bytes += line.len() + separator;
        if self.bytes > MAX_RENDERED_BYTES {
            return Err(prompt::explain(call, &TemplateError::TooLong));
        }
        self.texts.push(line);
        Ok(())
    }
}

/// A key of the data; empty text where it has none.
fn item(data: &Map<String, Json>, name: &str) -> Json {
    data.get(name)
        .cloned()
        .unwrap_or_else(|| Json::String(String::new()))
}

fn data_of(call: &NodeCall, value: &Value) -> Result<Map<String, Json>, NodeError> {
    match value {
        Value::Data(data) => Ok(data.clone()),
        Value::Message(message) => Ok(message.to_object()),
        Value::Json(Json::Object(object)) => match object.get("data") {
            Some(Json::Object(data)) => Ok(data.clone()),
            _ => Err(unsupported(call, value)),
        },
        Value::Json(_) | Value::Table(_) => Err(unsupported(call, value)),
    }
}

fn unsupported(call: &NodeCall, value: &Value) -> NodeError {
    NodeError::permanent(
        "field_invalid",
        format!(
            "field input_data of {}: a template needs data, a list of data or one table, but is given {}; \
             mode Stringify takes any value",
            call.node.display_name,
            value.type_name()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, edge, field, text_of};
    use super::*;
    use crate::component::Kind;
    use serde_json::json;

    fn parser(params: &[(&str, Param)]) -> Result<String, &'static str> {
        run(&call(Kind::Parser, params))
            .map(|output| text_of(&output, "parsed_text"))
            .map_err(|error| error.code)
    }

    fn row(value: &Json) -> Map<String, Json> {
        value.as_object().cloned().unwrap()
    }

    fn data(value: &Json) -> Value {
        Value::Data(row(value))
    }

    fn table(value: &Json) -> Value {
        Value::Table(value.as_array().unwrap().iter().map(row).collect())
    }

    #[test]
    fn a_template_for_each_row() {
        let cases: [(Param, &str, &str, Result<&str, &str>); 15] = [
            (
                edge(data(&json!({"text": "x"}))),
                "Text: {text}",
                "\n",
                Ok("Text: x"),
            ),
            (edge(data(&json!({"a": 1}))), "Text: {text}|", "\n", Ok("Text: |")),
            (
                edge(data(&json!({"a": {"b": [1, 2]}}))),
                "{a[b][0]}",
                "\n",
                Ok("1"),
            ),
            (
                edge(data(&json!({"a": 4.56789, "b": 42}))),
                "{a:.2f} {b:05d} {b!r}",
                "\n",
                Ok("4.57 00042 42"),
            ),
            (
                Param::Edges(vec![data(&json!({"text": "a"})), data(&json!({"text": "b"}))]),
                "[{text}]",
                "|",
                Ok("[a]|[b]"),
            ),
            (
                edge(table(&json!([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]))),
                "{a}-{b}",
                "; ",
                Ok("1-x; 2-y"),
            ),
            (
                edge(table(&json!([{"a": 1, "b": "x"}, {"b": "y"}]))),
                "{a}-{b}",
                "\n",
                Ok("1.0-x\nnan-y"),
            ),
            (
                edge(table(&json!([{"a": 1}]))),
                "{c}",
                "\n",
                Err("template_variable_missing"),
            ),
            (edge(table(&json!([]))), "{a}", "\n", Ok("")),
            (
                edge(Message::of("hi")),
                "{text}|{sender}|{files}|{error}",
                "\n",
                Ok("hi|None|[]|False"),
            ),
            (field(json!({"data": {"a": 1}})), "{a}", "\n", Ok("1")),
            (field(json!({"a": 1})), "{a}", "\n", Err("field_invalid")),
            (field("text"), "{text}", "\n", Err("field_invalid")),
            (
                edge(data(&json!({"a": null}))),
                "{a:>5}",
                "\n",
                Err("template_invalid"),
            ),
            (edge(data(&json!({}))), "{}", "\n", Err("template_invalid")),
        ];
        for (input, pattern, separator, expected) in cases {
            let result = parser(&[
                ("input_data", input.clone()),
                ("pattern", field(pattern)),
                ("sep", field(separator)),
            ]);
            assert_eq!(
                result.as_deref(),
                expected.as_ref().map(|text| *text),
                "{input:?} {pattern}"
            );
        }
        assert_eq!(parser(&[]), Err("field_required"));
        assert_eq!(
            parser(&[("input_data", edge(data(&json!({"text": "x"}))))]),
            Ok("Text: x".to_owned())
        );
    }

    #[test]
    fn stringify_shows_any_value() {
        let mode = ("mode", field("Stringify"));
        let input = Param::Edges(vec![data(&json!({"a": 1})), data(&json!({"b": 2}))]);
        assert_eq!(
            parser(&[mode.clone(), ("input_data", input)]),
            Ok("```json\n{\n  \"a\": 1\n}\n```\n```json\n{\n  \"b\": 2\n}\n```".to_owned())
        );
        assert_eq!(
            parser(&[mode.clone(), ("input_data", field("a\n\n\n\nb"))]),
            Ok("a\n\nb".to_owned())
        );
        let rows = edge(table(&json!([{"a": null}, {"a": "x"}])));
        let clean = ("clean_data", field(true));
        assert_eq!(
            parser(&[mode, clean, ("input_data", rows)]),
            Ok("| a   |\n|:----|\n| x   |".to_owned())
        );
    }
}
