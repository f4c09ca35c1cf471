//! Structured Output: objects of a given shape, which a model finds in text.
//!
//! The model is made to call a tool whose arguments have that shape. A server that knows no tools is asked for JSON
//! instead. An answer of another shape goes back to the model with what is wrong with it, some times.

pub(super) mod schema;

use serde_json::{Map, Value as Json, json};

use super::{ask, language_model, params, wants};
use crate::component::{NodeCall, NodeContext, NodeError, NodeOutput, Usage};
use crate::model::{Chat, Reply, Shape, ToolSpec, Turn, chat};
use crate::value::Value;

use schema::Schema;

const DATA: &str = "structured_output";
const TABLE: &str = "dataframe_output";
/// How often a model may correct itself.
const CORRECTIONS: usize = 2;

type Objects = Vec<Map<String, Json>>;

pub(super) async fn run(call: &NodeCall, ctx: &NodeContext) -> Result<NodeOutput, NodeError> {
    let rows = match params::json(call, "output_schema") {
        Some(Json::Array(rows)) => rows.as_slice(),
        _ => &[],
    };
    let schema = Schema::of(rows).map_err(|wrong| {
        NodeError::permanent(
            "field_invalid",
            format!("field output_schema of {} {wrong}", call.node.display_name),
        )
    })?;
    let name = params::optional_text(call, "schema_name")?
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "OutputModel".to_owned());
    let selected = language_model::selected(call, ctx)?;
    let system = params::text(call, "system_prompt", "")?;
    let input = params::text(call, "input_value", "")?;
    if system.is_empty() && input.is_empty() {
        return Err(NodeError::permanent(
            "field_required",
            format!(
                "field input_value of {} has no value: the message for the model is empty",
                call.node.display_name
            ),
        ));
    }
    let mut question = Chat {
        turns: ask::conversation(&system, &input),
        endpoint: selected.endpoint,
        options: selected.options,
        model: selected.model,
        stream: false,
    };
    let mut usage = Usage::default();
    let objects = match by_tool(ctx, &mut question, (&schema, &name), &mut usage).await {
        Err(error) if error.code == "model_bad_request" => {
            tracing::debug!("the model server refuses tools; asking for JSON");
            as_json(ctx, &mut question, (&schema, &name), &mut usage).await?
        }
        made => made?,
    };
    Ok(output(call, objects, usage))
}

fn output(call: &NodeCall, mut objects: Objects, usage: Usage) -> NodeOutput {
    let mut output = NodeOutput {
        usage,
        ..NodeOutput::default()
    };
    if wants(call, TABLE) {
        output
            .values
            .insert(TABLE.to_owned(), Value::Table(objects.clone()));
    }
    if wants(call, DATA) {
        let data = match objects.len() {
            1 => objects.remove(0),
            _ => Map::from_iter([("results".to_owned(), json!(objects))]),
        };
        output.values.insert(DATA.to_owned(), Value::Data(data));
    }
    output
}

/// Makes the model call a tool, and correct the call while it does not fit.
async fn by_tool(
    ctx: &NodeContext,
    question: &mut Chat,
    (schema, name): (&Schema, &str),
    usage: &mut Usage,
) -> Result<Objects, NodeError> {
    let (plain, first) = (question.options.clone(), question.turns.clone());
    question.options.tools = vec![ToolSpec {
        name: name.to_owned(),
        description: format!("A list of {name}."),
        parameters: schema.list(name, false),
    }];
    question.options.must_call = Some(name.to_owned());
    let mut wrong = String::new();
    for _ in 0..=CORRECTIONS {
        let reply = chat(ctx, question, &ctx.model.limits).await;
        // Another way of asking starts from the beginning.
        let reply =
            reply.inspect_err(|_| (question.options, question.turns) = (plain.clone(), first.clone()))?;
        *usage += reply.usage;
        match called(&reply, name, schema) {
            Ok(objects) => return Ok(objects),
            Err(Misfit::Silent) => return Err(unfit("it did not call the tool")),
            Err(Misfit::Wrong(detail)) => wrong = detail,
        }
        correct(question, &reply, &wrong);
    }
    Err(unfit(&wrong))
}

/// Why an answer is not what was asked for.
enum Misfit {
    /// There is no call to correct.
    Silent,
    Wrong(String),
}

fn called(reply: &Reply, name: &str, schema: &Schema) -> Result<Objects, Misfit> {
    let readable = |text: &str| serde_json::from_str::<Map<String, Json>>(text).ok();
    let mut calls = reply
        .tool_calls
        .iter()
        .filter_map(|call| Some((call, readable(&call.arguments)?)));
    let (call, arguments) = calls.next().ok_or(Misfit::Silent)?;
    if call.name != name {
        return Err(Misfit::Wrong(format!("{} is no tool; call {name}", call.name)));
    }
    schema.objects(&arguments).map_err(Misfit::Wrong)
}

/// Tells the model what is wrong with its call.
fn correct(question: &mut Chat, reply: &Reply, wrong: &str) {
    question.turns.push(Turn::Assistant {
        text: String::new(),
        calls: reply.tool_calls.clone(),
        blocks: Vec::new(),
    });
    for call in &reply.tool_calls {
        let content = format!(
            "The arguments do not fit the schema: {wrong}. Call it again with all of them corrected."
        );
        question.turns.push(Turn::Tool {
            id: call.id.clone(),
            content,
            failed: true,
        });
    }
}

/// Asks a server that knows no tools.
async fn as_json(
    ctx: &NodeContext,
    question: &mut Chat,
    (schema, name): (&Schema, &str),
    usage: &mut Usage,
) -> Result<Objects, NodeError> {
    question.options.shape = Some(Shape {
        name: name.to_owned(),
        schema: schema.list(name, false),
        strict: schema.list(name, true),
    });
    let reply = chat(ctx, question, &ctx.model.limits).await?;
    *usage += reply.usage;
    let answer: Map<String, Json> = serde_json::from_str(&reply.text)
        .map_err(|error| unfit(&format!("it is no JSON object ({error})")))?;
    schema.objects(&answer).map_err(|wrong| unfit(&wrong))
}

fn unfit(wrong: &str) -> NodeError {
    NodeError {
        code: "model_answer_unfit",
        message: format!(
            "the model's answer does not fit the schema: {wrong}; try again, or choose another model"
        ),
        retryable: true,
    }
}

#[cfg(test)]
mod tests;
