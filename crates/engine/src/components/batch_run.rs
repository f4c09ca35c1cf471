//! Batch Run: asks a model about each row of a table, and writes what it says into a column.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value as Json, json};

use super::table::Frame;
use super::{ask, language_model, params, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput, Param};
use crate::model::{Chat, Turn, chat};
use crate::template::{python_repr, to_text};
use crate::value::Value;

const OUTPUT: &str = "batch_results";
/// Rows a model is asked about at once.
const AT_ONCE: usize = 16;
const MOST_ROWS: usize = 10_000;

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let Some(Param::Edge(Value::Table(rows))) = call.params.get("df") else {
        return Err(invalid(call, "df", "must be connected to a table"));
    };
    if rows.len() > MOST_ROWS {
        return Err(invalid(
            call,
            "df",
            &format!("has more than {MOST_ROWS} rows: filter it first"),
        ));
    }
    let frame = Frame::of(rows)?;
    let selected = language_model::selected(call, ctx)?;
    let system = params::text(call, "system_message", "")?;
    let ask = |text: String| Chat {
        endpoint: selected.endpoint.clone(),
        turns: conversation(&system, text),
        model: selected.model.clone(),
        options: selected.options.clone(),
        stream: false,
    };
    let questions: Vec<Chat> = texts(call, &frame)?.into_iter().map(ask).collect();
    let answers = stream::iter(questions).map(async |question| chat(ctx, &question, &ctx.model.limits).await);
    let answers: Vec<_> = answers.buffered(AT_ONCE).try_collect().await?;
    let mut output = NodeOutput::default();
    let column =
        params::optional_text(call, "output_column_name")?.unwrap_or_else(|| "model_response".to_owned());
    let noted = params::boolean(call, "enable_metadata", false);
    let mut made = Vec::with_capacity(answers.len());
    for (index, (mut row, reply)) in frame.kept().zip(answers).enumerate() {
        output.usage += reply.usage;
        let response = reply.text.chars().count();
        row.insert(column.clone(), reply.text.into());
        row.insert("batch_index".to_owned(), index.into());
        if noted {
            let input = row.get("text_input").and_then(Json::as_str).unwrap_or_default();
            let about = json!({
                "has_system_message": !system.is_empty(),
                "input_length": input.chars().count(),
                "response_length": response,
                "processing_status": "success",
            });
            row.insert("metadata".to_owned(), about);
        }
        made.push(row);
    }
    if wants(call, OUTPUT) {
        output.values.insert(OUTPUT.to_owned(), Value::Table(made));
    }
    Ok(output)
}

/// The user's message is there even if it is empty: it is a cell.
fn conversation(system: &str, text: String) -> Vec<Turn> {
    let mut turns = ask::conversation(system, "");
    turns.push(Turn::User(text));
    turns
}

fn invalid(call: &NodeCall, field: &str, detail: &str) -> NodeError {
    NodeError::permanent(
        "field_invalid",
        format!("field {field} of {} {detail}", call.node.display_name),
    )
}

/// What is asked about each row: one column's text, or all of them.
fn texts(call: &NodeCall, frame: &Frame) -> Result<Vec<String>, NodeError> {
    let wanted = params::text(call, "column_name", "")?;
    if wanted.is_empty() {
        return Ok(frame.typed_rows().map(|row| sections(&row)).collect());
    }
    let Some(place) = frame.columns().iter().position(|column| *column == wanted) else {
        let known: Vec<&str> = frame.columns().iter().map(String::as_str).take(50).collect();
        let detail = format!(
            "names {wanted:?}, but the table has the columns {}",
            known.join(", ")
        );
        return Err(invalid(call, "column_name", &detail));
    };
    let cell = |row: Vec<(&str, &Json)>| row.get(place).map(|(_, cell)| to_text(cell)).unwrap_or_default();
    Ok(frame.typed_rows().map(cell).collect())
}

