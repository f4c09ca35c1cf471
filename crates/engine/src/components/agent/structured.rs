//! An agent's structured response: objects of a given shape, instead of text.
//!
//! Without tools the model server is told the shape. With tools the agent works as always, is told the shape in its
//! instructions, and the objects are looked for in what it says.

use serde_json::{Map, Value as Json, json};

use super::{Tool, converse, instructions, turns};
use crate::component::{NodeCall, NodeContext, NodeError, Usage};
use crate::components::structured_output::schema::Schema;
use crate::components::{ask, dumps, params};
use crate::model::{Chat, Shape, Turn, chat};

pub(super) const OUTPUT: &str = "structured_response";
const ABOUT: &str = "A list of extracted records.";
const ITEMS: &str = "Every record that matches the schema.";
const ORDER: &str = "You must respond ONLY with a JSON object matching this schema. Do not include explanations, markdown, or \
                     any text outside the JSON.\nSchema:\n";
/// Places in a text where an object or a list may begin that are looked at.
const MOST_PLACES: usize = 10_000;

type Data = Map<String, Json>;

/// The data, and what it cost.
pub(super) async fn respond(
    call: &NodeCall,
    ctx: &NodeContext,
    tools: &[Tool],
    mut question: Chat,
) -> Result<(Data, Usage), NodeError> {
    let input = params::message(call, "input_value")?.unwrap_or_default().text;
    let rows = match params::json(call, "output_schema") {
        Some(Json::Array(rows)) if !rows.is_empty() => rows.as_slice(),
        _ => return Ok((data(json!({"content": input})), Usage::default())),
    };
    let schema = match Schema::of(rows) {
        Ok(schema) => schema,
        Err(wrong) => return Ok((failed(&format!("output_schema {wrong}")), Usage::default())),
    };
    let list = schema.free_name("objects");
    let instructions = instructions(call, ctx, &question.model)?;
    if tools.is_empty() {
        let shape = |strict| schema.container("OutputModel", (&list, ABOUT, ITEMS), strict);
        question.options.shape = Some(Shape {
            name: "OutputModel".to_owned(),
            schema: shape(false),
            strict: shape(true),
        });
        question.turns = ask::conversation(&instructions, "");
        question.turns.push(Turn::User(input));
        let reply = chat(ctx, &question, &ctx.model.limits).await?;
        let found = serde_json::from_str(&reply.text).map_err(|error| error.to_string());
        let found = found.and_then(|answer: Json| native(&schema, &list, &answer));
        return Ok((found.unwrap_or_else(|error| failed(&error)), reply.usage));
    }
    let shape = schema.container("OutputModel", (&list, ABOUT, ITEMS), false);
    let format = params::text(call, "format_instructions", "")?;
    let format = (!format.is_empty()).then(|| format!("Format instructions: {format}"));
    let told = Some(instructions).filter(|instructions| !instructions.is_empty());
    let order = format!("{ORDER}{}", dumps::python(&shape));
    let parts: Vec<String> = told.into_iter().chain(format).chain([order]).collect();
    question.turns = turns(call, ctx, parts.join("\n\n")).await?;
    let (said, usage) = converse(call, ctx, tools, &mut question).await?;
    Ok((found_in(&schema, &list, &said.text), usage))
}

fn data(value: Json) -> Data {
    match value {
        Json::Object(data) => data,
        _ => Data::new(),
    }
}

fn failed(error: &str) -> Data {
    data(json!({"content": "", "error": error}))
}

/// What a server that was told the shape says.
fn native(schema: &Schema, list: &str, answer: &Json) -> Result<Data, String> {
    match answer.get(list) {
        Some(Json::Array(items)) if !items.is_empty() => {
            let objects = items.iter().enumerate().map(|(place, item)| {
                let object = schema.object(item);
                object.map_err(|wrong| format!("{list}.{place}{wrong}"))
            });
            Ok(one_or_all(objects.collect::<Result<_, _>>()?))
        }
        _ => Err(format!("{list}: must be a list with one item at least")),
    }
}

/// The objects in a text; those that do not fit say so.
fn found_in(schema: &Schema, list: &str, text: &str) -> Data {
    let items = match json_in(text) {
        None => return data(json!({"content": text, "error": "Try setting an output schema"})),
        Some(Json::Array(items)) => items,
        Some(object) => match object.get(list) {
            Some(Json::Array(items)) => items.clone(),
            _ => vec![object],
        },
    };
    let read = |item: Json| match schema.object(&item) {
        Ok(object) => object,
        Err(wrong) => {
            let wrong = wrong.trim_start_matches(['.', ':', ' ']);
            data(json!({"data": item, "validation_error": wrong}))
        }
    };
    one_or_all(items.into_iter().map(read).collect())
}

fn one_or_all(mut objects: Vec<Data>) -> Data {
    match objects.len() {
        1 => objects.remove(0),
        _ => data(json!({"results": objects})),
    }
}

/// The text itself, or the first object or list in it.
fn json_in(text: &str) -> Option<Json> {
    let whole: Option<Json> = serde_json::from_str(text).ok();
    if let Some(found) = whole.filter(|found| found.is_object() || found.is_array()) {
        return Some(found);
    }
    text.match_indices(['{', '['])
        .take(MOST_PLACES)
        .find_map(|(place, _)| {
            let mut values = serde_json::Deserializer::from_str(&text[place..]).into_iter::<Json>();
            values.next()?.ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::of(&[
            json!({"name": "a", "type": "str", "description": "x"}),
            json!({"name": "n", "type": "int", "description": "y", "multiple": "True"}),
        ])
        .unwrap()
    }

    /// Each row is what lfx 1.13 makes of the text, but for the words of errors.
    #[test]
    fn objects_are_found_in_text() {
        let (one, two) = (json!({"a": "x", "n": [1]}), json!({"a": "y", "n": []}));
        for (text, expected) in [
            (json!({"objects": [one]}).to_string(), one.clone()),
            (
                format!("So: {} {{}}", json!({"objects": [one, two]})),
                json!({"results": [one, two]}),
            ),
            (one.to_string(), one.clone()),
            (
                format!("```json\n{}\n```", json!([one, two])),
                json!({"results": [one, two]}),
            ),
            (json!({"a": "x", "n": ["1"], "more": 1}).to_string(), one),
            ("[]".to_owned(), json!({"results": []})),
            (
                "text [only".to_owned(),
                json!({"content": "text [only", "error": "Try setting an output schema"}),
            ),
            (
                "5".to_owned(),
                json!({"content": "5", "error": "Try setting an output schema"}),
            ),
            (
                json!({"a": "x"}).to_string(),
                json!({"data": {"a": "x"}, "validation_error": "n: is missing"}),
            ),
        ] {
            assert_eq!(
                Json::Object(found_in(&schema(), "objects", &text)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_told_server_answers_with_all() {
        let one = json!({"a": "x", "n": [1]});
        let read = |answer: &Json| native(&schema(), "objects", answer).map(Json::Object);
        assert_eq!(read(&json!({"objects": [one]})), Ok(one.clone()));
        assert_eq!(
            read(&json!({"objects": [one, one]})),
            Ok(json!({"results": [one, one]}))
        );
        for wrong in [
            json!({}),
            json!({"objects": []}),
            json!({"objects": [{}]}),
            json!([one]),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hostile_texts_are_searched_in_time() {
        let brackets = "[".repeat(1 << 20);
        assert_eq!(json_in(&brackets), None);
        assert_eq!(json_in(&"{\"a\":".repeat(100_000)), None);
    }
}