/// A row as TOML: a section a column.
fn sections(row: &[(&str, &Json)]) -> String {
    let section = |(column, cell): &(&str, &Json)| {
        let plain = !column.is_empty()
            && column
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let column = if plain {
            (*column).to_owned()
        } else {
            quoted(column)
        };
        format!("[{column}]\nvalue = {}\n", quoted(&to_text(cell)))
    };
    let sections: Vec<String> = row.iter().map(section).collect();
    sections.join("\n")
}

/// Text as the TOML that Python's escapes make.
fn quoted(text: &str) -> String {
    let repr = python_repr(&Json::String(text.to_owned()));
    let inner = &repr[1..repr.len() - 1];
    let inner = if repr.starts_with('\'') {
        inner.replace("\\'", "'")
    } else {
        inner.to_owned()
    };
    format!("\"{}\"", inner.replace('"', "\\\"").replace("\\x", "\\u00"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, context, edge, field};
    use super::*;
    use crate::component::Kind;
    use flowfleet_mock_model as mock;

    fn table() -> Value {
        let rows = json!([
            {"a": 1, "b": "x", "text": "hello"},
            {"a": null, "b": "nan", "text": "é \"q\""},
        ]);
        Value::Table(
            rows.as_array()
                .unwrap()
                .iter()
                .map(|row| row.as_object().cloned().unwrap())
                .collect(),
        )
    }

    async fn ran(params: &[(&str, Param)]) -> Result<(Json, u64), &'static str> {
        let server = mock::spawn(mock::Config::default()).await.unwrap();
        let (ctx, tokens) = context(&[("OPENAI_API_KEY", "sk"), ("OPENAI_BASE_URL", &server.base_url())]);
        let model = field(json!([{"name": "gpt-4o-mini", "provider": "OpenAI"}]));
        let mut all = vec![("model", model), ("df", edge(table()))];
        all.extend_from_slice(params);
        let output = run(&call(Kind::BatchRun, &all), &ctx)
            .await
            .map_err(|error| error.code)?;
        assert!(tokens.lock().unwrap().is_empty(), "rows are not streamed");
        assert_eq!(server.requests(), 2);
        let Value::Table(rows) = &output.values[OUTPUT] else {
            panic!("{output:?}")
        };
        Ok((json!(rows), output.usage.input_tokens))
    }

    #[tokio::test]
    async fn each_row_is_asked_about() {
        let params = [
            ("column_name", field("text")),
            ("system_message", field("sys")),
            ("output_column_name", field("b")),
            ("enable_metadata", field(true)),
        ];
        let (rows, tokens) = ran(&params).await.unwrap();
        let metadata = |length: u64| {
            json!({
                "has_system_message": true, "input_length": 0, "response_length": length, "processing_status": "success",
            })
        };
        assert_eq!(
            rows,
            json!([
                {"a": 1.0, "b": "echo: hello", "text": "hello", "batch_index": 0, "metadata": metadata(11)},
                {"a": null, "b": "echo: é \"q\"", "text": "é \"q\"", "batch_index": 1, "metadata": metadata(11)},
            ])
        );
        assert_eq!(tokens, 5);
    }

    #[tokio::test]
    async fn without_a_column_all_of_them_count() {
        let (rows, _) = ran(&[]).await.unwrap();
        let said = "echo: [a]\nvalue = \"nan\"\n\n[b]\nvalue = \"nan\"\n\n[text]\nvalue = \"é \\\"q\\\"\"\n";
        assert_eq!(rows[1]["model_response"], said);
        assert_eq!(
            ran(&[("column_name", field("zz"))]).await.unwrap_err(),
            "field_invalid"
        );
        assert_eq!(ran(&[("df", field(""))]).await.unwrap_err(), "field_invalid");
    }

    #[test]
    fn text_in_sections() {
        for (text, expected) in [
            ("a'b", r#""a'b""#),
            ("a'b\"c", r#""a'b\"c""#),
            ("l\nm\\n", r#""l\nm\\n""#),
            ("\u{1b}", r#""\u001b""#),
        ] {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
        assert_eq!(
            sections(&[("a b", &json!(1.5)), ("c-d", &json!(true))]),
            "[\"a b\"]\nvalue = \"1.5\"\n\n[c-d]\nvalue = \"True\"\n"
        );
    }
}
